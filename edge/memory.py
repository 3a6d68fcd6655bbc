"""What a model with a memory knows of each camera's last frames: a few tensors, zero where there is no past.

A gap in time ends a past, and so does a new part: what was there before says nothing of what is there now. Which part a
frame shows its time tells, not its turn: triggers overtake frames that wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspection.bundle import StateSpec
from inspection.types import Frame

LONGEST_GAP_NS = 500_000_000
State = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _Past:
    frame_id: int
    captured_ns: int
    state: State


class Memory:
    """One past per camera. Once the model serves, only the thread of the frame path may use it."""

    def __init__(self, specs: Sequence[StateSpec]) -> None:
        self.nothing: State = [np.zeros(spec.shape, np.float32) for spec in specs]
        self._pasts: dict[str, _Past] = {}
        self._part_ns = 0

    def before(self, frame: Frame) -> State:
        """What the camera's earlier frames left behind; nothing after a gap, where its counter began anew, or where
        they show the part before."""
        past = self._pasts.get(frame.camera)
        if past is None or frame.frame_id <= past.frame_id:
            return self.nothing
        if frame.captured_ns - past.captured_ns > LONGEST_GAP_NS:
            return self.nothing
        if past.captured_ns < self._part_ns <= frame.captured_ns:
            return self.nothing
        return past.state

    def keep(self, frame: Frame, state: State) -> None:
        self._pasts[frame.camera] = _Past(frame.frame_id, frame.captured_ns, state)

    def begin_part(self, now_ns: int) -> None:
        """A new part: every camera's frames from `now_ns` on begin from nothing. Those before it that still wait show
        the last part, and go on from its past."""
        self._part_ns = now_ns

    def forget(self) -> None:
        """Every camera begins from nothing."""
        self._pasts.clear()
