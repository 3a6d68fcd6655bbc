"""Everybody's labels weighed by how reliable each person is, as soft labels for the trainer.

Estimated per class under one version of the label book. What was adjudicated is known and outranks every estimate.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from inspection.dawid_skene import TooLittle, weigh
from inspection.label_book import LabelBook
from review.consistency import frames, judged, parts_of

CERTAIN = 0.02
"""A chance nearer to 0 or 1 than this is a hard label: a trainer gains nothing from it and asks of every soft one
where the defect is."""

Soft = Mapping[int, dict[str, float]]
"""Record id -> class -> chance that the frame shows a defect of it."""


def soft_labels(session: Session, book: LabelBook) -> Soft:
    """Of every frame labelled under this version; without the classes for which there are too few double labels."""
    parts = parts_of(session)
    found: dict[int, dict[str, float]] = {}
    for cls in book.classes:
        of_class = frames(session, book.id, cls, parts, most=None)
        result = weigh(judged(of_class), draws=1)
        if isinstance(result, TooLittle):
            continue
        for frame in of_class:
            if frame.record.uid in result.chance:
                found.setdefault(frame.record.id, {})[cls] = _rounded(result.chance[frame.record.uid])
    return {record: chances for record, chances in found.items() if len(chances) == len(book.classes)}


def _rounded(chance: float) -> float:
    return 0.0 if chance < CERTAIN else 1.0 if chance > 1 - CERTAIN else round(chance, 3)
