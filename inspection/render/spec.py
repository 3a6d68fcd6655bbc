"""What a rendering is: the tasks, what may be asked for, what comes back. Lengths in mm, pictures in px, BGR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One inspection task. `length_mm` gives, per class, the range that random defects are drawn from."""

    name: str
    classes: tuple[str, ...]
    width_px: int
    height_px: int
    px_per_mm: float
    length_mm: Mapping[str, tuple[float, float]]


TASKS: Mapping[str, TaskSpec] = MappingProxyType(
    {
        "weld": TaskSpec(
            "weld",
            ("porosity", "undercut", "burn_through"),
            640,
            512,
            10.0,
            MappingProxyType({"porosity": (0.4, 6.0), "undercut": (1.0, 12.0), "burn_through": (2.0, 6.0)}),
        ),
        "scratch": TaskSpec("scratch", ("scratch",), 640, 512, 20.0, MappingProxyType({"scratch": (0.2, 6.0)})),
    }
)


@dataclass(frozen=True, slots=True)
class Optics:
    """The camera: blur (sigma), exposure (factor), noise (sigma in grey levels), light lost in the corners, colour."""

    blur_px: float = 0.6
    exposure: float = 1.0
    noise: float = 2.0
    vignette: float = 0.15
    monochrome: bool = False


@dataclass(frozen=True, slots=True)
class DefectSpec:
    """One defect asked for. `contrast` 1 is typical, below about 0.3 deliberately faint.

    `at_mm` is its centre from the top left corner. On a seam only `at_mm[0]`, the place along the strip, counts
    for a weld: the bead says where a weld's defect can be across it, so a weld's defect keeps to its bead.
    """

    cls: str
    length_mm: float
    contrast: float = 1.0
    at_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class TrueDefect:
    """The truth about one defect, as drawn. `box_px` is x, y, width, height of its part of the mask."""

    cls: str
    length_mm: float
    box_px: tuple[float, float, float, float]

    @property
    def centre_px(self) -> tuple[float, float]:
        x, y, width, height = self.box_px
        return x + width / 2, y + height / 2


@dataclass(frozen=True, slots=True)
class Rendered:
    """One frame with its truth. `image` (H, W, 3) BGR; `mask` (H, W), 0 = sound, k = k-th class of the task from 1."""

    image: Image
    mask: Image
    defects: tuple[TrueDefect, ...]
    px_per_mm: float
    task: str
    seed: int


def task_spec(task: str) -> TaskSpec:
    try:
        return TASKS[task]
    except KeyError:
        raise ValueError(f"no task {task!r}; there are {', '.join(TASKS)}") from None
