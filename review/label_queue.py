"""Which frames wait for whose label, and how a label is kept. Times are Unix ms; sessions come from the store.

Blindness is held here: no query gives a person anybody else's classes, marks or mask, and a frame that is shown as a
check (`store.blind.Showing`) comes as a `Task` like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, String, and_, cast, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from inspection.label_book import BOOKS, LabelBook
from review.clock import wall_ms
from review.label_books import newest
from review.labelling import NEED, CheckedLabel
from review.publishing import RELABEL
from review.store import Adjudication, Label, LabelAssignment, Person, Record, Showing

BLIND = "blind"
"""`LabelAssignment.why` of the people a frame was dealt out to."""
RESERVED_MS = 8 * 3600 * 1000
"""A frame that was dealt out waits a shift for its people, then it is anybody's."""

SETTLES = ("engineer", "admin")
"""Who is asked, blind like everybody, for the third label where two people differ; the majority decides."""

WORTH_A_LABEL = ("uncertain", "defect", "unstable", "disagreement", "novel", "audit", "halt")
"""Reasons a record was kept for that ask for labels; `context` frames are there to be looked at."""

COUNTED = 1000
"""A queue is counted so far: nobody labels more in a week, and counting millions takes a minute."""
LATELY = 10_000
"""So many of the newest records are looked at for frames that nobody can label."""

ASIDE = ("repeat", "gold")
"""Kinds of showing whose label is no label of the frame: it measures the person and is kept beside."""


@dataclass(frozen=True, slots=True)
class Task:
    """A frame as one person is asked to label it; `uid` is all they are told of which frame it is."""

    uid: str
    record: Record
    showing: Showing | None = None

    @property
    def flip(self) -> str:
        return self.showing.flip if self.showing else ""

    @property
    def aside(self) -> bool:
        return self.showing is not None and self.showing.kind in ASIDE


@dataclass(frozen=True, slots=True)
class Queue:
    """`tasks`: the first few that wait for this person, oldest first; `total`: how many do, counted to `COUNTED`."""

    tasks: Sequence[Task]
    total: int

    @property
    def counted(self) -> str:
        return f"{COUNTED}+" if self.total >= COUNTED else str(self.total)


def book_of(session: Session, record: Record) -> LabelBook | None:
    """The label book in force for the record's task, which may be newer than the one its model was made under."""
    return newest(session, record.label_book.partition("@")[0])


def find(session: Session, uid: str) -> Record | None:
    return session.scalar(select(Record).where(Record.uid == uid))


def task(session: Session, uid: str, person: str) -> Task | None:
    """What the person is shown under this id; None also for what is somebody else's to see."""
    showing = session.scalar(select(Showing).where(Showing.uid == uid, Showing.person == person))
    if showing is not None:
        return Task(uid, showing.record, showing)
    record = find(session, uid)
    return Task(uid, record) if record else None


def waiting_for(session: Session, person: Person, limit: int, need: int = NEED) -> Queue:
    wanted, mine = _wanted(person, need), _shown_to(person)
    first = _oldest_first(wanted).with_only_columns(Record.id).limit(COUNTED).subquery()
    total = session.scalar(select(func.count()).select_from(first)) or 0
    total += session.scalar(select(func.count()).select_from(Showing).where(mine)) or 0
    found = [Task(record.uid, record) for record in session.scalars(_oldest_first(wanted).limit(limit))]
    found += [Task(s.uid, s.record, s) for s in session.scalars(_by_place(mine).limit(limit))]
    return Queue(sorted(found, key=_place)[:limit], min(total, COUNTED))


def next_for(session: Session, person: Person, after: Task | None = None, need: int = NEED) -> Task | None:
    """The oldest that waits for this person; with `after`, the oldest behind that one, then from the start again."""
    wanted, mine = _wanted(person, need), _shown_to(person)
    if after is not None:
        behind_records, behind_showings = _behind(after)
        if found := _first(session, and_(wanted, behind_records), and_(mine, behind_showings)):
            return found
        if after.showing is None:
            wanted = and_(wanted, Record.id != after.record.id)
        else:
            mine = and_(mine, Showing.id != after.showing.id)
    return _first(session, wanted, mine)


def current(session: Session, shown: Task, person: str) -> Label | None:
    """What this person said of the frame in this showing; on the frame as it was taken, not mirrored."""
    mine = select(Label).where(Label.record_id == shown.record.id, Label.person == person)
    if shown.aside and shown.showing:
        mine = mine.where(Label.showing_id == shown.showing.id)
    else:
        mine = mine.where(Label.superseded_ms.is_(None))
    return session.scalar(mine.order_by(Label.id.desc()).limit(1))


def done_by(session: Session, person: str, since_ms: int) -> int:
    """How many frames this person labelled since then, checks among them."""
    mine = (Label.person == person, Label.created_ms >= since_ms)
    ordinary = select(func.count()).select_from(Label).where(*mine, Label.superseded_ms.is_(None))
    checks = select(func.count(func.distinct(Label.showing_id))).where(*mine)
    return (session.scalar(ordinary) or 0) + (session.scalar(checks) or 0)


def without_book(session: Session) -> int:
    """How many of the newest frames worth a label nobody can label: they name no label book the hub knows."""
    newest_id = session.scalar(select(func.max(Record.id))) or 0
    unknown = and_(Record.id > newest_id - LATELY, _worth_a_label(), ~_has_book())
    return session.scalar(select(func.count()).select_from(Record).where(unknown)) or 0


def save(
    session: Session, uid: str, person: str, label: CheckedLabel, mask_sha: str | None, now_ms: int, need: int = NEED
) -> Record:
    """Keep the label, made on the frame as it was taken, as this person's current one; an earlier one of theirs is
    superseded and stays as history. A label of a check is never current: it says something of the person only."""
    shown = task(session, uid, person)
    assert shown is not None
    # The lock makes two saves of one person on one frame follow each other on databases with several writers.
    record = session.scalars(select(Record).where(Record.id == shown.record.id).with_for_update(of=Record)).one()
    if not shown.aside:
        mine = (Label.record_id == record.id, Label.person == person, Label.superseded_ms.is_(None))
        session.execute(update(Label).where(*mine).values(superseded_ms=now_ms))
    session.add(
        Label(
            record_id=record.id,
            person=person,
            label_book=label.book,
            classes=list(label.classes),
            mask=mask_sha,
            annotations=[m.model_dump(mode="json") for m in label.marks],
            unsure=label.unsure,
            created_ms=now_ms,
            superseded_ms=now_ms if shown.aside else None,
            showing_id=shown.showing.id if shown.aside and shown.showing else None,
        )
    )
    session.flush()
    if shown.showing is not None:
        session.execute(update(Showing).where(Showing.id == shown.showing.id).values(done_ms=now_ms))
    if not shown.aside:
        _close_assignments(session, record, person, now_ms, need)
    return record


def _close_assignments(session: Session, record: Record, person: str, now_ms: int, need: int) -> None:
    """This person's are done. Once the frame has its labels, whoever else it was dealt out to need not look."""
    own = (LabelAssignment.record_id == record.id, LabelAssignment.person == person, LabelAssignment.done_ms.is_(None))
    session.execute(update(LabelAssignment).where(*own).values(done_ms=now_ms))
    people = select(func.count(func.distinct(Label.person))).where(Label.record_id == record.id, counted())
    if (session.scalar(people) or 0) >= need:
        close_dealt(session, record.id, now_ms)


def close_dealt(session: Session, record_id: int, now_ms: int) -> None:
    """The frame has its labels, or its answer: whoever it was dealt out to need not look."""
    dealt = (LabelAssignment.record_id == record_id, LabelAssignment.why == BLIND, LabelAssignment.done_ms.is_(None))
    session.execute(update(LabelAssignment).where(*dealt).values(done_ms=now_ms))
    mirrored = (Showing.record_id == record_id, Showing.kind == "mirror", Showing.done_ms.is_(None))
    session.execute(update(Showing).where(*mirrored).values(done_ms=now_ms))


def _first(session: Session, records: ColumnElement[bool], showings: ColumnElement[bool]) -> Task | None:
    record = session.scalar(_oldest_first(records).limit(1))
    showing = session.scalar(_by_place(showings).limit(1))
    found = [Task(record.uid, record)] if record else []
    found += [Task(showing.uid, showing.record, showing)] if showing else []
    return min(found, key=_place, default=None)


def _place(shown: Task) -> tuple[int, int, int]:
    """Where it stands in the queue: frames by the time they were taken, showings behind the frame they were put at."""
    if shown.showing is not None:
        return shown.showing.place_ms, 1, shown.showing.id
    return shown.record.ts_ms, 0, shown.record.id


def _behind(after: Task) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    at_ms, is_showing, row = _place(after)
    if is_showing:
        same = and_(Showing.place_ms == at_ms, Showing.id > row)
        return Record.ts_ms > at_ms, or_(Showing.place_ms > at_ms, same)
    return or_(Record.ts_ms > at_ms, and_(Record.ts_ms == at_ms, Record.id > row)), Showing.place_ms >= at_ms


def _oldest_first(wanted: ColumnElement[bool]) -> Select[Record]:
    return select(Record).where(wanted).order_by(Record.ts_ms, Record.id)


def _by_place(wanted: ColumnElement[bool]) -> Select[Showing]:
    return select(Showing).where(wanted).order_by(Showing.place_ms, Showing.id)


def _shown_to(person: Person) -> ColumnElement[bool]:
    return and_(Showing.person == person.name, Showing.done_ms.is_(None))


def _wanted(person: Person, need: int) -> ColumnElement[bool]:
    """Not labelled by this person, and one of: undecided and short of labels that nobody was asked for, undecided, in
    dispute and theirs to settle, assigned to them. What waits for them as a showing does not wait twice."""
    of_record, labels = (Label.record_id == Record.id, counted()), _labels()
    # Classes are stored in the label book's order, so equal answers are equal text.
    answer = cast(Label.classes, String) + cast(Label.unsure, String)
    answers = select(func.count(func.distinct(answer))).where(*of_record).correlate(Record).scalar_subquery()
    open_to_me = labels + _reserved(person) < need
    if person.role in SETTLES:
        open_to_me = or_(open_to_me, and_(labels == need, answers > 1))
    mine = exists().where(*of_record, Label.person == person.name)
    asked = exists().where(
        LabelAssignment.record_id == Record.id, LabelAssignment.person == person.name, LabelAssignment.done_ms.is_(None)
    )
    shown = exists().where(Showing.record_id == Record.id, _shown_to(person))
    wanted = or_(and_(_worth_a_label(), open_to_me, ~mine, ~_decided()), asked)
    return and_(Record.image.is_not(None), _has_book(), wanted, ~shown)


def counted() -> ColumnElement[bool]:
    """A current label under the newest rules among those of its frame, as `labelling.consensus` counts them: one that
    somebody who left made under older rules would else keep everybody from giving the label that is missing."""
    other = aliased(Label)
    later = (other.record_id == Label.record_id, other.superseded_ms.is_(None), is_newer(other, Label))
    return and_(Label.superseded_ms.is_(None), ~exists().where(*later).correlate(Label))


def _decided() -> ColumnElement[bool]:
    """Somebody adjudicated the frame, and no label is under newer rules than that (`adjudication.in_force`)."""
    later = (Label.record_id == Adjudication.record_id, Label.superseded_ms.is_(None), is_newer(Label, Adjudication))
    overtaken = exists().where(*later).correlate(Adjudication)
    return exists().where(Adjudication.record_id == Record.id, Adjudication.superseded_ms.is_(None), ~overtaken)


def is_newer(a: type[Label], b: type[Label | Adjudication]) -> ColumnElement[bool]:
    """Whether `a` was made under a later version than `b`, of the one book its frame has: `weld@10` after `weld@9`."""
    length = func.length(a.label_book) - func.length(b.label_book)
    return or_(length > 0, and_(length == 0, a.label_book > b.label_book))


def _labels() -> ColumnElement[int]:
    """How many people's labels of the frame count."""
    of_record = (Label.record_id == Record.id, counted())
    return select(func.count(func.distinct(Label.person))).where(*of_record).correlate(Record).scalar_subquery()


def _reserved(person: Person) -> ColumnElement[int]:
    """How many labels of the frame others were asked for and have not given: lately, or again after a new rule."""
    now_ms, dealt_ms = wall_ms(), LabelAssignment.created_ms  # dealt long after now: the clock was ahead
    within = (dealt_ms > now_ms - RESERVED_MS, dealt_ms < now_ms + RESERVED_MS)
    lately = and_(LabelAssignment.why == BLIND, *within)
    of_others = (or_(lately, _again()), LabelAssignment.person != person.name)
    return _outstanding(*of_others)


def _again() -> ColumnElement[bool]:
    """Asked to label again by somebody who is still here, and without a label that counts: who has one is counted by
    that."""
    has = exists().where(
        Label.record_id == LabelAssignment.record_id, Label.person == LabelAssignment.person, counted()
    )
    left = exists().where(Person.name == LabelAssignment.person, Person.left_ms.is_not(None))
    return and_(LabelAssignment.why.startswith(RELABEL), ~has.correlate(LabelAssignment), ~left)


def _outstanding(*which: ColumnElement[bool]) -> ColumnElement[int]:
    of_record = (LabelAssignment.record_id == Record.id, LabelAssignment.done_ms.is_(None), *which)
    return select(func.count()).select_from(LabelAssignment).where(*of_record).correlate(Record).scalar_subquery()


def short_of_labels(need: int) -> ColumnElement[bool]:
    """Undecided frames worth a label that fewer than `need` people have labelled or are asked to label again, and that
    were dealt out to nobody."""
    labels = _labels() + _outstanding(_again())
    dealt = exists().where(LabelAssignment.record_id == Record.id, LabelAssignment.why == BLIND)
    return and_(_worth_a_label(), _has_book(), labels < need, ~dealt, ~_decided())


def _worth_a_label() -> ColumnElement[bool]:
    # The column is JSON text on every database; its few fixed words need no JSON operators, which differ.
    text = cast(Record.why, String)
    return and_(Record.image.is_not(None), or_(*(text.like(f'%"{why}"%') for why in WORTH_A_LABEL)))


def _has_book() -> ColumnElement[bool]:
    return or_(*(Record.label_book.startswith(f"{book.name}@", autoescape=True) for book in BOOKS.values()))
