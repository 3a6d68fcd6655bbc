"""A second model looks on: what it disagrees with is kept, and nothing it does can hold up a frame."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.station import end, plc_on, run_line, start_edge, wait_for, write_station
from benchmarks.tiny_bundle import write_bundle
from edge.ports import Moment
from edge.recorder import Evidence
from edge.shadow import Shadow
from edge.spool import Spool
from inspection.errors import ModelError
from inspection.events import Action, Judged, Keep, SetPermit
from inspection.messages import Topics
from inspection.policy import ClassPolicy, Policy
from inspection.selection import Budget
from inspection.types import Call, Code, Finding, Frame, Prediction, Stages

POLICY = Policy((ClassPolicy("red", 0.3, 0.7),))
RUN = SetPermit(True, Code.OK, 0, 0, 0, changed=False)
STOP = replace(RUN, run=False)
IMAGE = np.zeros((64, 64, 3), np.uint8)


@dataclass
class Second:
    """A model that says what it is told to, when it is let."""

    score: float
    bundle_id: str = "second-1.0.0"
    label_book: str = "red@1"
    go: threading.Event = field(default_factory=threading.Event)
    fails: bool = False

    def fit(self, frame: Frame) -> None:
        return None

    def begin_part(self, now_ns: int) -> None: ...

    def infer(self, frame: Frame, fitted: object = None) -> Prediction:
        assert self.go.wait(10)
        if self.fails:
            raise ModelError("broken")
        heat = np.zeros((1, 16, 16), np.uint8)
        return Prediction(("red",), {"red": self.score}, heat, np.zeros((2, 3)), ())


def moment(frame_id: int, score: float = 0.1, camera: str = "cam1") -> Moment:
    frame = Frame(camera, frame_id, frame_id, 0, IMAGE, 10.0)
    event = Judged(camera, frame_id, frame_id, frame_id, {"red": score}, (Finding("red", score, (0, 0, 1, 1), 5, 1),))
    return Moment(event, frame, None, Stages(1, 1, 1, 1), "red-1.0.0", POLICY.id, "red@1")


def shadow(second: Second, every: int = 1) -> tuple[Shadow, list[Keep]]:
    kept: list[Keep] = []
    made = Shadow(second, POLICY, lambda: POLICY, lambda keep, _: kept.append(keep), every)
    made.start()
    return made, kept


def look(made: Shadow, one: Moment, *actions: Action) -> None:
    """Offer it and wait until the shadow is done."""
    made.offer(one, [RUN, *actions])
    wait_for(lambda: made._waiting is None)


@pytest.mark.parametrize(
    ("ours", "theirs", "asked"),
    [(0.1, 0.9, True), (0.9, 0.1, True), (0.1, 0.5, True), (0.1, 0.2, False), (0.9, 0.8, False)],
)
def test_where_two_models_disagree_people_are_asked(ours: float, theirs: float, asked: bool) -> None:
    second = Second(theirs)
    second.go.set()
    made, kept = shadow(second)
    look(made, moment(5, ours))
    made.close()
    call = Call.PASS if ours < 0.3 else Call.DEFECT
    assert kept == ([Keep("cam1", 5, call, ("disagreement",))] if asked else [])
    assert made.seen["judged"] == 1


def test_every_nth_frame_of_each_camera_while_the_line_runs() -> None:
    second = Second(0.9)
    second.go.set()
    made, kept = shadow(second, every=3)
    for k in range(9):
        for camera in ("a", "b"):
            look(made, moment(k, camera=camera))
    for k in range(9, 20):
        made.offer(moment(k, camera="a"), [STOP])
    made.close()
    assert [(keep.camera, keep.frame_id) for keep in kept] == [(c, k) for k in (2, 5, 8) for c in ("a", "b")]


def test_what_is_kept_already_is_not_kept_twice() -> None:
    second = Second(0.9)
    second.go.set()
    made, kept = shadow(second)
    look(made, moment(5), Keep("cam1", 5, Call.PASS, ("audit",)))
    made.close()
    assert kept == []
    assert made.seen["disagreed"] == 1


def test_a_shadow_that_hangs_or_fails_holds_up_nothing() -> None:
    second = Second(0.9)
    made, kept = shadow(second)
    for k in range(1000):
        made.offer(moment(k), [RUN])  # the second model answers to none of them before the last has been offered
    assert made.seen["busy"] == 999, "one waits, none queue up"
    second.fails = True
    second.go.set()
    wait_for(lambda: made._waiting is None)
    assert made.seen["failed"] == 1
    second.fails = False
    look(made, moment(2000))
    made.close()
    assert [keep.frame_id for keep in kept] == [2000]


def test_the_budget_bounds_what_is_sent_and_never_a_halt_or_an_audit(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 100 * 2**20)
    budget = Budget(10)
    evidence = Evidence(spool, Topics("a", "b", "c"), 1, budget=budget)
    whys = ["uncertain"] * 10 + ["halt"] * 10 + ["audit"] * 10 + ["disagreement"] * 10
    for k, why in enumerate(whys):
        evidence.keep(Keep("cam1", k, Call.PASS, (why,), int(why == "halt")), moment(k))
    spool.flush()
    kept = len(spool.to_upload(100))
    spool.close()
    assert budget.refused == {"margin": 9, "disagreement": 9, "audit": 0}
    assert kept == 22


@pytest.mark.broker
def test_an_edge_with_a_shadow_runs_its_line_and_finds_what_the_other_would_have_called(
    own_mosquitto: int, tmp_path: Path
) -> None:
    stricter = write_bundle(tmp_path, "2.0.0", lo=0.001, hi=0.002)
    config = write_station(
        tmp_path,
        own_mosquitto,
        pictures=[0.0] * 10 + [0.3] * 10,
        policy="k: 2, n: 3, classes: {red: {limit_mm: 1.5}}",
        more=f"shadow: {{bundle: {stricter}, every: 5}}",
    )
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            log = tmp_path / "edge.log"
            wait_for(lambda: "models disagree" in log.read_text(), what="a disagreement")
            assert plc.view()["state"] == "RUNNING"
        finally:
            assert end(edge) == 0
