"""What a model with a memory knows of each camera's last frames: a few tensors, zero where there is no past.

A gap in time ends a past, and so does a new part: what was there before says nothing of what is there now.
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

    def before(self, frame: Frame) -> State:
        """What the camera's earlier frames left behind; nothing after a gap, or where its counter began anew."""
        past = self._pasts.get(frame.camera)
        if past is None or frame.frame_id <= past.frame_id:
            return self.nothing
        if frame.captured_ns - past.captured_ns > LONGEST_GAP_NS:
            return self.nothing
        return past.state

    def keep(self, frame: Frame, state: State) -> None:
        self._pasts[frame.camera] = _Past(frame.frame_id, frame.captured_ns, state)

    def forget(self) -> None:
        """A new part: every camera begins from nothing."""
        self._pasts.clear()
