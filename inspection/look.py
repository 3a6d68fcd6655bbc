"""What a picture looks like as a whole, in a few numbers and a thumbnail: light, sharpness, coarse structure.

The numbers say nothing about defects. They are for comparing a camera's pictures with what it showed when it was set
up, see `reference_view.py`, and cost about 0.2 ms for 640x512 px.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.types import Image

Thumb = NDArray[np.float32]

CELL_PX = 8
"""A thumbnail's cell, in px of the frame; at most MOST_CELLS of them in a row."""
MOST_CELLS, LEAST_CELLS = 80, 8
SMOOTH_CELLS = 17
"""Structure wider than this is light, not scene."""


@dataclass(frozen=True, slots=True)
class Look:
    """`sharpness`: ln of gradient energy at 2 px over that at 8 px, which light and contrast leave alone and blur
    lowers. `detail`, `contrast`: ln of the 2 px and of the 8 px energy over the squared mean, which blur and a covered
    lens lower. `median`, `bright`: 50th and 90th percentile of grey. `thumb`: (rows, cells) float32, the picture in
    cells, its mean 1."""

    sharpness: float
    detail: float
    contrast: float
    median: float
    bright: float
    thumb: Thumb


def look_at(image: Image) -> Look:
    """`image`: (H, W, 3) uint8, at least 16 x 16 px."""
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    half = cv2.resize(grey, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    cells = cv2.resize(half, (_cells(width), _cells(height)), interpolation=cv2.INTER_AREA)
    fine, coarse, mean = _gradient_energy(half), _gradient_energy(cells), max(float(cells.mean()), 0.5)
    median, bright = _quantiles(half, (0.5, 0.9))
    thumb = np.multiply(cells, np.float32(1 / mean), dtype=np.float32)
    # the constants: a picture without structure has a logarithm too
    sharpness = math.log((fine + 1) / (coarse + 1))
    detail, contrast = (math.log((energy + 0.01) / mean**2) for energy in (fine, coarse))
    return Look(sharpness, detail, contrast, median, bright, thumb)


def structure(thumb: Thumb) -> Thumb:
    """The thumbnail without its slow changes of light."""
    return np.asarray(thumb - cv2.blur(thumb, (SMOOTH_CELLS, SMOOTH_CELLS)), np.float32)


def likeness(a: Thumb, b: Thumb) -> float:
    """Correlation of two structures, -1 to 1."""
    size = math.sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b)))
    return float(np.vdot(a, b)) / size if size > 0 else 0.0


def best_shift(seen: Thumb, known: Thumb, reach: int) -> tuple[float, float, tuple[int, int]]:
    """Likeness unshifted, likeness at the best shift of up to `reach` cells, and that shift (x, y) in cells."""
    inner = known[reach : known.shape[0] - reach, reach : known.shape[1] - reach]
    score = cv2.matchTemplate(seen, np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED)
    _, best, _, at = cv2.minMaxLoc(score)
    return float(score[reach, reach]), float(best), (at[0] - reach, at[1] - reach)


def _cells(length_px: int) -> int:
    return min(MOST_CELLS, max(LEAST_CELLS, length_px // CELL_PX))


def _gradient_energy(grey: NDArray[np.uint8]) -> float:
    """Mean of the squared steps to the right and lower neighbour, in grey levels squared."""
    along = cv2.norm(grey[:, 1:], grey[:, :-1], cv2.NORM_L2SQR)
    down = cv2.norm(grey[1:], grey[:-1], cv2.NORM_L2SQR)
    return float(along + down) / grey.size


def _quantiles(grey: NDArray[np.uint8], shares: tuple[float, ...]) -> list[float]:
    below = np.cumsum(cv2.calcHist([grey], [0], None, [256], [0, 256]))
    return [float(np.searchsorted(below, share * below[-1])) for share in shares]
