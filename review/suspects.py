"""Labels the model disagrees with: taken in from a training run, ranked, and decided by people.

A decision goes back into the labels: *keep* and *change* become adjudications, which outrank labels; *ambiguous* keeps
the frame out of what is exported until somebody adjudicates it; it may explain the rule in the label book.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inspection.errors import InputError
from inspection.suspects import SuspectLine
from review import audit
from review.adjudication import MANY, MAX_REASON, decide, decided_words, of_record
from review.label_books import ChangedMeanwhile
from review.language import _
from review.store import Adjudication, Record, Suspect

Decision = Literal["keep", "change", "ambiguous"]
HUB = "hub:record="


@dataclass(frozen=True, slots=True)
class Taken:
    """`added` to the list; `unknown` frames are not of this hub; `decided` are adjudicated, `known` listed already."""

    added: int = 0
    unknown: int = 0
    decided: int = 0
    known: int = 0


def read(path: Path) -> list[SuspectLine]:
    """The file `haltline dataset suspects` wrote; InputError names the line that is none."""
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(SuspectLine.model_validate_json(line))
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{path}:{number}", f"{where}: {first['msg']}", "write the file again") from e
    return found


def take_in(session: Session, lines: Iterable[SuspectLine], now_ms: int) -> Taken:
    """Add what is still open: a frame that was adjudicated has its answer."""
    lines = list(lines)
    records: dict[str, int] = {}
    for at in range(0, len(lines), MANY):
        uids = [_uid(line) for line in lines[at : at + MANY]]
        named = select(Record.uid, Record.id).where(Record.uid.in_(uids), Record.image.is_not(None))
        records |= {row.uid: row.id for row in session.execute(named)}
    settled = set(session.scalars(select(Adjudication.record_id).where(Adjudication.superseded_ms.is_(None))))
    key = select(Suspect.record_id, Suspect.cls, Suspect.kind, Suspect.snapshot)
    have = {tuple(row) for row in session.execute(key)}
    added = unknown = done = known = 0
    for line in lines:
        record_id = records.get(_uid(line))
        if record_id is None:
            unknown += 1
        elif record_id in settled:
            done += 1
        elif (record_id, line.cls, line.kind, line.snapshot) in have:
            known += 1
        else:
            added += 1
            have.add((record_id, line.cls, line.kind, line.snapshot))
            session.add(
                Suspect(
                    record_id=record_id, cls=line.cls, kind=line.kind, snapshot=line.snapshot,
                    label_book=line.label_book, said=list(line.labels), p=line.p, quality=line.quality,
                    created_ms=now_ms,
                )
            )  # fmt: skip
    return Taken(added, unknown, done, known)


def _uid(line: SuspectLine) -> str:
    return line.source.partition("#")[0].removeprefix(HUB)


def waiting(session: Session, limit: int) -> tuple[Sequence[Suspect], int]:
    """The most suspicious first, and how many there are. What was adjudicated meanwhile is no longer open."""
    settled = select(Adjudication.record_id).where(Adjudication.superseded_ms.is_(None))
    still = (Suspect.decision == "", Suspect.record_id.not_in(settled))
    total = session.scalar(select(func.count()).select_from(Suspect).where(*still)) or 0
    ranked = select(Suspect).where(*still).order_by(Suspect.quality, Suspect.id).limit(limit)
    return session.scalars(ranked).all(), total


def history(session: Session, limit: int) -> Sequence[Suspect]:
    """What was decided, newest first."""
    done = select(Suspect).where(Suspect.decision != "").order_by(Suspect.decided_ms.desc(), Suspect.id.desc())
    return session.scalars(done.limit(limit)).all()


def ambiguous(session: Session) -> set[int]:
    """Records whose newest decision here is that the rule does not say what they are."""
    newest: dict[int, str] = {}
    rows = select(Suspect.record_id, Suspect.decision).where(Suspect.decision != "").order_by(Suspect.decided_ms)
    for record_id, decision in session.execute(rows):
        newest[record_id] = decision
    return {record_id for record_id, decision in newest.items() if decision == "ambiguous"}


def settle(session: Session, suspect_id: int, decision: Decision, person: str, reason: str, now_ms: int) -> Suspect:
    """Keep the decision and carry it into the labels; InputError without a reason, or when it was decided already.
    ChangedMeanwhile where the frame was adjudicated since: `waiting` lists it no more, an open page still does."""
    suspect = session.get(Suspect, suspect_id)
    if suspect is None or suspect.decision:
        raise InputError(_("suspect"), _("is decided already"), _("reload the page"))
    session.scalar(select(Record.id).where(Record.id == suspect.record_id).with_for_update())
    adjudicated = (Adjudication.record_id == suspect.record_id, Adjudication.superseded_ms.is_(None))
    if decided := session.scalar(select(Adjudication).where(*adjudicated)):
        raise ChangedMeanwhile(_("this frame"), decided_words(decided), _("open it to decide again"))
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON:
        raise InputError(_("reason"), _("has %(n)s letters", n=len(reason)), _("say why"))
    if decision != "ambiguous":
        _carry(session, suspect, decision, person, reason, now_ms)
    suspect.decision, suspect.person, suspect.reason, suspect.decided_ms = decision, person, reason, now_ms
    session.flush()
    told = {"decision": decision, "cls": suspect.cls, "kind": suspect.kind, "reason": reason}
    audit.note(session, person, "suspect_decided", f"record {suspect.record_id}", **told)
    return suspect


def _carry(session: Session, suspect: Suspect, decision: Decision, person: str, reason: str, now_ms: int) -> None:
    """An adjudication with the classes as they were, or with this one class changed."""
    said = [cls for cls in suspect.said if decision == "keep" or suspect.kind == "mask" or cls != suspect.cls]
    if decision == "change" and suspect.kind == "image" and suspect.cls not in suspect.said:
        said.append(suspect.cls)
    dispute = of_record(session, suspect.record.uid)
    same = [m for m in dispute.labels if sorted(m.classes) == sorted(said) and not m.unsure] if dispute else []
    if decision == "change" and suspect.kind == "mask":
        raise InputError(_("outline"), _("cannot be changed here"), _("label the frame again, then keep or drop this"))
    if same:  # with its outline and what was measured
        decide(session, suspect.record.uid, person, reason, now_ms, took=same[0].id)
    else:
        decide(session, suspect.record.uid, person, reason, now_ms, own=dict.fromkeys(said))
