"""What a label measured, as a rule in mm is held against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inspection.label_book import CountLimit
from review.store import Label, Record


def most_within(count: CountLimit, cls: str, labels: Iterable[Label], record: Record) -> int:
    """The most regions of a class that one of the labels shows as near together as the rule asks; 0 without a scale."""
    if record.px_per_mm <= 0:
        return 0
    middles = [
        [_middle_mm(a, record.px_per_mm) for a in label.annotations if a["cls"] == cls and _is_placed(a)]
        for label in labels
    ]
    return max((count.most(of_label) for of_label in middles), default=0)


def _is_placed(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("box_px") or annotation.get("points_px"))


def _middle_mm(annotation: Mapping[str, Any], px_per_mm: float) -> tuple[float, float]:
    if box := annotation.get("box_px"):
        x, y, w, h = box
        return (x + w / 2) / px_per_mm, (y + h / 2) / px_per_mm
    xs, ys = zip(*annotation["points_px"], strict=True)
    return (min(xs) + max(xs)) / 2 / px_per_mm, (min(ys) + max(ys)) / 2 / px_per_mm


def longest_mm(label: Label, cls: str) -> float | None:
    """The longest this person measured of a class."""
    lengths = [a["length_mm"] for a in label.annotations if a["cls"] == cls and a.get("length_mm") is not None]
    return max(lengths, default=None)
