"""The label book applied to a mask: how long is each class's longest region, how many lie together, is that a defect?

Used wherever a picture's label must follow from its mask: masks without labels, crops, and labels made under another
version of the book.
"""

from __future__ import annotations

import cv2
import numpy as np

from inspection.label_book import ClassRule, LabelBook
from inspection.length import length_px
from training.dataset.item import Mask


def longest_px(mask: Mask, classes: int) -> tuple[float, ...]:
    """Per class the length of its longest connected region in px of the mask, 0 where there is none.

    Length as `inspection.model_io` measures findings (`inspection.length`).
    """
    present = set(np.unique(mask))
    return tuple(_longest_of(mask == k) if k in present else 0.0 for k in range(1, classes + 1))


def _longest_of(region: np.ndarray) -> float:
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(map(length_px, contours))


def labels_under(book: LabelBook, mask: Mask, px_per_mm: float | None) -> tuple[str, ...]:
    """Classes whose regions in the mask are a defect under the book.

    Without a scale nothing can be measured: then any region counts, whatever the limit says.
    """
    lengths = longest_px(mask, len(book.rules))
    return tuple(
        rule.cls
        for k, (rule, px) in enumerate(zip(book.rules, lengths, strict=True), 1)
        if px > 0 and (px_per_mm is None or broken(rule, mask == k, px / px_per_mm, px_per_mm))
    )


def broken(rule: ClassRule, regions: np.ndarray, longest_mm: float, px_per_mm: float) -> bool:
    """Whether the rule calls the `regions` (H, W) of its class a defect: by the longest of them, or by how many lie
    together. A depth, which no mask shows, plays no part."""
    if rule.is_defect(longest_mm):
        return True
    return rule.count is not None and rule.count.most(_middles_mm(regions, px_per_mm)) >= rule.count.regions


def _middles_mm(regions: np.ndarray, px_per_mm: float) -> list[tuple[float, float]]:
    """The middle of each connected region's box, as the hub takes a region's."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(regions.astype(np.uint8), connectivity=8)
    return [((x + w / 2) / px_per_mm, (y + h / 2) / px_per_mm) for x, y, w, h, _ in stats[1:]]
