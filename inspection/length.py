"""How long a region is: what a rule in mm is held against, of a heat map's finding and of an outline alike.

The label book says "measured along it", and so do people with the label page's ruler. For nearly all regions that is
the longer side of the smallest rectangle. A hook or an arc fills little of the hull around it: there the side is the
chord, half of the length or less, and a defect by the rule would be called too short to stop for.
"""

from __future__ import annotations

import math
from typing import Any

import cv2

CURVED = 0.5
"""A region that fills less of its convex hull is measured along itself. Straight marks and blobs fill more."""


def length_px(contour: Any) -> float:
    """Of a region's outer contour, (N, 1, 2) int pixel centres as `cv2.findContours` gives it; pixels have an extent.

    Along itself: of a ribbon of length L and width w, area L w and half perimeter L + w, as fibres are measured (W.
    Walton, 1948); branches count as well.
    """
    side = float(max(cv2.minAreaRect(contour)[1])) + 1.0
    area, half = _filled(contour)
    if area >= CURVED * _filled(cv2.convexHull(contour))[0]:
        return side
    return max(side, (half + math.sqrt(max(0.0, half * half - 4 * area))) / 2)


def _filled(contour: Any) -> tuple[float, float]:
    """Area and half perimeter, px, of the pixels inside a contour that runs through the centres of its outermost ones
    (G. Pick, 1899)."""
    around = cv2.arcLength(contour, True)
    return cv2.contourArea(contour) + around / 2 + 1, around / 2 + 2
