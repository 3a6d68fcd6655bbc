"""What a camera's thread does to a frame beforehand changes when it is judged, never how."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.station import wait_for
from benchmarks.tiny_bundle import picture, write_bundle
from edge import runner
from edge.bundle_store import read_bundle
from edge.cameras.pump import CameraPump
from edge.inbox import Arrival, Inbox
from edge.model_onnx import OnnxModel
from edge.ports import Moment, Ready
from edge.preparation import Preparation
from inspection.decision import LineGuard
from inspection.errors import CameraError
from inspection.events import Action, CannotJudge, Judged
from inspection.fitness import Fitness, FitnessLimits
from inspection.policy import ClassPolicy, Policy
from inspection.types import Frame, Image

POLICY = Policy(classes=(ClassPolicy("red", 0.3, 0.7, limit_mm=1.5),))


class Counting(OnnxModel):
    """Counts where frames were fitted."""

    fitted_before = fitted_itself = 0

    def infer(self, frame: Frame, fitted: Image | None = None):  # type: ignore[no-untyped-def]
        if fitted is None:
            self.fitted_itself += 1
        else:
            self.fitted_before += 1
        return super().infer(frame, fitted)


class Line:
    """Implements `ports.LineControl`."""

    def carry_out(self, action: Action, moment: Moment) -> None: ...


class Kept:
    """Implements `ports.Recorder`."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        self.moments.append(moment)


def frame(number: int, image: Image | None = None, camera: str = "cam1") -> Frame:
    return Frame(camera, number, time.monotonic_ns(), 0, picture(4.0, seed=number) if image is None else image, 10.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Counting, Counting]:
    folder = tmp_path_factory.mktemp("models")
    return tuple(Counting(read_bundle(write_bundle(folder, v))) for v in ("1.0.0", "2.0.0"))  # type: ignore[return-value]


def judged(model: OnnxModel, arrivals: Iterable[Arrival]) -> list[Moment]:
    kept = Kept()
    runner.run(arrivals, model, LineGuard(POLICY, ["cam1"], 1, time.monotonic_ns()), Line(), (kept,))
    return kept.moments


def test_why_a_model_cannot_judge_is_said_once_for_each_reason(
    models: tuple[Counting, Counting], capsys: pytest.CaptureFixture[str]
) -> None:
    """Thirty lines a second filled the log for as long as a scale was wrong."""
    shown = [replace(frame(k), px_per_mm=1.0) for k in range(5)]
    shown += [frame(5), *(replace(frame(k), px_per_mm=1.0) for k in (6, 7)), replace(frame(8), px_per_mm=1.1)]
    seen = judged(models[0], shown)
    assert sum(isinstance(moment.event, CannotJudge) for moment in seen) == 8
    assert capsys.readouterr().out.count("inference failed") == 3


def test_a_prepared_frame_is_judged_as_any_other_and_fitted_once(models: tuple[Counting, Counting]) -> None:
    model, _ = models
    shown = frame(1)
    before = model.fitted_before

    (plain,) = judged(model, [shown])
    (ready,) = judged(model, [Preparation({}, lambda: model).ready(shown)])

    assert isinstance(ready.event, Judged)
    assert ready.event.scores == plain.event.scores  # type: ignore[union-attr]
    assert ready.event.findings == plain.event.findings  # type: ignore[union-attr]
    assert ready.frame is shown
    assert model.fitted_before == before + 1


def test_what_was_fitted_for_another_model_is_fitted_anew(models: tuple[Counting, Counting]) -> None:
    old, new = models
    ready = Preparation({}, lambda: old).ready(frame(1))
    before = new.fitted_itself

    (moment,) = judged(new, [ready])

    assert isinstance(moment.event, Judged)
    assert new.fitted_itself == before + 1


def test_an_unfit_picture_is_not_fitted_and_not_judged(models: tuple[Counting, Counting]) -> None:
    dark = frame(1, np.zeros((512, 640, 3), np.uint8))
    prepare = Preparation({"cam1": Fitness(FitnessLimits(dark_frames=2))}, lambda: models[0])

    pending, unfit = prepare.ready(dark), prepare.ready(dark)

    assert pending.pending
    assert not pending.unfit
    assert pending.fitted is None
    assert unfit.unfit.startswith("dark")
    first, second = judged(models[0], [pending, unfit])
    assert first.prediction is None
    assert not isinstance(first.event, Judged)
    assert isinstance(second.event, CannotJudge)
    assert second.event.why.startswith("dark")


def test_each_camera_has_a_fitness_of_its_own(models: tuple[Counting, Counting]) -> None:
    prepare = Preparation({}, lambda: models[0])
    still = picture(0.0)
    said = [prepare.ready(frame(k, still, camera)).unfit for k in range(4) for camera in ("a", "b")]
    assert not any(said), "four alike are not yet a frozen camera"
    assert prepare.ready(frame(9, still, "a")).unfit.startswith("frozen")


def test_of_prepared_frames_too_the_oldest_of_the_same_camera_goes() -> None:
    inbox = Inbox(max_frames=2)
    for number in range(4):
        inbox.put(Ready(frame(number)))
    inbox.put(Ready(frame(7, camera="cam2")))
    assert (inbox.waiting("cam1"), inbox.waiting("cam2"), inbox.dropped) == (2, 1, 2)
    taken = iter(inbox)
    assert [next(taken).frame.frame_id for _ in range(3)] == [2, 3, 7]  # type: ignore[union-attr]


class Endless:
    """Implements `ports.Camera`."""

    name = "cam1"

    def __init__(self) -> None:
        self.closed = threading.Event()
        self._number = 0

    def read(self) -> Frame:
        self.closed.wait(0.01)
        self._number += 1
        return frame(self._number)

    def close(self) -> None:
        self.closed.set()


def test_a_preparation_that_fails_is_a_camera_that_failed_and_is_opened_again() -> None:
    inbox, failed = Inbox(), [True]

    def view(shown: Frame) -> tuple[Frame]:
        if failed.pop() if failed else False:
            raise ZeroDivisionError("a fault of ours")
        return (shown,)

    pump = CameraPump("cam1", Endless, inbox, view)
    pump.start()
    try:
        wait_for(lambda: inbox.waiting("cam1"), 5, "frames after the failure")
        assert pump.failures == 1
    finally:
        pump.close()


class Stuck(Endless):
    """The same four buffers after every opening, and a failure after each round of ten."""

    def __init__(self, ring: list[Image]) -> None:
        super().__init__()
        self._ring = ring

    def read(self) -> Frame:
        shown = super().read()
        if shown.frame_id > 10:
            raise CameraError("unplugged")
        return replace(shown, image=self._ring[shown.frame_id % len(self._ring)])


def test_a_camera_that_is_opened_again_and_shows_its_old_pictures_is_still_stuck(
    models: tuple[Counting, Counting],
) -> None:
    """A reopening that has not helped must not give it the frames of a new start."""
    ring, seen = [picture(0.0, seed=k) for k in range(4)], []
    prepare = Preparation({}, lambda: models[0])

    def view(shown: Frame) -> tuple[Ready]:
        seen.append(prepare.ready(shown))
        return (seen[-1],)

    pump = CameraPump("cam1", lambda: Stuck(ring), Inbox(), view)
    pump.start()
    try:
        wait_for(lambda: len(seen) > 25, 5, "frames after two reopenings")
        assert pump.failures >= 2
        assert [bool(ready.unfit) for ready in seen[:26]] == [False] * 7 + [True] * 19
    finally:
        pump.close()
