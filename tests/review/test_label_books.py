"""Label book versions: drafted, refused with what is missing, published, and every label they touch asked for again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from inspection.errors import InputError
from inspection.label_book import SCRATCH_BOOK, WELD_BOOK
from review import label_books as books
from review import label_queue, publishing
from review.people import add_person
from review.store import AuditRow, BookRow, Label, LabelAssignment, Person, Record, Station, Store

FEW = books.FramesNeeded(example=1, counterexample=1, borderline=0)
NONE = books.FramesNeeded(0, 0, 0)


class World:
    """A store with a station, two inspectors and frames of scratches."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(f"sqlite:///{folder / 'hub.db'}")
        self.store.migrate()
        for name in ("Ann", "Bob"):
            add_person(self.store, name, "inspector")
        with self.store.writing() as session:
            session.add(Station(site="p", line="l", station="press"))
        self.count = 0

    def frame(self, book: str = "scratch@1") -> str:
        self.count += 1
        with self.store.writing() as session:
            row = Record(
                uid=f"{self.count:032x}", station_id=1, why=["uncertain"], camera="cam", frame_id=self.count,
                ts_ms=self.count * 100_000, call="uncertain", scores={}, findings=[], image="0" * 64, heat=None,
                heat_cls="", heat_to_frame=[], px_per_mm=20.0, width_px=80, height_px=60, halt=0, part="", model="",
                policy="", label_book=book, stages_ms={}, received_ms=0,
            )  # fmt: skip
            session.add(row)
            return row.uid

    def label(self, uid: str, person: str, size_mm: float | None, defect: bool, book: str = "scratch@1") -> None:
        marks: list[dict[str, Any]] = [] if size_mm is None else [{"cls": "scratch", "length_mm": size_mm}]
        with self.store.writing() as session:
            record = session.scalars(select(Record).where(Record.uid == uid)).one()
            session.add(
                Label(
                    record_id=record.id, person=person, label_book=book, classes=["scratch"] if defect else [],
                    mask=None, annotations=marks, unsure=False, created_ms=self.count,
                )
            )  # fmt: skip

    def draft(self, session: Session, limit_mm: float) -> BookRow:
        row = books.draft(session, "scratch", "Cy", "people differ below 2 mm", 5)
        books.set_rule(session, row, "scratch", limit_mm=limit_mm)
        return row


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_hub_starts_from_the_installed_books(world: World) -> None:
    with world.store.reading() as session:
        assert books.newest(session, "scratch") == SCRATCH_BOOK
        assert books.by_id(session, "weld@1") == WELD_BOOK
        assert books.newest(session, "paint") is None


def test_a_draft_holds_nowhere_until_it_is_published(world: World) -> None:
    uid = world.frame()
    with world.store.writing() as session:
        row = world.draft(session, 2.0)
        assert books.draft(session, "scratch", "Dee", "another", 6) is row, "one draft at a time"
        record = label_queue.find(session, uid)
        assert record is not None
        in_force = label_queue.book_of(session, record)
        assert in_force is not None
        assert in_force.id == "scratch@1"
        publishing.publish(session, row, "Cy", NONE, 7)
        in_force = label_queue.book_of(session, record)
        assert in_force is not None
        assert (in_force.id, in_force.rule("scratch").limit_mm) == ("scratch@2", 2.0)
        assert [b.id for b in books.versions(session, "scratch")] == ["scratch@2", "scratch@1"]


def test_publishing_is_refused_with_what_is_missing(world: World) -> None:
    uids = [world.frame() for _ in range(3)]
    with world.store.writing() as session:
        row = books.draft(session, "scratch", "Cy", "", 5)
        assert books.missing(session, row, books.FramesNeeded()) == [
            "the reason of this version",
            "Scratch: 4 more examples (0 of 4)",
            "Scratch: 3 more counterexamples (0 of 3)",
            "Scratch: 3 more borderline cases (0 of 3)",
        ]
        with pytest.raises(InputError, match="1 more example"):
            publishing.publish(session, row, "Cy", FEW, 7)
        books.set_reason(session, row, "Cy", "clearer")
        books.show_frame(session, row, "scratch", "example", uids[0], "", "Cy", 6)
        books.show_frame(session, row, "scratch", "example", uids[1], "", "Cy", 6)
        moved = books.show_frame(session, row, "scratch", "counterexample", uids[1], "too short", "Cy", 6)
        assert books.missing(session, row, FEW) == []
        books.hide_frame(session, row, moved.id)
        assert books.missing(session, row, FEW) == ["Scratch: 1 more counterexample (0 of 1)"]
        with pytest.raises(InputError, match="no record with a picture"):
            books.show_frame(session, row, "scratch", "example", "nope", "", "Cy", 6)
        with pytest.raises(InputError, match="no class and kind"):
            books.show_frame(session, row, "rust", "example", uids[0], "", "Cy", 6)


def test_a_published_version_stays_as_it_is_and_its_frames_go_on(world: World) -> None:
    uid = world.frame()
    with world.store.writing() as session:
        row = world.draft(session, 2.0)
        frame = books.show_frame(session, row, "scratch", "borderline", uid, "look twice", "Cy", 6)
        publishing.publish(session, row, "Cy", NONE, 7)
        for act in (
            lambda: books.set_rule(session, row, "scratch", limit_mm=9.0),
            lambda: books.hide_frame(session, row, frame.id),
            lambda: publishing.publish(session, row, "Cy", NONE, 8),
        ):
            with pytest.raises(InputError, match="stays as it is"):
                act()
        following = books.draft(session, "scratch", "Cy", "next", 9)
        copied = books.frames_of(session, books.as_book(following))["scratch"]["borderline"]
        assert [(f.record.uid, f.note) for f in copied] == [(uid, "look twice")]
        assert session.scalars(select(AuditRow.what)).all()[-1] == "label_book_published"


@pytest.mark.parametrize("bad", [{"limit_mm": -1}, {"ambiguous_mm": (3.0, 1.0)}, {"rule": ""}])
def test_what_is_no_rule_is_refused(world: World, bad: dict[str, object]) -> None:
    with world.store.writing() as session:
        row = books.draft(session, "scratch", "Cy", "x", 5)
        with pytest.raises(InputError, match="scratch / scratch"):
            books.set_rule(session, row, "scratch", **bad)


def test_a_new_limit_touches_exactly_what_lies_between(world: World) -> None:
    """1.5 -> 2.0 mm: called under a rule that no longer holds are sizes from 1.5 to below 2."""
    sizes = {1.49: False, 1.5: True, 1.99: True, 2.0: True}
    uids = {size: world.frame() for size in sizes}
    for size, uid in uids.items():
        for person in ("Ann", "Bob"):
            world.label(uid, person, size, sizes[size])
    unmeasured = world.frame()
    world.label(unmeasured, "Ann", None, True)
    world.label(unmeasured, "Bob", None, False)
    borrowed = world.frame()
    world.label(borrowed, "Ann", 1.7, True)
    world.label(borrowed, "Bob", None, False)
    with world.store.writing() as session:
        found = publishing.touched(session, world.draft(session, 2.0))
        assert {(t.record.uid, t.label.person, t.size_mm) for t in found} == {
            (uids[1.5], "Ann", 1.5), (uids[1.5], "Bob", 1.5), (uids[1.99], "Ann", 1.99), (uids[1.99], "Bob", 1.99),
            (unmeasured, "Ann", None), (borrowed, "Ann", 1.7), (borrowed, "Bob", 1.7),
        }  # fmt: skip


def test_publishing_asks_again_for_what_it_touches_and_for_half_pairs(world: World) -> None:
    touched, clear, half = world.frame(), world.frame(), world.frame()
    world.label(touched, "Ann", 1.7, True)
    world.label(touched, "Bob", 1.4, False)  # clear by itself, but it is compared with Ann's
    world.label(clear, "Ann", 3.0, True)
    world.label(clear, "Bob", 3.1, True)
    world.label(half, "Ann", 4.0, True)
    with world.store.writing() as session:
        publishing.publish(session, world.draft(session, 2.0), "Cy", NONE, 7)
        rows = session.scalars(select(LabelAssignment)).all()
        of = {r.id: r.uid for r in session.scalars(select(Record))}
        assert {(of[r.record_id], r.person, r.why) for r in rows} == {
            (touched, "Ann", "relabel scratch@2"), (touched, "Bob", "relabel scratch@2"),
            (half, "Ann", "relabel scratch@2"),
        }  # fmt: skip
        assert publishing.waiting_to_relabel(session, "scratch") == 3
    with world.store.reading() as session:
        ann = session.scalars(select(Person).where(Person.name == "Ann")).one()
        waiting = label_queue.waiting_for(session, ann, 10)
        assert {t.uid for t in waiting.tasks} == {touched, half}


def test_new_words_alone_touch_no_label(world: World) -> None:
    uid = world.frame()
    for person in ("Ann", "Bob"):
        world.label(uid, person, 1.6, True)
    with world.store.writing() as session:
        row = books.draft(session, "scratch", "Cy", "clearer", 5)
        books.set_rule(session, row, "scratch", rule="A scratch 1.5 mm or longer, measured along its whole course.")
        assert publishing.publish(session, row, "Cy", NONE, 7) == []
        assert publishing.waiting_to_relabel(session, "scratch") == 0


PX_PER_MM = 20.0


def pores(*at_mm: float, size_mm: float = 0.1) -> list[dict[str, Any]]:
    """Marks of small regions, side by side at these places."""
    return [{"cls": "scratch", "length_mm": size_mm, "box_px": [x * PX_PER_MM - 1, 10, 2, 2]} for x in at_mm]


def marked(world: World, marks: list[dict[str, Any]], defect: bool, person: str = "Ann") -> str:
    uid = world.frame()
    world.label(uid, person, None, defect)
    with world.store.writing() as session:
        session.scalars(select(Label).order_by(Label.id.desc()).limit(1)).one().annotations = marks
    return uid


def test_a_changed_count_touches_exactly_the_labels_it_judges_otherwise(world: World) -> None:
    three = marked(world, pores(0.5, 1.0, 1.5), defect=True)
    marked(world, pores(0.5, 1.0), defect=False)
    marked(world, pores(0.2, 1.9, 3.6), defect=False)
    marked(world, pores(), defect=False)
    with world.store.writing() as session:
        row = books.draft(session, "scratch", "Cy", "small ones together", 5)
        assert publishing.touched(session, row) == []
        books.set_rule(session, row, "scratch", count={"regions": 3, "within_mm": 1.0})
        found = publishing.touched(session, row)
        assert [(t.record.uid, t.why) for t in found] == [(three, "as many regions are judged otherwise")]


def test_a_changed_depth_touches_every_label_that_marked_the_class(world: World) -> None:
    called, seen = marked(world, [], defect=True), marked(world, pores(1.0), defect=False)
    marked(world, [], defect=False)
    with world.store.writing() as session:
        row = books.draft(session, "scratch", "Cy", "deep ones", 5)
        depth = {"depth_mm": 0.3, "sign": "dark edge", "sign_mm": 0.8}
        books.set_rule(session, row, "scratch", depth=depth)
        assert [t.record.uid for t in publishing.touched(session, row)] == [called, seen]
        publishing.publish(session, row, "Cy", NONE, 7)
        newest = books.newest(session, "scratch")
        assert newest
        assert newest.rule("scratch").depth.model_dump() == depth  # type: ignore[union-attr]


def test_frames_that_show_the_opposite_of_a_count_keep_a_book_from_being_published(world: World) -> None:
    few, many = marked(world, pores(0.5, 1.0), defect=True), marked(world, pores(0.5, 0.7, 0.9), defect=False)
    long = marked(world, pores(0.5, size_mm=1.6), defect=True)
    unknown = marked(world, [], defect=True)
    with world.store.writing() as session:
        row = books.draft(session, "scratch", "Cy", "small ones together", 5)
        for kind, uid in (("example", few), ("example", long), ("example", unknown), ("counterexample", many)):
            books.show_frame(session, row, "scratch", kind, uid, "", "Cy", 6)
        assert books.missing(session, row, NONE) == []
        books.set_rule(session, row, "scratch", count={"regions": 3, "within_mm": 1.0})
        assert books.missing(session, row, NONE) == [
            f"Scratch: frame {few[-8:]} has 2 within 1 mm and is too short: no defect by this rule",
            f"Scratch: frame {many[-8:]} has 3 within 1 mm: a defect by this rule",
        ]
        with pytest.raises(InputError, match="cannot be published"):
            publishing.publish(session, row, "Cy", NONE, 7)


@pytest.mark.parametrize(("each", "again"), [(1, []), (2, ["Ann"]), (3, ["Ann", "Ann", "Bob"])])
def test_a_frame_is_asked_for_again_until_it_has_as_many_labels_as_the_hub_wants(
    world: World, each: int, again: list[str]
) -> None:
    one, two = world.frame(), world.frame()
    for uid, person in ((one, "Ann"), (two, "Ann"), (two, "Bob")):
        world.label(uid, person, 9.0, True)
    with world.store.writing() as session:
        row = world.draft(session, 2.0)
        publishing.publish(session, row, "Cy", NONE, 7, each)
        assert sorted(person for person, _ in publishing.asked(session, "scratch")) == again
