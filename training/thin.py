"""Whether what is outlined is still wide enough to be seen at the network's input, to which pictures are shrunk."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from training.dataset.item import Mask, decode_mask, read_bytes
from training.dataset.snapshot import Snapshot

MEASURED = 200
"""Pictures at most, evenly over the snapshot: a mask of 4 Mpx takes 30 ms."""
THIN_PX = 3.0
"""Narrower than this a line falls between the cells of the map, 2 px, and the stride of 4 that it is drawn from."""


def thin(data: Snapshot, size: tuple[int, int]) -> str:
    """What to say where pictures are shrunk to `size` and a quarter of their defects become narrower than THIN_PX; ""
    where they do not."""
    found = sorted(_widths(data, size))
    if not found:
        return ""
    narrow, shrink = np.percentile([at_input for at_input, _ in found], 25), np.median([scale for _, scale in found])
    if shrink >= 1 or narrow >= THIN_PX:
        return ""
    more = min(THIN_PX / narrow, 1 / shrink)
    wide, high = (16 * math.ceil(side * more / 16) for side in size)
    times = wide * high / (size[0] * size[1])
    return (
        f"pictures are shrunk to {shrink:.2f} of their size, and a quarter of the {len(found)} defects measured are "
        f"{narrow:.1f} px or narrower then: more are found with --size {wide}x{high}, at {times:.1f} times the time a "
        "picture, or of crops (haltline dataset import --crop)"
    )


def _widths(data: Snapshot, size: tuple[int, int]) -> Iterator[tuple[float, float]]:
    """(px at the input, how much the picture is shrunk) of each outlined or boxed defect: twice the way from its middle
    line to its rim."""
    marked = [s for s in data.split("train") if s.labels and s.mask]
    for s in marked[:: math.ceil(len(marked) / MEASURED) or 1]:
        assert s.mask is not None
        mask = decode_mask(read_bytes(data.folder / s.mask), data.folder / s.mask)
        scale = min(size[0] / s.width_px, size[1] / s.height_px)
        yield from ((width * scale, scale) for width in _px(mask))


def _px(mask: Mask) -> Iterator[float]:
    for cls in np.unique(mask[mask > 0]):
        on = np.pad((mask == cls).astype(np.uint8), 1)
        count, of = cv2.connectedComponents(on, connectivity=8)
        to_rim = cv2.distanceTransform(on, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        deepest = np.zeros(count)
        np.maximum.at(deepest, of.ravel(), to_rim.ravel())
        yield from (float(2 * d - 0.5) for d in deepest[1:])  # 2 d of an even width, 2 d - 1 of an odd one
