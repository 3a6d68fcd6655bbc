"""Publishing a draft of a label book: what it would touch, putting it into force, and who is asked again.

It is the only way a rule changes, and it says beforehand exactly which labels were made under a limit that no longer
holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from inspection.errors import InputError
from inspection.label_book import ClassRule
from review import audit
from review.label_books import ChangedMeanwhile, FramesNeeded, as_book, missing, newest, still_a_draft
from review.labelling import NEED
from review.language import _, plain
from review.measured import longest_mm, most_within
from review.store import BookFrame, BookRow, Label, LabelAssignment, Person, Record

RELABEL = "relabel "
"""How `LabelAssignment.why` begins where publishing asked; the book's id follows."""


@dataclass(frozen=True, slots=True)
class Touched:
    """A label whose answer the new limits put in question. `size_mm` is None where nobody measured the defect."""

    label: Label
    record: Record
    cls: str
    size_mm: float | None
    why: str


def touched(session: Session, row: BookRow) -> list[Touched]:
    """Labels made under limits that the draft changes: the defect they were about lies between old limit and new.

    The size is the one this person measured, else the mean of what others measured on the frame. Where a class was
    called whose limit changes and nobody measured it, the size could lie there, so that label is touched too.
    """
    old = newest(session, row.name)
    assert old is not None
    found: list[Touched] = []
    changed = [(old.rule(rule.cls), rule) for rule in as_book(row).rules if rule != old.rule(rule.cls)]
    for record, labels in _labelled(session, row.name):
        for before, rule in changed:
            sizes = {label.id: longest_mm(label, rule.cls) for label in labels}
            others = [s for s in sizes.values() if s is not None]
            for label in labels:
                own = sizes[label.id]
                size = own if own is not None else sum(others) / len(others) if others else None
                if why := _why_touched(before, rule, label, record, size):
                    found.append(Touched(label, record, rule.cls, size, why))
    return found


def _why_touched(before: ClassRule, rule: ClassRule, label: Label, record: Record, size: float | None) -> str:
    """Empty where the label's answer is the same under both rules."""
    low, high = sorted((before.limit_mm, rule.limit_mm))
    if low != high and size is None and rule.cls in label.classes:
        return _("never measured")
    if size is not None and low <= size < high:
        return _("between %(low)s and %(high)s mm", low=plain(low), high=plain(high))
    marked = rule.cls in label.classes or any(a["cls"] == rule.cls for a in label.annotations)
    if before.depth != rule.depth and marked:
        return _("judged by another depth")
    if before.count != rule.count and _counted(before, label, record) != _counted(rule, label, record):
        return _("as many regions are judged otherwise")
    return ""


def _counted(rule: ClassRule, label: Label, record: Record) -> bool:
    return rule.count is not None and most_within(rule.count, rule.cls, [label], record) >= rule.count.regions


def fingerprint(session: Session, row: BookRow) -> str:
    """Of all that publishing a draft puts into force: rules, reason, and the frames beside them."""
    shown = session.scalars(select(BookFrame).where(BookFrame.book_id == row.id).order_by(BookFrame.id))
    frames = [[f.cls, f.kind, f.record_id, f.note] for f in shown]
    said = json.dumps([row.version, row.rules, row.reason, frames], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def publish(
    session: Session, row: BookRow, person: str, needed: FramesNeeded, now_ms: int, labels_per_frame: int = NEED,
    seen: str | None = None,
) -> list[Touched]:  # fmt: skip
    """Put a draft into force and ask again for what it touches; InputError names what is missing, ChangedMeanwhile
    says that its `fingerprint` is not the `seen` one, of what the page showed.

    Everybody who labelled a touched frame is asked again, and so is whoever labelled a frame that has fewer than
    `labels_per_frame`: labels are only ever compared under one version.
    """
    still_a_draft(row)
    if lacks := missing(session, row, needed):
        what = _("cannot be published, it lacks %(lacks)s", lacks="; ".join(lacks))
        raise InputError(f"{row.name}@{row.version}", what, _("add them"))
    if seen is not None and seen != fingerprint(session, row):
        what = _("was changed since the page showed it")
        raise ChangedMeanwhile(f"{row.name}@{row.version}", what, _("read it below, then publish"))
    found = touched(session, row)
    again = {t.record.id for t in found}
    row.published_ms, row.published_by = now_ms, person
    why = f"{RELABEL}{row.name}@{row.version}"
    for record, labels in _labelled(session, row.name):
        people = {label.person for label in labels}
        if record.id in again or len(people) < labels_per_frame:
            _ask(session, record, people, why, now_ms)
    book = f"{row.name}@{row.version}"
    audit.note(session, person, "label_book_published", f"label book {book}", touched=len(found), reason=row.reason)
    session.flush()
    return found


def asked(session: Session, name: str) -> list[tuple[str, str]]:
    """(person, record uid) of each label that publishing asked for and that somebody still here has not given yet."""
    rows = session.execute(
        select(LabelAssignment.person, Record.uid)
        .join(Record, Record.id == LabelAssignment.record_id)
        .where(LabelAssignment.why.startswith(f"{RELABEL}{name}@", autoescape=True), LabelAssignment.done_ms.is_(None))
        .where(LabelAssignment.person.not_in(_left()))
        .order_by(LabelAssignment.id)
    )
    return [(person, uid) for person, uid in rows]


def waiting_to_relabel(session: Session, name: str) -> int:
    """How many labels publishing asked for and nobody has given yet."""
    return len(asked(session, name))


def current_labels(session: Session, name: str) -> list[Label]:
    """Every label in force that was made under some version of the book."""
    return [label for _, labels in _labelled(session, name) for label in labels]


def _left() -> Select[str]:
    return select(Person.name).where(Person.left_ms.is_not(None))


def _ask(session: Session, record: Record, people: Iterable[str], why: str, now_ms: int) -> None:
    """Whoever left is not asked: their label would be waited for, for good."""
    for person in sorted(set(people) - set(session.scalars(_left()))):
        session.add(LabelAssignment(record_id=record.id, person=person, why=why[:32], created_ms=now_ms))


def _labelled(session: Session, name: str) -> Sequence[tuple[Record, list[Label]]]:
    rows = session.execute(
        select(Record, Label)
        .join(Label, Label.record_id == Record.id)
        .where(Label.superseded_ms.is_(None), Label.label_book.startswith(f"{name}@", autoescape=True))
        .order_by(Record.ts_ms, Record.id, Label.id)
    )
    found: dict[int, tuple[Record, list[Label]]] = {}
    for record, label in rows:
        found.setdefault(record.id, (record, []))[1].append(label)
    return list(found.values())
