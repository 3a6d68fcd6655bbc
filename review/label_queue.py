"""Which frames wait for whose label, and how a label is kept. Times are Unix ms; sessions come from the store.

Blindness is held here: no query gives a person anybody else's classes, marks or mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, String, and_, cast, exists, func, or_, select, update
from sqlalchemy.orm import Session

from inspection.label_book import BOOKS, LabelBook
from review.label_books import newest
from review.labelling import CheckedLabel
from review.store import Adjudication, Label, LabelAssignment, Person, Record

NEED = 2
"""How many people label a frame. Two is what agreement can be measured from."""

SETTLES = ("engineer", "admin")
"""Who is asked, blind like everybody, for the third label where two people differ; the majority decides."""

WORTH_A_LABEL = ("uncertain", "defect", "unstable", "disagreement", "audit", "halt")
"""Reasons a record was kept for that ask for labels; `context` frames are there to be looked at."""


@dataclass(frozen=True, slots=True)
class Queue:
    """`records`: the first few that wait for this person, oldest first; `total`: how many do."""

    records: Sequence[Record]
    total: int


def book_of(session: Session, record: Record) -> LabelBook | None:
    """The label book in force for the record's task, which may be newer than the one its model was made under."""
    return newest(session, record.label_book.partition("@")[0])


def find(session: Session, uid: str) -> Record | None:
    return session.scalar(select(Record).where(Record.uid == uid))


def waiting_for(session: Session, person: Person, limit: int, need: int = NEED) -> Queue:
    wanted = _wanted(person, need)
    total = session.scalar(select(func.count()).select_from(Record).where(wanted)) or 0
    return Queue(session.scalars(_oldest_first(wanted).limit(limit)).all(), total)


def next_for(session: Session, person: Person, after: Record | None = None, need: int = NEED) -> Record | None:
    """The oldest that waits for this person; with `after`, the oldest behind that one, then from the start again."""
    wanted = _wanted(person, need)
    if after is not None:
        later = or_(Record.ts_ms > after.ts_ms, and_(Record.ts_ms == after.ts_ms, Record.id > after.id))
        if found := session.scalar(_oldest_first(and_(wanted, later)).limit(1)):
            return found
        wanted = and_(wanted, Record.id != after.id)
    return session.scalar(_oldest_first(wanted).limit(1))


def current(session: Session, record: Record, person: str) -> Label | None:
    """This person's own label of the record."""
    mine = select(Label).where(Label.record_id == record.id, Label.person == person, Label.superseded_ms.is_(None))
    return session.scalar(mine.order_by(Label.id.desc()).limit(1))


def done_by(session: Session, person: str, since_ms: int) -> int:
    """How many frames this person labelled since then."""
    mine = (Label.person == person, Label.superseded_ms.is_(None), Label.created_ms >= since_ms)
    return session.scalar(select(func.count()).select_from(Label).where(*mine)) or 0


def without_book(session: Session) -> int:
    """How many frames worth a label nobody can label, because they name no label book the hub knows."""
    unknown = and_(_worth_a_label(), ~_has_book())
    return session.scalar(select(func.count()).select_from(Record).where(unknown)) or 0


def save(session: Session, uid: str, person: str, label: CheckedLabel, mask_sha: str | None, now_ms: int) -> Record:
    """Keep the label as this person's current one; an earlier one of theirs is superseded and stays as history."""
    # The lock makes two saves of one person on one frame follow each other on databases with several writers.
    record = session.scalars(select(Record).where(Record.uid == uid).with_for_update(of=Record)).one()
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
        )
    )
    asked = (LabelAssignment.record_id == record.id, LabelAssignment.person == person)
    session.execute(update(LabelAssignment).where(*asked, LabelAssignment.done_ms.is_(None)).values(done_ms=now_ms))
    return record


def _oldest_first(wanted: ColumnElement[bool]) -> Select[Record]:
    return select(Record).where(wanted).order_by(Record.ts_ms, Record.id)


def _wanted(person: Person, need: int) -> ColumnElement[bool]:
    """Not labelled by this person, and one of: short of labels, in dispute and theirs to settle, assigned to them."""
    of_record = (Label.record_id == Record.id, Label.superseded_ms.is_(None))
    labels = select(func.count(func.distinct(Label.person))).where(*of_record).correlate(Record).scalar_subquery()
    # Classes are stored in the label book's order, so equal answers are equal text.
    answer = cast(Label.classes, String) + cast(Label.unsure, String)
    answers = select(func.count(func.distinct(answer))).where(*of_record).correlate(Record).scalar_subquery()
    open_to_me = labels < need
    if person.role in SETTLES:
        decided = exists().where(Adjudication.record_id == Record.id, Adjudication.superseded_ms.is_(None))
        open_to_me = or_(open_to_me, and_(labels == need, answers > 1, ~decided))
    mine = exists().where(*of_record, Label.person == person.name)
    asked = exists().where(
        LabelAssignment.record_id == Record.id, LabelAssignment.person == person.name, LabelAssignment.done_ms.is_(None)
    )
    wanted = or_(and_(_worth_a_label(), open_to_me, ~mine), asked)
    return and_(Record.image.is_not(None), _has_book(), wanted)


def _worth_a_label() -> ColumnElement[bool]:
    # The column is JSON text on every database; its few fixed words need no JSON operators, which differ.
    text = cast(Record.why, String)
    return and_(Record.image.is_not(None), or_(*(text.like(f'%"{why}"%') for why in WORTH_A_LABEL)))


def _has_book() -> ColumnElement[bool]:
    return or_(*(Record.label_book.startswith(f"{book.name}@", autoescape=True) for book in BOOKS.values()))
