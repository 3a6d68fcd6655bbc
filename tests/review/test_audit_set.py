"""People beside the model on the same frames: what each agrees on, and what the page says to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inspection.label_book import SCRATCH_BOOK
from review import audit_set
from review.store import Label, Record
from tests.review.test_consistency import World

RULE = SCRATCH_BOOK.rule("scratch")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def judged(
    world: World, model: bool, ann: bool, bob: bool, size_mm: float | None = None, cy: bool | None = None, **more: Any
) -> None:
    """One frame with its labels, in one transaction: there are hundreds."""
    world.count += 1
    fields: dict[str, Any] = {
        "uid": f"{world.count:032x}", "station_id": 1, "why": ["uncertain"], "camera": "cam", "frame_id": world.count,
        "ts_ms": world.count * 100_000, "call": "defect" if model else "pass", "scores": {},
        "findings": [{"cls": "scratch"}] if model else [], "image": "0" * 64, "heat": None, "heat_cls": "",
        "heat_to_frame": [], "px_per_mm": 20.0, "width_px": 80, "height_px": 60, "halt": 0, "part": f"P{world.count}",
        "model": "scratch-1", "policy": "", "label_book": "scratch@1", "stages_ms": {}, "received_ms": 0,
    }  # fmt: skip
    marks = [] if size_mm is None else [{"cls": "scratch", "length_mm": size_mm}]
    with world.hub.store.writing() as session:
        record = Record(**{**fields, **more})
        session.add(record)
        session.flush()
        for person, said in (("Ann", ann), ("Bob", bob), ("Cy", cy)):
            if said is not None:
                session.add(
                    Label(
                        record_id=record.id, person=person, label_book="scratch@1", mask=None, annotations=marks,
                        classes=["scratch"] if said else [], unsure=False, created_ms=0,
                    )
                )  # fmt: skip


def slices(world: World) -> dict[str, audit_set.Slice]:
    return {s.name: s for s in audit_set.compare(world.frames(), RULE)}


def test_only_frames_that_two_people_and_the_model_judged_count(world: World) -> None:
    judged(world, True, True, True)
    unsure = world.frame(call="uncertain")
    for person in ("Ann", "Bob"):
        world.label(unsure, person, True)
    world.label(world.frame(call="pass"), "Ann", False)
    assert slices(world)["All"].frames == 1
    assert slices(world)["All"].advice == "too few"


def test_shares_are_pairs_of_people_and_the_model_with_each(world: World) -> None:
    for n in range(24):
        judged(world, n % 2 == 0, True, n % 4 != 0)
    whole = slices(world)["All"]
    assert whole.people.observed.value == pytest.approx(18 / 24)
    assert whole.model.observed.value == pytest.approx(18 / 48)
    assert whole.gap.value == pytest.approx(18 / 24 - 18 / 48)


def test_where_people_agree_little_it_is_the_rule_and_not_the_model(world: World) -> None:
    """Large scratches: people agree and the model misses half. Near the limit people differ: training is no use."""
    for n in range(40):
        judged(world, n % 4 == 0, n % 2 == 0, n % 2 == 0, 4.0 if n % 2 == 0 else 3.5)
        judged(world, n % 2 == 0, n % 2 == 0, n % 3 == 0, 1.6)
    found = slices(world)
    assert found["From 3 mm on"].advice == "train more"
    assert found["1 to 3 mm"].advice == "fix the rule"
    page = world.browser("Cy").get("/consistency/people-and-model?book=scratch").text
    rows = {row.split("</th>")[0]: row for row in page.split("<tr><th>")[1:]}
    assert "Train more" in rows["From 3 mm on"]
    assert "Fix the rule" in rows["1 to 3 mm"]
    assert "Train more" not in rows["1 to 3 mm"]


def test_a_model_as_good_as_people_and_one_that_is_suspiciously_better(world: World) -> None:
    for n in range(60):
        bad = n % 2 == 0
        judged(world, bad != (n % 15 == 7), bad, bad != (n % 15 == 3), 4.0)
    assert slices(world)["All"].advice == "as good as people"
    for n in range(100):
        bad = n % 2 == 0
        judged(world, bad, bad, bad, 0.5, cy=bad != (n % 10 == 1))
    found = slices(world)
    assert found["Under 1 mm"].advice == "better than people"
    assert found["From 3 mm on"].advice == "as good as people"


def test_random_audits_are_a_slice_of_their_own(world: World) -> None:
    judged(world, False, False, False, why=["audit"])
    judged(world, True, True, False)
    found = slices(world)
    assert found["Random audits"].frames == 1
    assert found["Random audits"].people.observed.value == 1.0
    assert world.browser("Ann").get("/consistency/people-and-model").status_code == 403
