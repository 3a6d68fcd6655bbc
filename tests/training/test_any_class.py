"""Several classes: what the line stops for is any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inspection.label_book import SCRATCH_BOOK, WELD_BOOK
from tests.training.pictures import judged_picture
from training.card import _test
from training.evaluate import ANY, figures_of
from training.page import _classes
from training.report import figure_tables

K = len(WELD_BOOK.classes)


def test_a_defect_under_another_name_is_a_defect_found() -> None:
    """Every defect is seen and called the next class: nothing by class, everything for the line."""
    pictures = [judged_picture(n, n % K, (n + 1) % K, 0.9) for n in range(12)]
    pictures += [judged_picture(20 + n, None, 0, 0.1) for n in range(12)]
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
    pictures = [judged_picture(n, 0 if n % 2 else None, 0, 0.9 if n % 2 else 0.1) for n in range(12)]
    one = [
        replace(p, target=p.target[:1], scores=p.scores[:1], heat=p.heat[:1], cells=None, region_mm=p.region_mm[:1])
        for p in pictures
    ]
    found = figures_of("b-1", "s", "test", one, SCRATCH_BOOK)
    assert found.any_class is None
    assert found.rows == found.classes
