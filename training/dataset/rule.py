"""The label book applied to a mask: how long is each class's longest region, and is that a defect?

Used wherever a picture's label must follow from its mask: masks without labels, crops, and labels made under another
version of the book.
"""

from __future__ import annotations

import cv2
import numpy as np

from inspection.label_book import LabelBook
from training.dataset.item import Mask


def longest_px(mask: Mask, classes: int) -> tuple[float, ...]:
    """Per class the length of its longest connected region in px of the mask, 0 where there is none.

    Length as `inspection.model_io` measures findings: the longer side of the smallest enclosing rectangle.
    """
    present = set(np.unique(mask))
    return tuple(_longest_of(mask == k) if k in present else 0.0 for k in range(1, classes + 1))


def _longest_of(region: np.ndarray) -> float:
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return max(float(max(cv2.minAreaRect(c)[1])) + 1.0 for c in contours)


def labels_under(book: LabelBook, mask: Mask, px_per_mm: float | None) -> tuple[str, ...]:
    """Classes whose longest region in the mask is a defect under the book.

    Without a scale nothing can be measured: then any region counts, whatever the limit says.
    """
    lengths = longest_px(mask, len(book.rules))
    return tuple(
        rule.cls
        for rule, px in zip(book.rules, lengths, strict=True)
        if px > 0 and (px_per_mm is None or rule.is_defect(px / px_per_mm))
    )
