"""Before and after one rule, on the frames themselves: what the page shows against labels made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from review import before_after, consistency, label_books, publishing
from review.consistency import DEFECT, GOOD, FrameLabels
from review.store import Record
from tests.review.test_consistency import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def frames(world: World, book: str = "scratch@1") -> list[FrameLabels]:
    with world.hub.store.reading() as session:
        return consistency.frames(session, book, "scratch", consistency.parts_of(session))


def test_a_limit_judges_what_each_person_measured(world: World) -> None:
    one, two, three, four = (world.frame() for _ in range(4))
    world.label(one, "Ann", True, 1.0)
    world.label(one, "Bob", False)  # measured nothing: Ann's 1.0 mm counts for both
    world.label(two, "Ann", True, 1.4)
    world.label(two, "Bob", True, 1.6)  # on both sides of 1.5
    world.label(three, "Ann", True, 2.0)
    world.label(three, "Bob", True, 2.1)
    world.label(four, "Ann", True)
    world.label(four, "Bob", False)  # nobody measured
    both = before_after.compare(frames(world), 1.5)
    assert [t.by_limit for t in both.turns] == [
        {"Ann": GOOD, "Bob": GOOD},
        {"Ann": GOOD, "Bob": DEFECT},
        {"Ann": DEFECT, "Bob": DEFECT},
    ]
    assert (both.unmeasured, both.labels, both.turned, both.differed, both.still_differ) == (1, 6, 2, 1, 1)
    assert [t.size_mm for t in both.nearest(9)] == [1.0, 1.5], "what neither differs nor turns is left out"
    assert [t.size_mm for t in both.nearest(1)] == [1.5]


def test_the_proposal_is_shown_on_the_frames_and_then_what_people_say_again(world: World) -> None:
    world.crew(90, {"Ann": 1.2, "Bob": 1.9})
    cy = world.browser("Cy")
    assert "/consistency/before-after?" in cy.get("/consistency").text
    text = cy.get("/consistency/before-after").text
    assert "beside the proposed limit" in text
    assert "→ <strong>" in text
    assert text.count("crop.jpg") == text.count("<figure") > 5
    with world.hub.store.writing() as session:
        row = label_books.draft(session, "scratch", "Cy", "one limit", 1)
        label_books.set_rule(session, row, "scratch", limit_mm=1.5)
        publishing.publish(session, row, "Cy", label_books.FramesNeeded(0, 0, 0), 2)
    before = frames(world)
    for f in before:
        for person in f.answers:
            size = f.size_mm
            assert size
            world.label(f.record.uid, person, size >= 1.5, size, label_book="scratch@2", created_ms=3)
    both = before_after.compare(before, 1.5, frames(world, "scratch@2"))
    differed, differ_now = both.relabelled_differ
    assert differed == both.differed > 5
    assert differ_now == 0
    assert both.again.alpha.value == 1.0 > both.relabelled.alpha.value
    text = cy.get("/consistency/before-after?book=scratch&version=scratch@1&cls=scratch").text
    assert "Said again under scratch@2" in text
    assert "beside the limit of scratch@2, 1.5 mm" in " ".join(text.split())


def test_too_little_is_said_so_and_a_labeller_stays_blind(world: World) -> None:
    world.crew(12, {"Ann": 1.4, "Bob": 1.6})
    assert "Not enough evidence" in world.browser("Cy").get("/consistency/before-after").text
    assert world.browser("Ann").get("/consistency/before-after").status_code == 403


def test_a_picture_is_cut_around_the_largest_mark(world: World) -> None:
    uid = world.frame(width_px=640, height_px=480)
    world.label(uid, "Ann", True, annotations=[{"cls": "scratch", "box_px": [300.0, 200.0, 40.0, 4.0], "length_mm": 2}])
    world.label(uid, "Bob", True, annotations=[{"cls": "scratch", "box_px": [10.0, 10.0, 4.0, 4.0], "length_mm": 0.2}])
    with world.hub.store.reading() as session:
        record = session.scalars(select(Record)).one()
        place = before_after.places(session, [record], "scratch")[record.id]
    assert place.box_px == (300.0, 200.0, 40.0, 4.0)
    rect = place.rect
    assert (rect.w, rect.h) == (128, 96)
    assert rect.x < 300 < 340 < rect.x + rect.w
