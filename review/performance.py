"""Alarm performance by SQL over a bounded time: are people called so often that they stop listening?

Targets are those of ANSI/ISA-18.2 and EEMUA 191 for one operator: about 6 an hour is very likely acceptable, 12 the
most that can be handled, more than 10 in 10 min a flood, the ten commonest causes at most 5 % of all, no chattering.
Times are Unix ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from review.store import Halt, Station

ACCEPTABLE_PER_HOUR = 6
MOST_PER_HOUR = 12
FLOOD = 10
"""More than this many within one period of ten minutes."""
TOP_SHARE = 0.05
FLOOD_MS, HOUR_MS = 10 * 60_000, 3_600_000
CHATTER, CHATTER_MS = 3, 60_000
"""A cause chatters when it comes this often within this time."""
DAYS = (1, 7, 30)
LISTED = 50


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time and how many halts began in it."""

    from_ms: int
    to_ms: int
    count: int


@dataclass(frozen=True, slots=True)
class CauseCount:
    """One cause at one station. `false_share` is of the judged ones, None when none was judged."""

    station: Station
    code: int
    cls: str
    count: int
    share: float
    false_share: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """What the page shows. `hours` and `floods` are newest first and at most `LISTED` long; the counts are whole."""

    from_ms: int
    to_ms: int
    total: int
    judged: int
    false_calls: int
    hours_over: int
    flood_count: int
    hours: Sequence[Period]
    floods: Sequence[Period]
    chattering: Sequence[CauseCount]
    top: Sequence[CauseCount]

    @property
    def per_hour(self) -> float:
        return self.total / ((self.to_ms - self.from_ms) / HOUR_MS)

    @property
    def false_share(self) -> float | None:
        return self.false_calls / self.judged if self.judged else None

    @property
    def top_share(self) -> float:
        return sum(c.count for c in self.top) / self.total if self.total else 0.0

    @property
    def flood_share(self) -> float:
        """Of all periods of ten minutes."""
        return self.flood_count / max(1, (self.to_ms - self.from_ms) // FLOOD_MS)


def report(session: Session, from_ms: int, to_ms: int) -> Report:
    within = (Halt.at_ms >= from_ms, Halt.at_ms < to_ms)
    total, judged, false_calls = session.execute(select(func.count(), _JUDGED, _FALSE).where(*within)).one()
    stations = {s.id: s for s in session.scalars(select(Station))}
    hours, hours_over = _busy(session, within, HOUR_MS, MOST_PER_HOUR)
    floods, flood_count = _busy(session, within, FLOOD_MS, FLOOD)
    return Report(
        from_ms=from_ms,
        to_ms=to_ms,
        total=total,
        judged=judged or 0,
        false_calls=false_calls or 0,
        hours_over=hours_over,
        flood_count=flood_count,
        hours=hours,
        floods=floods,
        chattering=_chattering(session, within, total, stations),
        top=_top(session, within, total, stations),
    )


_JUDGED = func.sum(case((Halt.verdict.in_(["real", "false_call"]), 1), else_=0))
""""Unsure" is no judgement: it stays out of the share on both sides."""
_FALSE = func.sum(case((Halt.verdict == "false_call", 1), else_=0))

Within = tuple[ColumnElement[bool], ...]


def _busy(session: Session, within: Within, size_ms: int, limit: int) -> tuple[list[Period], int]:
    """Periods of the clock (10:00 to 10:10 ...) with more than `limit`: the newest, and how many there are."""
    bucket = (Halt.at_ms // size_ms).label("bucket")
    grouped = select(bucket, func.count().label("n")).where(*within).group_by(bucket).having(func.count() > limit)
    busy = grouped.subquery()
    count = session.scalar(select(func.count()).select_from(busy)) or 0
    newest = session.execute(select(busy.c.bucket, busy.c.n).order_by(busy.c.bucket.desc()).limit(LISTED))
    return [Period(int(b) * size_ms, (int(b) + 1) * size_ms, n) for b, n in newest], count


def _top(session: Session, within: Within, total: int, stations: dict[int, Station]) -> list[CauseCount]:
    cause = (Halt.station_id, Halt.code, Halt.cls)
    commonest = select(*cause, func.count(), _JUDGED, _FALSE).where(*within).group_by(*cause)
    rows = session.execute(commonest.order_by(func.count().desc(), *cause).limit(10))
    return [
        CauseCount(stations[station], code, cls, n, n / total, false_calls / judged if judged else None)
        for station, code, cls, n, judged, false_calls in rows
    ]


def _chattering(session: Session, within: Within, total: int, stations: dict[int, Station]) -> list[CauseCount]:
    """Each cause with how often it completed three within a minute."""
    cause = (Halt.station_id, Halt.code, Halt.cls)
    before = func.lag(Halt.at_ms, CHATTER - 1).over(partition_by=cause, order_by=(Halt.at_ms, Halt.id))
    spaced = select(*cause, (Halt.at_ms - before).label("span")).where(*within).subquery()
    same = (spaced.c.station_id, spaced.c.code, spaced.c.cls)
    often = select(*same, func.count()).where(spaced.c.span <= CHATTER_MS).group_by(*same)
    rows = session.execute(often.order_by(func.count().desc(), *same).limit(LISTED))
    return [CauseCount(stations[station], code, cls, n, n / total, None) for station, code, cls, n in rows]
