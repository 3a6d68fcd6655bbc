"""Learning a view with the command, and the frame path that then uses it; regions as eyes of the guard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.station import write_station
from edge import runner
from edge.cameras.framing import Framing
from edge.cameras.views import fitness_of, learn, limits_of, view_path
from edge.cli import app
from edge.config import CameraConfig
from edge.config_file import load
from edge.inbox import Arrival
from edge.ports import Moment
from inspection.decision import LineGuard
from inspection.errors import CameraError, InputError
from inspection.events import Action, SetPermit
from inspection.policy import ClassPolicy, Policy
from inspection.types import Frame, Prediction

POLICY = Policy((ClassPolicy("red", 0.3, 0.7),), max_silence_ms=60_000)


class Clear:
    """Implements `ports.Model`: finds nothing."""

    bundle_id, label_book = "clear-1.0.0", "clear@1"

    def fit(self, frame: Frame) -> None:
        return None

    def begin_part(self, now_ns: int) -> None: ...

    def infer(self, frame: Frame, fitted: object = None) -> Prediction:
        return Prediction(("red",), {"red": 0.0}, np.zeros((1, 1, 1), np.uint8), np.eye(2, 3), ())


class Told:
    """Implements `ports.LineControl`."""

    run = False

    def carry_out(self, action: Action, moment: Moment) -> None:
        if isinstance(action, SetPermit):
            self.run = action.run


def textured(seed: int, folder: Path, count: int = 40) -> Path:
    """Pictures of a moving texture below a fixture that stands still."""
    rng = np.random.default_rng(seed)
    strip = cv2.GaussianBlur(rng.normal(0, 1, (256, 320 + 8 * count)), (0, 0), 2)
    strip = 120 + 25 * strip / strip.std()
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        picture = strip[:, 8 * k : 8 * k + 320].copy()
        picture[:40, 100:140] = 30
        noisy = picture[..., None] + rng.normal(0, 2, (256, 320, 3))
        cv2.imwrite(str(folder / f"{k:03d}.png"), np.clip(noisy, 0, 255).astype(np.uint8))
    return folder


def permit_after(config: CameraConfig, state_dir: Path, images: list[np.ndarray]) -> bool:
    """Whether the permit stands after these pictures went through framing, fitness and guard."""
    fitness = {eye: fitness_of(state_dir, config, eye) for eye in config.eyes}
    guard, told, framing = LineGuard(POLICY, list(fitness), 1, time.monotonic_ns()), Told(), Framing(config)

    def feed() -> Iterator[Arrival]:
        for k, image in enumerate(images):
            yield from framing.frames(Frame(config.name, k, time.monotonic_ns(), 0, image, 10.0))

    runner.run(feed(), Clear(), guard, told, (), fitness)
    return told.run


def test_a_learned_view_is_kept_and_stops_the_line_when_the_camera_blurs(tmp_path: Path) -> None:
    pictures = textured(1, tmp_path / "pictures")
    config_path = write_station(tmp_path, 1883, fps=300)
    told = CliRunner().invoke(app, ["learn-view", str(config_path), "--frames", "120"])
    assert told.exit_code == 0, told.output
    config = load(config_path)
    assert view_path(config.state_dir, "cam1").is_file()
    images = [np.asarray(cv2.imread(str(path)), np.uint8) for path in sorted(pictures.iterdir())]
    assert permit_after(config.cameras[0], config.state_dir, images)
    soft = [cv2.GaussianBlur(image, (0, 0), 4) for image in images]
    assert not permit_after(config.cameras[0], config.state_dir, [*images, *soft])
    assert permit_after(config.cameras[0], tmp_path / "no state", [*images, *soft]), "without a view it cannot know"
    file = view_path(config.state_dir, "cam1")
    file.write_bytes(file.read_bytes().replace(b'"sharpness_low": ', b'"sharpness_low": -1'))
    with pytest.raises(InputError, match="learn it again"):
        permit_after(config.cameras[0], config.state_dir, images)


def test_each_region_is_an_eye_and_one_that_cannot_see_stops_the_line(tmp_path: Path) -> None:
    regions = [{"name": "a", "x": 0, "y": 0, "w": 160, "h": 256}, {"name": "b", "x": 160, "y": 0, "w": 160, "h": 256}]
    config = CameraConfig.model_validate({"type": "simulated", "regions": regions})
    rng = np.random.default_rng(0)
    images = [rng.integers(60, 180, (256, 320, 3), dtype=np.uint8) for _ in range(8)]
    assert permit_after(config, tmp_path, images)
    dark = [image.copy() for image in images]
    for image in dark:
        image[:, 160:] = 3
    assert not permit_after(config, tmp_path, [*images, *dark[:1]])


def test_a_slow_camera_needs_fewer_frames_for_as_long() -> None:
    def lasting(fps: float, **set_by_hand: int) -> int:
        values = {"type": "opencv", "fps": fps, "fitness": set_by_hand}
        return limits_of(CameraConfig.model_validate(values)).lasting_frames

    assert [lasting(fps) for fps in (30, 10, 100)] == [12, 4, 12]
    assert lasting(10, lasting_frames=20) == 20


@pytest.mark.parametrize("kind", ["opencv", "genicam", "pylon", "folder", "video", "simulated"])
def test_a_live_camera_that_shows_two_pictures_in_turn_stops_the_line_and_looped_files_do_not(
    kind: str, tmp_path: Path
) -> None:
    live = kind in ("opencv", "genicam", "pylon")
    rng = np.random.default_rng(0)
    turn = [rng.integers(60, 180, (256, 320, 3), dtype=np.uint8) for _ in range(2)] * 10
    assert permit_after(CameraConfig.model_validate({"type": kind}), tmp_path, turn) is not live
    by_hand = {"type": kind, "fitness": {"frozen_within": 1 if live else 16}}
    assert permit_after(CameraConfig.model_validate(by_hand), tmp_path, turn) is live, "what was set by hand holds"


def test_no_view_is_learned_from_old_pictures() -> None:
    ring = [np.random.default_rng(k).integers(60, 180, (256, 320, 3), dtype=np.uint8) for k in range(4)]

    class Stuck:
        """Implements `ports.Camera`."""

        name, shown = "cam1", 0

        def read(self) -> Frame:
            self.shown += 1
            return Frame("cam1", self.shown, time.monotonic_ns(), 0, ring[self.shown % 4], 10.0)

        def close(self) -> None: ...

    with pytest.raises(CameraError, match="gave 7 pictures that can be judged"):
        list(learn(Stuck(), CameraConfig(type="opencv"), 100))
