"""The label book: a size on the limit is a defect, and a book is whole or refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from inspection.label_book import BOOKS, SCRATCH_BOOK, WELD_BOOK, ClassRule, CountLimit, LabelBook
from training.dataset.snapshot import snapshot_id

PORES: dict[str, Any] = {"cls": "pore", "title": "Pore", "limit_mm": 0.5, "rule": "A pore."}


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


def test_a_rule_without_count_and_depth_is_written_as_before_they_existed() -> None:
    """Ids of snapshots are hashes of this: a null more, and every snapshot there is would be refused."""
    fields = ["cls", "title", "limit_mm", "ambiguous_mm", "rule", "color"]
    assert list(SCRATCH_BOOK.model_dump(mode="json")["rules"][0]) == fields
    assert snapshot_id("scratch", SCRATCH_BOOK, "0" * 64) == "scratch-cd6b072ac393"


def test_a_rule_with_count_and_depth_reads_as_it_was_written() -> None:
    depth = {"depth_mm": 0.3, "sign": "width of the dark edge", "sign_mm": 0.8}
    rule = ClassRule(**PORES, count={"regions": 3, "within_mm": 10}, depth=depth)
    assert ClassRule.model_validate_json(rule.model_dump_json()) == rule
    assert rule.model_dump(mode="json")["depth"] == depth
    assert rule.count
    assert rule.count.per_mm == pytest.approx(0.3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": {"regions": 1, "within_mm": 10}},
        {"count": {"regions": 3, "within_mm": 0}},
        {"count": {"regions": 3, "within_mm": float("inf")}},
        {"count": {"regions": 3}},
        {"depth": {"depth_mm": 0.3, "sign_mm": 0.8}},
        {"depth": {"depth_mm": 0.3, "sign": "", "sign_mm": 0.8}},
        {"depth": {"depth_mm": -0.3, "sign": "edge", "sign_mm": 0.8}},
    ],
    ids=str,
)
def test_half_a_count_or_depth_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClassRule(**(PORES | wrong))


def test_regions_count_together_by_the_distance_of_their_middles() -> None:
    count = CountLimit(regions=3, within_mm=10)
    assert count.most([]) == 0
    assert count.most([(0, 0), (10, 0), (20, 0)]) == 3, "both are 10 mm from the middle one"
    assert count.most([(0, 0), (10.01, 0), (0, 50)]) == 1
    assert count.most([(0, 0), (6, 8), (6, 8.1)]) == 3, "from the second it is 10 and 0.1 mm"
