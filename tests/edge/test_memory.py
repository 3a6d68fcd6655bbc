"""What a model with a memory knows of a part, on the line and in a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from edge.inbox import Inbox
from edge.memory import Memory
from edge.ports import Ready
from edge.replay import judge_again
from edge.runner import observe
from edge.tape import picture_path
from inspection.bundle import StateSpec
from inspection.events import Judged, PartArrived
from inspection.recording import Shot, Step
from inspection.types import Frame, Image, Prediction

MS = 1_000_000
NOBODY = 0


@dataclass
class Remembering:
    """Implements `ports.Model`: each frame leaves its number behind, and `past` has what each one was judged with."""

    bundle_id: str = "remembering-1.0.0"
    label_book: str = "red@1"
    memory: Memory = field(default_factory=lambda: Memory((StateSpec(input="a", output="b", shape=(1,)),)))
    past: dict[int, int] = field(default_factory=dict)

    def fit(self, frame: Frame) -> None:
        return None

    def begin_part(self, now_ns: int) -> None:
        self.memory.begin_part(now_ns)

    def infer(self, frame: Frame, fitted: Image | None = None) -> Prediction:
        self.past[frame.frame_id] = int(self.memory.before(frame)[0][0])
        self.memory.keep(frame, [np.array([frame.frame_id], np.float32)])
        return Prediction(("red",), {"red": 0.1}, np.zeros((1, 1, 1), np.uint8), np.eye(2, 3), ())


def frame(number: int, at_ms: int) -> Ready:
    return Ready(Frame("cam1", number, at_ms * MS, 0, np.zeros((8, 8, 3), np.uint8), 1.0))


def part(name: str, at_ms: int) -> PartArrived:
    return PartArrived(at_ms * MS, name, 1, 500, 1)


def test_frames_that_a_trigger_overtakes_are_no_past_of_the_new_part() -> None:
    model, inbox = Remembering(), Inbox()
    # Both frames of the part before wait for the model when the trigger comes.
    for arrivals in ((frame(7, 1000), frame(8, 1033), part("B", 1040)), (frame(9, 1066), frame(10, 1099))):
        for arrival in arrivals:
            inbox.put(arrival)
        for taken in islice(inbox, len(arrivals)):
            observe(taken, model, {})
    assert model.past == {7: NOBODY, 8: 7, 9: NOBODY, 10: 9}


def test_a_replay_begins_every_part_from_nothing(tmp_path: Path) -> None:
    model = Remembering()
    judge = judge_again(model, tmp_path)
    for number in (1, 2, 3):
        cv2.imwrite(str(picture_path(tmp_path, "cam1", number)), np.zeros((8, 8, 3), np.uint8))

    def judged(number: int, at_ms: int) -> Step:
        return Step(Judged("cam1", number, (at_ms + 10) * MS, at_ms * MS, {"red": 0.1}, ()), (), Shot(0, 1.0))

    for step in (Step(part("A", 0), ()), judged(1, 10), Step(part("B", 100), ()), judged(2, 110), judged(3, 143)):
        judge(step)
    assert model.past == {1: NOBODY, 2: NOBODY, 3: 2}
