"""Each camera's reference view: learned from its pictures, kept in the state folder, read when the edge starts."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from edge.cameras.framing import Framing
from edge.config import LIVE, CameraConfig
from edge.ports import Camera
from inspection.errors import CameraError
from inspection.fitness import Fitness, FitnessLimits, learned
from inspection.reference_view import ReferenceView, ViewLearner, parse_view
from inspection.types import Frame

LASTING_S = 0.4
"""What FitnessLimits' defaults of 12 frames are at 30 frames/s; a slower camera needs fewer frames for as long."""
LEAST_LASTING = 3


def view_path(state_dir: Path, eye: str) -> Path:
    return state_dir / "views" / f"{eye.replace('/', '.')}.json"


def read_view(state_dir: Path, eye: str) -> ReferenceView | None:
    """None when none was learned. InputError when the file is not what was learned."""
    path = view_path(state_dir, eye)
    return parse_view(path.read_bytes(), path) if path.is_file() else None


def view_id(state_dir: Path, eye: str) -> str:
    view = read_view(state_dir, eye)
    return f"{view.id} of {view.created_utc}" if view else "none: learn it with haltline edge learn-view"


def fitness_of(state_dir: Path, config: CameraConfig, eye: str) -> Fitness:
    return Fitness(limits_of(config), read_view(state_dir, eye))


def limits_of(config: CameraConfig) -> FitnessLimits:
    """Limits in frames that nobody set, for a camera of another rate, or one whose few pictures may come in a loop."""
    frames = max(LEAST_LASTING, min(12, round(LASTING_S * config.fps)))
    fitting = {"lasting_frames": frames, "smooth_frames": frames}
    if config.type not in LIVE:
        fitting["frozen_within"] = 1
    unset = fitting.keys() - config.fitness.model_fields_set
    return config.fitness.model_copy(update={key: fitting[key] for key in unset})


def learn(camera: Camera, config: CameraConfig, frames: int) -> Iterator[ReferenceView]:
    """One view per region, from so many pictures that can be judged. Dark pictures say nothing and do not count."""
    framing, learners = Framing(config), {eye: ViewLearner() for eye in config.eyes}
    hard = {eye: Fitness(limits_of(config)) for eye in config.eyes}
    for frame in _pictures(camera, 4 * frames):
        for seen in framing.frames(frame):
            if not hard[seen.camera].check(seen.image) and not hard[seen.camera].pending:
                learners[seen.camera].add(seen.image)
        if min(len(learner) for learner in learners.values()) >= frames:
            break
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for eye, learner in learners.items():
        if len(learner) < frames:
            raise CameraError(f"{eye} gave {len(learner)} pictures that can be judged, not {frames}")
        yield learned(learner, eye, now)


def keep(view: ReferenceView, state_dir: Path) -> Path:
    path = view_path(state_dir, view.camera)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(view.to_json())
    return fresh.replace(path)


def _pictures(camera: Camera, most: int) -> Iterator[Frame]:
    for _ in range(most):
        frame = camera.read()
        if frame is None:
            return
        yield frame
