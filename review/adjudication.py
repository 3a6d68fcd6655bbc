"""Frames people label differently, worst first, and what an adjudicator decides about them, with a reason.

A decision holds for the version of the label book it was made under: newer labels under newer rules ask anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any

from sqlalchemy import Integer, String, cast, func, or_, select, update
from sqlalchemy.orm import Session

from inspection.errors import InputError
from inspection.label_book import LabelBook
from review.label_books import ChangedMeanwhile, newest
from review.label_queue import close_dealt
from review.language import _, class_words
from review.measured import longest_mm
from review.remembered import remembered
from review.store import Adjudication, Label, Record

MAX_REASON = 2000
MANY = 500
"""So many ids in one query: databases take no more than some thousands."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """One frame and the labels compared, all under `book_id`. `agreement`: share of pairs of people and classes that
    agree; `apart_mm`: the largest difference between two people's measurement of one class, None without two."""

    record: Record
    labels: tuple[Label, ...]
    book_id: str
    agreement: float
    apart_mm: float | None


def version_of(book_id: str) -> int:
    return int(book_id.rpartition("@")[2])


@dataclass(frozen=True, slots=True)
class _Compared:
    """What a `Dispute` says of its labels, without its record."""

    labels: tuple[Label, ...]
    book_id: str
    agreement: float
    apart_mm: float | None


def disputes(session: Session, of: Ranked | None = None) -> list[Dispute]:
    """Undecided frames on which current labels differ, lowest agreement first, then the largest difference in mm;
    `of`: those of `ranked` to read."""
    first = ranked(session) if of is None else of
    records: dict[int, Record] = {}
    for at in range(0, len(first), MANY):
        ids = [record_id for record_id, _uid, _compared in first[at : at + MANY]]
        records |= {r.id: r for r in session.scalars(select(Record).where(Record.id.in_(ids)))}
    return [_dispute(records[record_id], compared) for record_id, _uid, compared in first]


Ranked = list[tuple[int, str, _Compared]]


def shown_ranked(session: Session) -> Ranked:
    """`ranked` for pages, remembered until somebody labels or decides."""
    return remembered(session, "ranked", lambda: ranked(session))


def ranked(session: Session) -> Ranked:
    """Id and uid of each record of `disputes`, all of them in that order. Records stay unread, and so do labels that
    cannot be in dispute: there are many, and a page asks for this to tell how many are left."""
    settled = {(a.record_id, a.label_book) for a in _current(session)}
    differing = (
        select(Label.record_id)
        .where(Label.superseded_ms.is_(None))
        .group_by(Label.record_id)
        .having(func.count() > 1)
        # Classes are stored in the label book's order, so equal answers are equal text.
        .having(or_(func.count(cast(Label.classes, String).distinct()) > 1, func.max(cast(Label.unsure, Integer)) > 0))
    )
    rows = session.execute(
        select(Record.id, Record.uid, Record.ts_ms, Label)
        .join(Label, Label.record_id == Record.id)
        .where(Label.superseded_ms.is_(None), Record.image.is_not(None), Record.id.in_(differing))
        .order_by(Record.ts_ms, Record.id, Label.person)
    )
    found = []
    for record_id, pairs in groupby(rows, key=lambda row: row[0]):
        several = list(pairs)
        _, uid, ts_ms, _ = several[0]
        compared = _compare([row[3] for row in several])
        if compared.agreement < 1 and (record_id, compared.book_id) not in settled:
            found.append(((compared.agreement, -(compared.apart_mm or 0.0), ts_ms), (record_id, uid, compared)))
    return [row for _key, row in sorted(found, key=lambda pair: pair[0])]


def of_record(session: Session, uid: str) -> Dispute | None:
    """The frame with its labels, whether they differ or not; without any, under the rules in force. None where there is
    no such frame, or no rules for it."""
    record = session.scalar(select(Record).where(Record.uid == uid, Record.image.is_not(None)))
    if record is None:
        return None
    current = select(Label).where(Label.record_id == record.id, Label.superseded_ms.is_(None)).order_by(Label.person)
    labels = session.scalars(current).all()
    if labels:
        return compare(record, labels)
    book = newest(session, record.label_book.partition("@")[0])
    return Dispute(record, (), book.id, 1.0, None) if book else None


def compare(record: Record, labels: Sequence[Label]) -> Dispute:
    """Under the newest version among them; older labels answered another question."""
    return _dispute(record, _compare(labels))


def _dispute(record: Record, c: _Compared) -> Dispute:
    return Dispute(record, c.labels, c.book_id, c.agreement, c.apart_mm)


def _compare(labels: Sequence[Label]) -> _Compared:
    latest = max(version_of(label.label_book) for label in labels)
    counted = [label for label in labels if version_of(label.label_book) == latest]
    classes = sorted(
        {cls for label in counted for cls in label.classes} | {a["cls"] for m in counted for a in m.annotations}
    )
    votes = [_same(a, b, cls) for a, b in combinations(counted, 2) for cls in classes or [""]]
    return _Compared(
        tuple(counted),
        counted[0].label_book,
        sum(votes) / len(votes) if votes else 1.0,
        _apart(counted, classes),
    )


def decide(
    session: Session,
    uid: str,
    person: str,
    reason: str,
    now_ms: int,
    took: int | None = None,
    own: Mapping[str, float | None] | None = None,
    seen: int | None = None,
) -> Adjudication:
    """Keep a decision: the label `took` is right, or `own` classes (with lengths in mm) are. It supersedes an earlier.

    InputError without a reason, for a label that is not one of those compared, or for classes the book lacks;
    ChangedMeanwhile where the newest decision is another than `seen`, the one the page showed (0: none).
    """
    # The lock makes two who decide one frame follow each other on databases with several writers.
    session.scalar(select(Record.id).where(Record.uid == uid).with_for_update())
    dispute = of_record(session, uid)
    if dispute is None:
        raise InputError(uid, _("is no labelled frame"), _("choose one on the Adjudicate page"))
    if seen is not None:
        _refuse_unseen(session, dispute.record, seen)
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON:
        what = _("has %(n)s letters", n=len(reason))
        raise InputError(_("reason"), what, _("say why, in 1 to %(n)s letters", n=MAX_REASON))
    decision = _taken(dispute, took) if took is not None else _own(session, dispute, own or {})
    decision.person, decision.reason, decision.created_ms = person, reason, now_ms
    session.execute(
        update(Adjudication)
        .where(Adjudication.record_id == dispute.record.id, Adjudication.superseded_ms.is_(None))
        .values(superseded_ms=now_ms)
    )
    session.add(decision)
    close_dealt(session, dispute.record.id, now_ms)
    session.flush()
    return decision


def _refuse_unseen(session: Session, record: Record, seen: int) -> None:
    """What somebody else decided with a reason is not superseded by whoever never saw it."""
    decided = next(iter(history(session, record)), None)
    if decided is not None and decided.id != seen:
        raise ChangedMeanwhile(_("this frame"), decided_words(decided), _("read it below, then decide again"))


def decided_words(decision: Adjudication) -> str:
    """Who decided what, and why, for whoever was about to do it too."""
    answer = ", ".join(map(class_words, decision.classes)) or _("good")
    facts = {"name": decision.person, "answer": answer, "reason": decision.reason}
    return _("%(name)s decided it meanwhile: %(answer)s (%(reason)s)", **facts)


def history(session: Session, record: Record) -> list[Adjudication]:
    """Every decision about the frame, newest first."""
    return list(
        session.scalars(
            select(Adjudication).where(Adjudication.record_id == record.id).order_by(Adjudication.id.desc())
        )
    )


def in_force(session: Session, name: str) -> dict[int, Adjudication]:
    """Record id -> the decision that outranks its labels. One under older rules than the labels is no longer here."""
    found = {a.record_id: a for a in _current(session) if a.label_book.startswith(f"{name}@")}
    rows = session.execute(select(Label.record_id, Label.label_book).where(Label.superseded_ms.is_(None)))
    for record_id, book_id in rows:
        decision = found.get(record_id)
        if decision and version_of(book_id) > version_of(decision.label_book):
            del found[record_id]
    return found


def _current(session: Session) -> Sequence[Adjudication]:
    return session.scalars(select(Adjudication).where(Adjudication.superseded_ms.is_(None))).all()


def _taken(dispute: Dispute, label_id: int) -> Adjudication:
    label = next((found for found in dispute.labels if found.id == label_id), None)
    if label is None or label.unsure:
        what = _("was replaced meanwhile") if label is None else _("is unsure, which decides nothing")
        raise InputError(_("label"), what, _("reload the page and choose again"))
    return Adjudication(
        record_id=dispute.record.id, label_book=label.label_book, took=label.person, classes=list(label.classes),
        mask=label.mask, annotations=list(label.annotations),
    )  # fmt: skip


def _own(session: Session, dispute: Dispute, own: Mapping[str, float | None]) -> Adjudication:
    """A mask is kept from whoever named the very same classes; else there is none, and export counts it so."""
    book: LabelBook | None = newest(session, dispute.book_id.partition("@")[0])
    known = book.classes if book else ()
    if stray := sorted(set(own) - set(known)):
        what = _("%(classes)s are not in %(book)s", classes=", ".join(stray), book=dispute.book_id)
        raise InputError(_("classes"), what, _("use %(classes)s", classes=", ".join(known)))
    classes = [cls for cls in known if cls in own]
    masks = [m.mask for m in dispute.labels if classes and m.classes == classes and m.mask]
    marks: list[Any] = [{"cls": cls, "box_px": None, "length_mm": own[cls], "points_px": []} for cls in classes]
    return Adjudication(
        record_id=dispute.record.id, label_book=dispute.book_id, took="", classes=classes,
        mask=masks[0] if masks else None, annotations=marks,
    )  # fmt: skip


def _same(a: Label, b: Label, cls: str) -> bool:
    return not a.unsure and not b.unsure and (cls in a.classes) == (cls in b.classes)


def _apart(labels: Sequence[Label], classes: Sequence[str]) -> float | None:
    spans = []
    for cls in classes:
        sizes = [s for s in (longest_mm(label, cls) for label in labels) if s is not None]
        if len(sizes) >= 2:
            spans.append(max(sizes) - min(sizes))
    return max(spans, default=None)
