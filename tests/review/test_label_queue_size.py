"""With many records a queue is found by an index and counted to a bound, and only disputed labels are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import event

from review import label_queue, people
from review.export import groups_of, moments
from review.remembered import remembered
from review.store import Label, Person, Record, Station, Store

N = 40


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'hub.db'}")
    store.migrate()
    people.add_person(store, "Ann", "inspector")
    with store.writing() as session:
        session.add(Station(site="p", line="l", station="press"))
        session.flush()
        session.add_all(record(n, part="7" if n % 2 else "") for n in range(N))
    return store


def record(n: int, part: str = "", book: str = "weld@1", image: str | None = "f" * 64) -> Record:
    return Record(
        uid=f"{n:032x}", station_id=1, why=["uncertain"], camera="cam", frame_id=n, ts_ms=1000 * (N - n),
        call="uncertain", scores={}, findings=[], image=image, heat_to_frame=[], px_per_mm=10.0, width_px=64,
        height_px=48, label_book=book, stages_ms={}, received_ms=0, part=part,
    )  # fmt: skip


def ann(store: Store) -> Person:
    return next(p for p in people.everybody(store) if p.name == "Ann")


def test_a_long_queue_is_counted_to_its_bound_and_found_by_its_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_queue, "COUNTED", 25)
    said: list[str] = []
    event.listen(store._reader, "before_cursor_execute", lambda *args: said.append(args[2]))
    with store.reading() as session:
        queue = label_queue.waiting_for(session, ann(store), 3)
        assert (queue.total, queue.counted) == (25, "25+")
        assert [t.record.frame_id for t in queue.tasks] == [39, 38, 37], "oldest first"
    (first,) = [sql for sql in said if "ORDER BY records.ts_ms" in sql and "count(*)" not in sql.split("FROM")[0]]
    with store.reading() as session:
        raw = session.connection().connection.cursor()
        marks = first.count("?")
        plan = " ".join(str(r) for r in raw.execute(f"EXPLAIN QUERY PLAN {first}", ["x"] * marks).fetchall())
    assert "ix_records_pictured" in plan
    assert "TEMP B-TREE FOR ORDER BY" not in plan


def test_frames_nobody_can_label_are_looked_for_among_the_newest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_queue, "LATELY", 10)
    with store.writing() as session:
        session.add(record(100, book="lost@1"))
        session.add(record(101, book="lost@1", image=None))
    with store.reading() as session:
        assert label_queue.without_book(session) == 1
    with store.writing() as session:
        session.add_all(record(200 + n) for n in range(10))
    with store.reading() as session:
        assert label_queue.without_book(session) == 0


def test_groups_come_from_parts_and_from_the_streams_of_labelled_frames_only(store: Store) -> None:
    with store.writing() as session:
        session.add(Station(site="p", line="l", station="other"))
        session.flush()
        session.add_all(
            Record(**{**columns(record(300 + n)), "station_id": 2, "ts_ms": 1000 * n, "part": ""}) for n in range(5)
        )
    with store.reading() as session:
        assert moments(session) == [], "nothing is labelled yet"
    with store.writing() as session:
        rows = {r.frame_id: r.id for r in session.query(Record)}
        session.add_all(
            Label(record_id=rows[n], person="Ann", label_book="weld@1", classes=[], annotations=[], created_ms=1)
            for n in (0, 1)
        )
    with store.reading() as session:
        found = moments(session)
        groups = groups_of(found)
    assert {m.place for m in found} == {"p~l~press/cam"}, "the other station's frames are nobody's business"
    assert len(found) == 1 + N // 2, "one of a part, and the whole stream around the other"
    assert groups[f"{1:032x}"] == "p~l~press/cam/part/7"
    # Frames 2 s apart are events of their own; in its stream frame 0 is the newest.
    assert groups[f"{0:032x}"] == f"p~l~press/cam/event/{1000 * N}"


def columns(row: Record) -> dict[str, object]:
    return {c.name: getattr(row, c.name) for c in Record.__table__.columns if c.name != "id" and c.name in row.__dict__}


def test_what_was_worked_out_of_all_labels_is_kept_until_somebody_labels(store: Store) -> None:
    made: list[int] = []

    def work() -> int:
        made.append(1)
        return len(made)

    def ask() -> int:
        with store.reading() as session:
            return remembered(session, "work", work)

    assert (ask(), ask()) == (1, 1)
    with store.writing() as session:
        session.add(Label(record_id=1, person="Ann", label_book="weld@1", classes=[], annotations=[], created_ms=1))
    assert (ask(), ask()) == (2, 2)
