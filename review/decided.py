"""What became of decided frames: whether they may test people, and whether they explain a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from inspection.errors import InputError
from review import audit, label_books
from review.adjudication import MAX_REASON, compare
from review.language import _
from review.store import Adjudication, BookFrame, BookRow, GoldChoice, Label, Record, Showing, Suspect


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision in force. `differed`: people had labelled the frame differently, so it lies where the rule is hard to
    apply. `shown`: a label book or its draft shows it already. `gold`: it may test people; `tested` so often it did."""

    decision: Adjudication
    record: Record
    differed: bool
    shown: bool
    gold: bool
    tested: int


def decided(session: Session, limit: int) -> list[Decided]:
    """The newest decisions in force, newest first."""
    rows = session.execute(
        select(Adjudication, Record)
        .join(Record, Record.id == Adjudication.record_id)
        .where(Adjudication.superseded_ms.is_(None))
        .order_by(Adjudication.id.desc())
        .limit(limit)
    ).all()
    ids = [record.id for _decision, record in rows]
    shown = in_label_book(session, ids)
    use = {c.record_id: c.use for c in session.scalars(_choices(ids))}
    labels = _labels(session, ids)
    done = select(Showing.record_id).where(
        Showing.record_id.in_(ids), Showing.kind == "gold", Showing.done_ms.is_not(None)
    )
    tested = list(session.scalars(done))
    return [
        Decided(
            decision, record, _differ(record, labels.get(record.id, [])), record.id in shown,
            use.get(record.id, True), tested.count(record.id),
        )
        for decision, record in rows
    ]  # fmt: skip


def choose_gold(session: Session, uid: str, use: bool, person: str, reason: str, now_ms: int) -> None:
    """Say whether a decided frame may test people; InputError without a decision or a reason."""
    record, _decision = _find(session, uid)
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON:
        raise InputError(_("reason"), _("has %(n)s letters", n=len(reason)), _("say why"))
    session.add(GoldChoice(record_id=record.id, use=use, person=person, reason=reason, created_ms=now_ms))
    audit.note(session, person, "gold_chosen", f"record {record.id}", use=use, reason=reason)


def offer(session: Session, uid: str, cls: str, person: str, now_ms: int) -> BookFrame:
    """Put a decided frame into the label book's draft as a borderline case, with the decision's reason; a draft begins
    where there is none."""
    record, decision = _find(session, uid)
    name = decision.label_book.partition("@")[0]
    row: BookRow = label_books.draft(session, name, person, "", now_ms)
    return label_books.show_frame(session, row, cls, "borderline", record.uid, decision.reason[:200], person, now_ms)


def offer_ambiguous(session: Session, suspect_id: int, person: str, now_ms: int) -> BookFrame:
    """Put a frame whose label was called ambiguous into the label book's draft, with that reason."""
    suspect = session.get(Suspect, suspect_id)
    if suspect is None or suspect.decision != "ambiguous":
        raise InputError(_("suspect"), _("was not called ambiguous"), _("reload the page"))
    row = label_books.draft(session, suspect.label_book.partition("@")[0], person, "", now_ms)
    note = suspect.reason[:200]
    return label_books.show_frame(session, row, suspect.cls, "borderline", suspect.record.uid, note, person, now_ms)


def in_label_book(session: Session, record_ids: Sequence[int]) -> set[int]:
    """Those that a label book or its draft shows."""
    return set(session.scalars(select(BookFrame.record_id).where(BookFrame.record_id.in_(record_ids))))


def _find(session: Session, uid: str) -> tuple[Record, Adjudication]:
    found = session.execute(
        select(Record, Adjudication)
        .join(Adjudication, Adjudication.record_id == Record.id)
        .where(Record.uid == uid, Adjudication.superseded_ms.is_(None))
    ).first()
    if found is None:
        raise InputError(uid, _("is not decided"), _("decide it first"))
    return found[0], found[1]


def _choices(record_ids: Sequence[int]) -> Select[GoldChoice]:
    return select(GoldChoice).where(GoldChoice.record_id.in_(record_ids)).order_by(GoldChoice.id)


def _labels(session: Session, record_ids: Sequence[int]) -> dict[int, list[Label]]:
    found: dict[int, list[Label]] = {}
    current = select(Label).where(Label.record_id.in_(record_ids), Label.superseded_ms.is_(None)).order_by(Label.id)
    for label in session.scalars(current):
        found.setdefault(label.record_id, []).append(label)
    return found


def _differ(record: Record, labels: Sequence[Label]) -> bool:
    return len(labels) >= 2 and compare(record, labels).agreement < 1
