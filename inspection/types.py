"""What travels through the rooms: frames, findings, calls. Frozen, slotted, with units in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, BGR as OpenCV has it."""


class Call(StrEnum):
    """What is said of one frame. FAULT means nobody judged it, which is never a pass."""

    PASS = "pass"
    UNCERTAIN = "uncertain"
    DEFECT = "defect"
    FAULT = "fault"


class Code(IntEnum):
    """Why the permit is what it is; the `code` of the permit payload, read by PLCs."""

    OK = 0
    DEFECT = 1
    CAMERA = 2
    MODEL = 3
    STORAGE = 4  # no edge sends it: evidence that cannot be kept stops no line
    STARTING = 5
    INTERNAL = 6
    STOP = 7  # a person asked for it
    MAINTENANCE = 8  # somebody works at the station


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture. `frame_id` is the camera's own counter: a gap in it is loss.

    `captured_ns` is this machine's monotonic clock, `wall_ms` is Unix time for people and records.
    """

    camera: str
    frame_id: int
    captured_ns: int
    wall_ms: int
    image: Image
    px_per_mm: float

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"a frame's image is (H, W, 3) uint8, not {self.image.shape} {self.image.dtype}")
        if not self.px_per_mm > 0:
            raise ValueError(f"px_per_mm must be positive, not {self.px_per_mm}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One connected region of a class's heat map, in px of the camera's frame and in mm.

    `score` is the region's peak heat, `length_mm` its length along itself (`inspection.length`).
    """

    cls: str
    score: float
    box_px: tuple[float, float, float, float]
    length_mm: float
    area_mm2: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model said of one frame.

    `scores`: calibrated probability per class that the frame holds such a defect.
    `heat`: (C, h, w) uint8, 255 = certain, one low-resolution map per class, in `classes` order.
    `heat_to_frame`: 2x3 affine that takes heat-map px to px of the camera's frame.
    `novelty`: how unlike the model's training pictures the frame is, from 0 up; None where the model cannot say.
    """

    classes: tuple[str, ...]
    scores: Mapping[str, float]
    heat: NDArray[np.uint8]
    heat_to_frame: NDArray[np.float64]
    findings: tuple[Finding, ...]
    novelty: float | None = None


@dataclass(frozen=True, slots=True)
class Stages:
    """Where a frame's time went, in ns of one monotonic clock; 0 = not reached yet."""

    captured_ns: int
    taken_ns: int = 0
    inferred_ns: int = 0
    decided_ns: int = 0
    sent_ns: int = 0

    def ms(self) -> dict[str, float]:
        """Milliseconds each stage took: `queue`, `inference`, `decide`, `send` and `total`."""
        marks = [self.captured_ns, self.taken_ns, self.inferred_ns, self.decided_ns, self.sent_ns]
        named = zip(("queue", "inference", "decide", "send"), marks, marks[1:], strict=False)
        spent = {name: round((b - a) / 1e6, 3) for name, a, b in named if b}
        spent["total"] = round((max(marks) - marks[0]) / 1e6, 3)
        return spent


@dataclass(frozen=True, slots=True)
class HaltReport:
    """A halt as people and records see it. `halt` is unique over restarts of the edge."""

    halt: int
    code: Code
    reason: str
    cls: str = ""
    score: float = 0.0
    limit: float = 0.0
    length_mm: float = 0.0
    limit_mm: float = 0.0
    frame_id: int = -1
    part: str = ""
    evidence: tuple[int, ...] = field(default=())
    """Ids of the frames that added up to the halt, the last one included."""
    stop: str = ""
    """The reason of a stop that was asked for while this halt was open: it becomes a halt when this one is resumed."""
