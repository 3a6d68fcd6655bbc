"""The label book: a size on the limit is a defect, and a book is whole or refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from inspection.label_book import BOOKS, SCRATCH_BOOK, WELD_BOOK, ClassRule, LabelBook


@pytest.mark.parametrize(("length_mm", "defect"), [(1.49, False), (1.5, True), (9, True), (0, False)])
def test_a_region_on_the_limit_is_a_defect(length_mm: float, defect: bool) -> None:
    assert SCRATCH_BOOK.rule("scratch").is_defect(length_mm) == defect


@pytest.mark.parametrize(
    "wrong",
    [
        {"cls": "a b"},
        {"limit_mm": -1},
        {"limit_mm": float("nan")},
        {"ambiguous_mm": (3, 1)},
        {"rule": ""},
        {"color": "red"},
        {"color": "#D55E00"},
        {"unit": "mm"},
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_applied_is_refused(wrong: dict[str, Any]) -> None:
    good = {"cls": "dent", "title": "Dent", "limit_mm": 1.0, "rule": "A dent of 1 mm."}
    ClassRule(**good)
    with pytest.raises(ValidationError):
        ClassRule(**(good | wrong))


@pytest.mark.parametrize(
    "wrong",
    [{"rules": ()}, {"rules": SCRATCH_BOOK.rules * 2}, {"version": 0}, {"name": "Weld"}, {"name": "a@b"}, {"x": 1}],
    ids=str,
)
def test_a_book_that_is_not_whole_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LabelBook(**(SCRATCH_BOOK.model_dump() | wrong))


def test_a_book_reads_as_it_was_written_and_names_its_version() -> None:
    for task, book in BOOKS.items():
        assert LabelBook.model_validate_json(book.model_dump_json()) == book
        assert book.task == task
        assert book.id == f"{book.name}@1"


def test_a_class_without_a_rule_is_a_key_error_that_names_the_book() -> None:
    assert WELD_BOOK.classes == ("porosity", "undercut", "burn_through")
    assert WELD_BOOK.rule("undercut").limit_mm == 1.0
    with pytest.raises(KeyError, match="label book weld@1 has no class 'scratch'"):
        WELD_BOOK.rule("scratch")
