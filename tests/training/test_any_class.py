"""Several classes: what the line stops for is any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inspection.label_book import SCRATCH_BOOK, WELD_BOOK
from inspection.samples import Sample
from inspection.types import Call
from training.card import _test
from training.evaluate import ANY, figures_of
from training.judging import JudgedPicture
from training.page import _classes
from training.report import figure_tables

K = len(WELD_BOOK.classes)


def _picture(n: int, bad: int | None, scored: int, score: float) -> JudgedPicture:
    """A defect of class `bad`, and the class `scored` given `score`."""
    target, scores = np.arange(K) == (K if bad is None else bad), np.full(K, 0.05)
    scores[scored] = score
    sample = Sample(
        image=f"images/{n}.png", image_sha256="0" * 64, width_px=8, height_px=8,
        labels=() if bad is None else (WELD_BOOK.classes[bad],), group=f"part-{n}",
    )  # fmt: skip
    heat = np.zeros((K, 2, 2), np.uint8)
    heat[scored, 0, 0] = int(score * 255)
    cells = np.zeros((K, 2, 2), bool)
    if bad is not None:
        cells[bad, 0, 0] = True
    length = np.where(target, 3.0, 0.0)
    return JudgedPicture(sample, target, scores, heat, cells, length, length, Call.DEFECT, 1.0)


def test_a_defect_under_another_name_is_a_defect_found() -> None:
    """Every defect is seen and called the next class: nothing by class, everything for the line."""
    pictures = [_picture(n, n % K, (n + 1) % K, 0.9) for n in range(12)]
    pictures += [_picture(20 + n, None, 0, 0.1) for n in range(12)]
    found = figures_of("b-1", "s", "test", pictures, WELD_BOOK)
    assert all(c.image_ap.value < 0.7 for c in found.classes)
    line = found.any_class
    assert line is not None
    assert (line.cls, line.defective, line.good) == (ANY, 12, 12)
    assert line.image_ap.value == line.recall_at_1pc.value == line.pixel_ap == pytest.approx(1.0)
    assert (line.length_error_mm, line.lengths) == (0.0, 12)
    for shown in (_test(found), _classes(found.rows)):
        assert ANY in shown
    assert any(ANY in map(str, t.columns[0].cells) for t in figure_tables(found) if not isinstance(t, str))


def test_one_class_is_said_once() -> None:
    pictures = [_picture(n, 0 if n % 2 else None, 0, 0.9 if n % 2 else 0.1) for n in range(12)]
    one = [
        replace(p, target=p.target[:1], scores=p.scores[:1], heat=p.heat[:1], cells=None, region_mm=p.region_mm[:1])
        for p in pictures
    ]
    found = figures_of("b-1", "s", "test", one, SCRATCH_BOOK)
    assert found.any_class is None
    assert found.rows == found.classes
