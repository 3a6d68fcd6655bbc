"""How alike two people's outlines of one place are: overlap, and how far apart their edges run.

Overlap alone says little of thin defects: two hairlines one pixel apart share nothing and still agree. So the distance
between the edges stands beside it: the mean of both ways (average symmetric surface distance) and the 95th percentile
(Heimann et al. 2009, Comparison and evaluation of methods for liver segmentation).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.agreement import Estimate, estimate, part_weights

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outlines:
    """Two people's masks of one class on one frame, neither empty. `iou`: intersection over union."""

    part: str
    people: tuple[str, str]
    iou: float
    mean_mm: float
    p95_mm: float


@dataclass(frozen=True, slots=True)
class OutlineAgreement:
    """Means over `pairs` pairs of outlines of `parts` parts, with the bootstrap's interval by part."""

    pairs: int
    parts: int
    iou: Estimate
    mean_mm: Estimate
    p95_mm: Estimate


def compare(part: str, people: tuple[str, str], a: Bits, b: Bits, px_per_mm: float) -> Outlines:
    """(H, W) masks of equal size. ValueError where one of them is empty: there is no edge to measure from."""
    if a.shape != b.shape or not a.any() or not b.any():
        raise ValueError(f"{a.shape} with {int(a.sum())} px and {b.shape} with {int(b.sum())} px have no common edge")
    apart = np.concatenate([_to_edge(a, b), _to_edge(b, a)]) / px_per_mm
    iou = float((a & b).sum() / (a | b).sum())
    return Outlines(part, people, iou, float(apart.mean()), float(np.percentile(apart, 95)))


def summarise(found: list[Outlines], draws: int = 500, seed: int = 0) -> OutlineAgreement:
    weights = part_weights([o.part for o in found], draws, seed)

    def mean(values: list[float]) -> Estimate:
        column = np.array(values, np.float64)
        return estimate(lambda w: w @ column / np.maximum(w.sum(1), 1e-12), weights)

    return OutlineAgreement(
        len(found),
        len({o.part for o in found}),
        mean([o.iou for o in found]),
        mean([o.mean_mm for o in found]),
        mean([o.p95_mm for o in found]),
    )


def _to_edge(a: Bits, b: Bits) -> NDArray[np.float64]:
    """Of each pixel on the edge of `a`, how far it is to the edge of `b`, px."""
    distance = cv2.distanceTransform((~_edge(b)).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance[_edge(a)], np.float64)


def _edge(bits: Bits) -> Bits:
    """Pixels of the mask with a neighbour outside; the frame's border counts as outside."""
    inner = cv2.erode(np.pad(bits, 1).astype(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    return np.asarray(bits & (inner == 0))
