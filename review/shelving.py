"""A cause at a station that calls nobody for a while, with who, why and until when. The halt itself stays what it is:
the line still stands, the Line page still says so, and the shelf ends by itself.

Shelved: by anybody who is signed in, for a shift at most. Out of service: by an engineer, until given back.
Times are Unix ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from inspection.errors import InputError
from review import audit
from review.alarms import UNACKED
from review.fault_kinds import RUNS_ANYWAY
from review.language import N_, _
from review.store import OF_STATION, Fault, Halt, Shelf

MINUTES = (15, 60, 240, 480)
"""How long a shelf may be asked for; the longest is a shift."""
LONGEST_MS = max(MINUTES) * 60_000 + 60_000
"""A clock that is set back by a few seconds is none that was wrong."""
MAX_WHY = 200

CauseKey = tuple[int, int, str]
"""Station, code and class: what is one cause to a person. Of a station alarm `OF_STATION` and its kind."""


class Kind(StrEnum):
    SHELVED = "shelved"
    OUT_OF_SERVICE = "out_of_service"


KIND_WORDS = {Kind.SHELVED: N_("shelved"), Kind.OUT_OF_SERVICE: N_("out of service")}


class OfCause(Protocol):
    """A halt or a shelf, whole or as a row of some columns."""

    @property
    def station_id(self) -> int: ...
    @property
    def code(self) -> int: ...
    @property
    def cls(self) -> str: ...


def cause_of(row: OfCause) -> CauseKey:
    return row.station_id, row.code, row.cls


def cause_of_fault(station_id: int, kind: str) -> CauseKey:
    return station_id, OF_STATION, kind


def shelve(session: Session, alarm: Halt | Fault, who: str, why: str, minutes: int, now_ms: int) -> Shelf:
    if minutes not in MINUTES:
        choices = ", ".join(map(str, MINUTES))
        raise InputError(_("minutes"), _("%(n)s is no choice", n=minutes), _("one of %(choices)s", choices=choices))
    return _put(session, alarm, Kind.SHELVED, who, why, now_ms, now_ms + minutes * 60_000)


def take_out_of_service(session: Session, alarm: Halt | Fault, who: str, why: str, now_ms: int) -> Shelf:
    return _put(session, alarm, Kind.OUT_OF_SERVICE, who, why, now_ms, None)


def give_back(session: Session, shelf: Shelf, who: str, now_ms: int) -> None:
    """It calls again. `who` is "hub" when its time has passed."""
    if shelf.ended_ms is None:
        shelf.ended_ms, shelf.ended_by = now_ms, who
        audit.note(session, who, "unshelved", shelf.subject)


def end_due(session: Session, now_ms: int) -> Sequence[Shelf]:
    """Write down which shelves have ended by themselves; they stopped counting at that moment already."""
    due = session.scalars(select(Shelf).where(Shelf.ended_ms.is_(None), over(Shelf.until_ms, now_ms))).all()
    for shelf in due:
        give_back(session, shelf, "hub", now_ms)
    return due


def current(session: Session, now_ms: int) -> dict[CauseKey, Shelf]:
    """Every cause that calls nobody now, by cause."""
    return {cause_of(s): s for s in session.scalars(select(Shelf).where(holds(now_ms)).order_by(Shelf.id))}


def lies_on(session: Session, alarm: Halt | Fault, now_ms: int) -> Shelf | None:
    """The shelf the alarm's cause lies on; a new one would end it."""
    return current(session, now_ms).get(_cause(alarm))


def is_on(until_ms: int | None, ended_ms: int | None, now_ms: int) -> bool:
    return ended_ms is None and (until_ms is None or now_ms < until_ms <= now_ms + LONGEST_MS)


def over(until_ms: InstrumentedAttribute[int] | InstrumentedAttribute[int | None], now_ms: int) -> ColumnElement[bool]:
    """Whether a time that somebody gave has passed; so has one that is further off than any can be asked for: the
    hub's clock was ahead when it was given, and it would else be quiet for as long as that."""
    return or_(until_ms <= now_ms, until_ms > now_ms + LONGEST_MS)


def calling(now_ms: int) -> ColumnElement[bool]:
    """True for halts that nobody has acknowledged and whose cause is on no shelf: what sounds and flashes."""
    same = and_(Shelf.station_id == Halt.station_id, Shelf.code == Halt.code, Shelf.cls == Halt.cls)
    return and_(Halt.state.in_([*UNACKED]), ~exists().where(same, holds(now_ms)))


def count_calling(session: Session, now_ms: int) -> int:
    return session.scalar(select(func.count()).select_from(Halt).where(calling(now_ms))) or 0


def holds(now_ms: int) -> ColumnElement[bool]:
    """`is_on` in SQL: what lies on the shelf."""
    return and_(Shelf.ended_ms.is_(None), or_(Shelf.until_ms.is_(None), ~over(Shelf.until_ms, now_ms)))


def _put(
    session: Session, alarm: Halt | Fault, kind: Kind, who: str, why: str, now_ms: int, until_ms: int | None
) -> Shelf:
    """A new shelf ends the one before: a cause lies on one at most."""
    why = " ".join(why.split())
    if not 3 <= len(why) <= MAX_WHY:
        what = _("has %(n)s letters", n=len(why)) if why else _("is missing")
        raise InputError(_("reason"), what, _("3 to %(n)s letters", n=MAX_WHY))
    if isinstance(alarm, Fault) and alarm.kind == RUNS_ANYWAY:
        raise InputError(_("alarm"), _("a line that runs without a permit is never kept quiet"), _("stop the line"))
    cause = _cause(alarm)
    if before := lies_on(session, alarm, now_ms):
        give_back(session, before, who, now_ms)
    shelf = Shelf(
        station_id=cause[0],
        code=cause[1],
        cls=cause[2],
        kind=kind,
        why=why,
        by=who,
        from_ms=now_ms,
        until_ms=until_ms,
        ended_ms=None,
        ended_by="",
    )
    session.add(shelf)
    session.flush()
    return shelf


def _cause(alarm: Halt | Fault) -> CauseKey:
    return cause_of_fault(alarm.station_id, alarm.kind) if isinstance(alarm, Fault) else cause_of(alarm)
