"""Alarm performance by SQL over a bounded time: are people called so often that they stop listening?

Targets are those of ANSI/ISA-18.2 and EEMUA 191 for one operator: about 6 an hour is very likely acceptable, 12 the
most that can be handled, more than 10 in 10 min a flood, the ten commonest causes at most 5 % of all, no chattering.
Times are Unix ms. An hour and a day of UTC are counted once and remembered (`Counted`): a month may hold hundreds of
thousands of halts.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from review.alarms import Cause
from review.shelving import CauseKey
from review.store import Halt, HaltEventRow, Station

ACCEPTABLE_PER_HOUR = 6
MOST_PER_HOUR = 12
FLOOD = 10
"""More than this many within one period of ten minutes."""
TOP_SHARE = 0.05
FLOOD_MS, HOUR_MS, DAY_MS = 10 * 60_000, 3_600_000, 86_400_000
CHATTER, CHATTER_MS = 3, 60_000
"""A cause chatters when it comes this often within this time."""
DAYS = {1: 1, 7: 6, 30: 24}
"""How many days a person may ask for, and of how many hours each bar of the chart then is."""
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


@dataclass(slots=True)
class Part:
    """What is counted of a stretch of time: by ten minutes, and by cause (n, judged, false calls; chattering)."""

    tens: Counter[int] = field(default_factory=Counter)
    causes: dict[CauseKey, tuple[int, int, int]] = field(default_factory=dict)
    chatter: Counter[CauseKey] = field(default_factory=Counter)


class Counted:
    """Whole days and hours that were counted already. One is forgotten when a halt of it arrives late or is judged."""

    REREAD = 1000
    """So many of the newest rows are looked at again: another connection may commit them late."""
    KEPT = 200
    """The days of a month and the hours at the ends of what may be asked for, about 100 kB each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[int, int], Part] = {}
        """By length in ms and number since 1970."""
        self._halts = self._events = 0

    def between(self, session: Session, from_ms: int, to_ms: int) -> Part:
        """Halts that began from `from_ms` on and before `to_ms`. `refresh` comes first."""
        return self._sum(session, from_ms, to_ms, (DAY_MS, HOUR_MS))

    def _sum(self, session: Session, from_ms: int, to_ms: int, lengths: tuple[int, ...]) -> Part:
        """Of the longest stretches that fit, and what is left over at both ends of the next shorter ones."""
        if not lengths:
            return counted(session, from_ms, to_ms)
        length, *shorter = lengths
        first, last = -(-from_ms // length), to_ms // length
        if first > last:
            return self._sum(session, from_ms, to_ms, tuple(shorter))
        part = Part()
        _add(part, self._sum(session, from_ms, first * length, tuple(shorter)))
        for number in range(first, last):
            _add(part, self._of(session, length, number))
        _add(part, self._sum(session, last * length, to_ms, tuple(shorter)))
        return part

    def _of(self, session: Session, length: int, number: int) -> Part:
        with self._lock:
            known = self._known.get((length, number))
        if known is None:
            known = counted(session, number * length, (number + 1) * length)
            with self._lock:
                self._known[length, number] = known
                if len(self._known) > self.KEPT:
                    del self._known[next(iter(self._known))]
        return known

    def refresh(self, session: Session) -> None:
        with self._lock:
            halts = session.scalar(select(func.max(Halt.id))) or 0
            events = session.scalar(select(func.max(HaltEventRow.id))) or 0
            if self._known:
                new = select(Halt.at_ms).where(Halt.id > self._halts - self.REREAD)
                judged = select(Halt.at_ms).join(HaltEventRow, HaltEventRow.halt_id == Halt.id)
                judged = judged.where(
                    HaltEventRow.id > self._events - self.REREAD, HaltEventRow.kind.in_([Cause.VERDICT, Cause.UNDONE])
                )
                for changed in (new, judged):
                    for at_ms in session.scalars(changed):
                        # Chattering that it began may be counted in the stretch after it.
                        for length, at in product((HOUR_MS, DAY_MS), (at_ms, at_ms + CHATTER_MS)):
                            self._known.pop((length, at // length), None)
            self._halts, self._events = halts, events


@dataclass(frozen=True, slots=True)
class Report:
    """What the page shows. `hours` and `floods` are newest first and at most `LISTED` long; the counts are whole.
    `bars` are the whole time, oldest first; `causes`: how many different ones there were."""

    from_ms: int
    to_ms: int
    total: int
    judged: int
    false_calls: int
    causes: int
    hours_over: int
    flood_count: int
    hours: Sequence[Period]
    floods: Sequence[Period]
    bars: Sequence[Period]
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
    def top_within(self) -> bool | None:
        """None where there are no more than ten causes: they are all of it then, which says nothing."""
        return self.top_share <= TOP_SHARE if self.causes > len(self.top) else None

    @property
    def flood_share(self) -> float:
        """Of all periods of ten minutes."""
        return self.flood_count / max(1, (self.to_ms - self.from_ms) // FLOOD_MS)


def report(session: Session, from_ms: int, to_ms: int, known: Counted, bar_hours: int = 1) -> Report:
    """`bar_hours`: of how many hours each bar is."""
    known.refresh(session)
    part = known.between(session, from_ms, to_ms)
    stations = {s.id: s for s in session.scalars(select(Station))}
    total = part.tens.total()
    by_hour = _coarser(part.tens, HOUR_MS)
    hours = [hour for hour, n in by_hour.items() if n > MOST_PER_HOUR]
    floods = [ten for ten, n in part.tens.items() if n > FLOOD]
    return Report(
        from_ms=from_ms,
        to_ms=to_ms,
        total=total,
        judged=sum(judged for _n, judged, _false in part.causes.values()),
        false_calls=sum(false for _n, _judged, false in part.causes.values()),
        causes=len(part.causes),
        hours_over=len(hours),
        flood_count=len(floods),
        hours=_periods(by_hour, sorted(hours, reverse=True)[:LISTED], HOUR_MS),
        floods=_periods(part.tens, sorted(floods, reverse=True)[:LISTED], FLOOD_MS),
        bars=_bars(part.tens, from_ms, to_ms, bar_hours * HOUR_MS),
        chattering=[
            CauseCount(stations[cause[0]], *cause[1:], n, n / total, None)
            for cause, n in sorted(part.chatter.items(), key=lambda c: (-c[1], c[0]))[:LISTED]
        ],
        top=[
            CauseCount(stations[cause[0]], *cause[1:], n, n / total, false / judged if judged else None)
            for cause, (n, judged, false) in sorted(part.causes.items(), key=lambda c: (-c[1][0], c[0]))[:10]
        ],
    )


_JUDGED = func.sum(case((Halt.verdict.in_(["real", "false_call"]), 1), else_=0))
""""Unsure" is no judgement: it stays out of the share on both sides."""
_FALSE = func.sum(case((Halt.verdict == "false_call", 1), else_=0))
_CAUSE = (Halt.station_id, Halt.code, Halt.cls)


def counted(session: Session, from_ms: int, to_ms: int) -> Part:
    """Halts that began from `from_ms` on and before `to_ms`."""
    if to_ms <= from_ms:
        return Part()
    within = (Halt.at_ms >= from_ms, Halt.at_ms < to_ms)
    ten = (Halt.at_ms // FLOOD_MS).label("ten")
    tens = session.execute(select(ten, func.count()).where(*within).group_by(ten))
    causes = session.execute(select(*_CAUSE, func.count(), _JUDGED, _FALSE).where(*within).group_by(*_CAUSE))
    return Part(
        Counter({int(at): n for at, n in tens}),
        {(station, code, cls): (n, judged, false) for station, code, cls, n, judged, false in causes},
        _chatter(session, from_ms, to_ms),
    )


def _chatter(session: Session, from_ms: int, to_ms: int) -> Counter[CauseKey]:
    """How often each cause completed three within a minute; those before it may lie in the time before."""
    before = func.lag(Halt.at_ms, CHATTER - 1).over(partition_by=_CAUSE, order_by=(Halt.at_ms, Halt.id))
    near = (Halt.at_ms >= from_ms - CHATTER_MS, Halt.at_ms < to_ms)
    spaced = select(*_CAUSE, Halt.at_ms, (Halt.at_ms - before).label("span")).where(*near).subquery()
    same = (spaced.c.station_id, spaced.c.code, spaced.c.cls)
    often = select(*same, func.count()).where(spaced.c.span <= CHATTER_MS, spaced.c.at_ms >= from_ms).group_by(*same)
    return Counter({(station, code, cls): n for station, code, cls, n in session.execute(often)})


def _add(whole: Part, part: Part) -> None:
    whole.tens.update(part.tens)
    whole.chatter.update(part.chatter)
    for cause, (n, judged, false) in part.causes.items():
        had = whole.causes.get(cause, (0, 0, 0))
        whole.causes[cause] = had[0] + n, had[1] + judged, had[2] + false


def _coarser(tens: Counter[int], size_ms: int) -> Counter[int]:
    found: Counter[int] = Counter()
    for ten, n in tens.items():
        found[ten * FLOOD_MS // size_ms] += n
    return found


def _periods(counts: Counter[int], which: Iterable[int], size_ms: int) -> list[Period]:
    return [Period(at * size_ms, (at + 1) * size_ms, counts[at]) for at in which]


def _bars(tens: Counter[int], from_ms: int, to_ms: int, size_ms: int) -> list[Period]:
    counts = _coarser(tens, size_ms)
    return _periods(counts, range(from_ms // size_ms, -(-to_ms // size_ms)), size_ms)
