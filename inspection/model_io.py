"""Geometry, once: camera frame -> model input, model outputs -> findings in px and mm.

Training's data set and the edge call the same lines, so a model never sees a picture at the edge that was fitted
differently from the ones it learned on. Photometry is not here: it is inside the ONNX graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.bundle import ClassLimits, InputSpec
from inspection.errors import ModelError
from inspection.length import length_px
from inspection.types import Finding, Image, Prediction

FINE = 5
"""How many times finer than the heat map regions are measured. Odd, so that the centre of each heat-map px is kept:
between two centres a line one px wide has lost an eighth of its heat, and near the level would not be found."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a frame lies in the input: scaled by `scale`, then shifted by `dx_px`, `dy_px` (input px)."""

    scale: float
    dx_px: int
    dy_px: int
    fitted_w_px: int
    fitted_h_px: int


def fit(frame_w_px: int, frame_h_px: int, spec: InputSpec) -> Fit:
    """Largest whole-frame fit, aspect kept, centred. No crop: what the camera sees, the model sees."""
    scale = min(spec.width_px / frame_w_px, spec.height_px / frame_h_px)
    w = max(1, min(spec.width_px, round(frame_w_px * scale)))
    h = max(1, min(spec.height_px, round(frame_h_px * scale)))
    return Fit(scale, (spec.width_px - w) // 2, (spec.height_px - h) // 2, w, h)


def to_input(image: Image, spec: InputSpec) -> tuple[Image, Fit]:
    """(H, W, 3) frame -> (height_px, width_px, 3) uint8 input, borders replicated where the aspect differs."""
    how = fit(image.shape[1], image.shape[0], spec)
    # Below half size linear would step over px, and with them over a hairline scratch; above, it is 12 times faster.
    method = cv2.INTER_AREA if how.scale <= 0.5 else cv2.INTER_LINEAR
    small = image if how.scale == 1 else resized(image, (how.fitted_w_px, how.fitted_h_px), method)
    return _pad(small, how, spec, cv2.BORDER_REPLICATE), how


def resized(image: Image, size: tuple[int, int], method: int) -> Image:
    """(H, W, 3) -> (height, width, 3) for `size` (width, height), `method` as OpenCV names them.

    By Intel's routines where OpenCV has them: two to six times as fast, and rounded, where OpenCV's own linear one cuts
    off 0.1 grey levels on average. OpenCV does not take them unasked, since a value may come out one level higher. The
    setting is the calling thread's own.
    """
    before = cv2.ipp.useIPP_NotExact()
    cv2.ipp.setUseIPP_NotExact(True)
    try:
        return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    finally:
        cv2.ipp.setUseIPP_NotExact(before)


def mask_to_input(mask: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """(H, W) class mask -> (height_px, width_px); a class is kept wherever it touches, so thin defects survive."""
    how = fit(mask.shape[1], mask.shape[0], spec)
    out = np.zeros((spec.height_px, spec.width_px), np.uint8)
    # One frame px covers scale^2 of an input px, or a quarter of that in each of four: at a fixed share a hairline
    # from a large sensor would come out broken or not at all.
    least = min(0.1, how.scale**2 / 5)
    for cls in np.unique(mask[mask > 0]):
        share = cv2.resize(
            (mask == cls).astype(np.float32), (how.fitted_w_px, how.fitted_h_px), interpolation=cv2.INTER_AREA
        )
        grown = _pad((share > least).astype(np.uint8), how, spec, cv2.BORDER_CONSTANT)
        out[grown > 0] = cls
    return out


def _pad(small: NDArray[np.uint8], how: Fit, spec: InputSpec, border: int) -> NDArray[np.uint8]:
    right = spec.width_px - how.fitted_w_px - how.dx_px
    bottom = spec.height_px - how.fitted_h_px - how.dy_px
    if how.dx_px == how.dy_px == right == bottom == 0:
        return small
    return np.asarray(cv2.copyMakeBorder(small, how.dy_px, bottom, how.dx_px, right, border), dtype=np.uint8)


def input_px_per_mm(frame_px_per_mm: float, how: Fit) -> float:
    return frame_px_per_mm * how.scale


@lru_cache(maxsize=64)
def heat_to_frame(how: Fit, heat_stride: int) -> NDArray[np.float64]:
    """2x3 affine from heat-map px to frame px, pixel centres to pixel centres. One array for all frames alike."""
    s = heat_stride / how.scale
    centre = (heat_stride - 1) / 2
    affine = np.array(
        [[s, 0, (centre - how.dx_px + 0.5) / how.scale - 0.5], [0, s, (centre - how.dy_px + 0.5) / how.scale - 0.5]]
    )
    affine.setflags(write=False)
    return affine


def to_prediction(
    scores: NDArray[np.float32],
    heat: NDArray[np.uint8],
    limits: tuple[ClassLimits, ...],
    how: Fit,
    heat_stride: int,
    px_per_mm: float,
    novelty: float | None = None,
) -> Prediction:
    """Model outputs of one frame -> Prediction with findings.

    `scores` (C,), `heat` (C, h, w) uint8, `px_per_mm` of the camera's frame.

    Raises ModelError when a score is not a finite probability: a NaN compares false with every limit, and would
    otherwise pass as good.
    """
    if scores.shape != (len(limits),) or heat.ndim != 3 or heat.shape[0] != len(limits) or heat.dtype != np.uint8:
        outputs = f"{scores.shape} and {heat.shape} {heat.dtype}"
        raise ModelError(f"outputs are {outputs}, not one score and one uint8 map per class of {len(limits)}")
    # As Python's numbers: right after an inference every line of NumPy's code has to come back from memory.
    probabilities: list[float] = scores.tolist()
    if not all(0 <= p <= 1 for p in probabilities):  # a NaN is not
        raise ModelError(f"scores are not probabilities: {probabilities}")
    affine = heat_to_frame(how, heat_stride)
    # The border around the frame repeats its edge: a defect that runs out of the picture must not grow there.
    found: list[Finding] = []
    for index, limit in enumerate(limits):
        # Segmenting costs time that a frame no class suspects need not pay.
        if probabilities[index] >= limit.lo:
            inside, inside_affine = _inside_frame(heat[index], how, heat_stride)
            found += findings_in(inside, limit, inside_affine, px_per_mm)
    classes = tuple(limit.cls for limit in limits)
    return Prediction(classes, dict(zip(classes, probabilities, strict=True)), heat, affine, tuple(found), novelty)


def _inside_frame(heat: NDArray[np.uint8], how: Fit, stride: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of `heat` (h, w) that shows the frame, and its own affine."""
    left, top = how.dx_px // stride, how.dy_px // stride
    right, bottom = -(-(how.dx_px + how.fitted_w_px) // stride), -(-(how.dy_px + how.fitted_h_px) // stride)
    moved = heat_to_frame(how, stride)
    if left or top:
        moved = moved.copy()
        moved[:, 2] += moved[:, :2] @ (left, top)
    return heat[top:bottom, left:right], moved


def findings_in(
    heat: NDArray[np.uint8], limit: ClassLimits, affine: NDArray[np.float64], px_per_mm: float
) -> list[Finding]:
    """Connected regions of one heat map (h, w) at or above the class's heat level, longest first."""
    level = max(1, round(limit.heat_level * 255))
    # Between its pixels the map is interpolated: a 1.5 mm limit may be only a few heat-map px long, and whole-px
    # lengths would jump across it.
    hot = _hot(heat, level)
    if hot is None:
        return []
    x0, y0, x1, y1 = hot
    fine = cv2.resize(heat[y0:y1, x0:x1], None, fx=FINE, fy=FINE, interpolation=cv2.INTER_LINEAR)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(_at_least(fine, level), connectivity=8)
    cell = float(affine[0, 0])  # frame px per heat px; fit() keeps the aspect, so one number serves both axes
    px = cell / FINE
    left, top = float(affine[0, 2]) + (x0 - 0.5) * cell, float(affine[1, 2]) + (y0 - 0.5) * cell
    found = []
    for k in range(1, count):
        x, y, w, h, area = stats[k].tolist()
        region = (labels[y : y + h, x : x + w] == k).view(np.uint8)
        peak = cv2.minMaxLoc(fine[y : y + h, x : x + w], region)[1] / 255
        box = (left + x * px, top + y * px, w * px, h * px)
        found.append(Finding(limit.cls, peak, box, _length_px(region) * px / px_per_mm, area * (px / px_per_mm) ** 2))
    return sorted(found, key=lambda f: -f.length_mm)


def _hot(heat: NDArray[np.uint8], level: int) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 around all px at or above the level, two px wider; None where there are none. Interpolated values
    cannot be higher than the px around them, so nothing lies outside. Measuring the whole map finely took five times
    as long as the rest of a halt's way."""
    x, y, w, h = cv2.boundingRect(_at_least(heat, level))
    if not w:
        return None
    return max(0, x - 2), max(0, y - 2), min(heat.shape[1], x + w + 2), min(heat.shape[0], y + h + 2)


def _at_least(heat: NDArray[np.uint8], level: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.threshold(heat, level - 1, 1, cv2.THRESH_BINARY)[1], np.uint8)


def _length_px(region: NDArray[np.uint8]) -> float:
    """Of what is not 0, which hangs together, in px."""
    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(map(length_px, contours))
