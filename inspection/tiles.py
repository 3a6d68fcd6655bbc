"""Frames too large for a model's input, seen in pieces at the scale it was trained for, judged as one picture.

Shrunk into a small input, a large frame would show a scratch too thin to be seen. So the frame is brought to the
trained scale as a whole, cut into overlapping tiles of the input's size, and what the model says of them is put
together again: per class the highest score, and the highest heat of each px. Findings are measured on the map put
together, so that a scratch across a border keeps its length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.bundle import InputSpec
from inspection.model_io import Fit, resized
from inspection.types import Image

OVERLAP = 4
"""Tiles share a quarter of the input's shorter side, more where a defect of the label book's size needs it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a frame lies on the canvas, the canvas in px of the input (whole cells of the heat map), and the tiles'
    corners (left, top) on it.
    """

    how: Fit
    width_px: int
    height_px: int
    corners: tuple[tuple[int, int], ...]


@lru_cache(maxsize=32)
def plan(
    frame_w_px: int, frame_h_px: int, px_per_mm: float, spec: InputSpec, heat_stride: int, whole_mm: float = 0.0
) -> Plan:
    """Tiles that cover every px of the frame; whatever is no longer than `whole_mm` lies whole in one of them.

    At most half a tile is shared, so that is the limit of `whole_mm`, too.
    """
    scale = spec.px_per_mm / px_per_mm
    how = Fit(scale, 0, 0, max(1, round(frame_w_px * scale)), max(1, round(frame_h_px * scale)))
    shorter = min(spec.width_px, spec.height_px)
    shared = min(shorter // 2, max(shorter // OVERLAP, math.ceil(whole_mm * spec.px_per_mm) + heat_stride))
    width, lefts = _along(how.fitted_w_px, spec.width_px, shared, heat_stride)
    height, tops = _along(how.fitted_h_px, spec.height_px, shared, heat_stride)
    return Plan(how, width, height, tuple((left, top) for top in tops for left in lefts))


def _along(length: int, side: int, shared: int, cell: int) -> tuple[int, list[int]]:
    """(canvas length, where tiles begin) along one axis: evenly spread, on whole cells of the heat map."""
    if length <= side:
        return side, [0]
    last = -(-(length - side) // cell) * cell
    count = math.ceil(last / (side - shared)) + 1
    return last + side, [last * k // (count - 1) // cell * cell for k in range(count)]


def cut(image: Image, tiling: Plan, spec: InputSpec) -> Iterator[Image]:
    """The tiles (height_px, width_px, 3) in the order of the plan; beyond the frame its edge is repeated."""
    how = tiling.how
    method = cv2.INTER_AREA if how.scale < 1 else cv2.INTER_LINEAR  # as `model_io.to_input` does
    size = (how.fitted_w_px, how.fitted_h_px)
    small = image if image.shape[1::-1] == size else resized(image, size, method)
    beyond = (0, tiling.height_px - how.fitted_h_px, 0, tiling.width_px - how.fitted_w_px)
    canvas = cv2.copyMakeBorder(small, *beyond, cv2.BORDER_REPLICATE) if any(beyond) else small
    for left, top in tiling.corners:
        yield np.ascontiguousarray(canvas[top : top + spec.height_px, left : left + spec.width_px], dtype=np.uint8)


def merge(
    tiling: Plan, heat_stride: int, found: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(scores (C,), heat (C, h, w)) of each tile -> those of the canvas. A NaN in one tile is a NaN of the frame."""
    scores = np.max([scores for scores, _ in found], axis=0)
    classes = found[0][1].shape[0]
    heat = np.zeros((classes, tiling.height_px // heat_stride, tiling.width_px // heat_stride), np.uint8)
    for (left, top), (_, part) in zip(tiling.corners, found, strict=True):
        y, x = top // heat_stride, left // heat_stride
        place = heat[:, y : y + part.shape[1], x : x + part.shape[2]]
        np.maximum(place, part, out=place)
    return scores, heat
