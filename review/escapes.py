"""Escapes: of what passed, how much was bad? From random audits of passed parts, per line, class and week.

A unit is a part where the edge draws whole parts, else a frame. The audits of one line and week are a random sample of
what passed there, so weeks are strata; `inspection.escape` has the formulas. Times are Unix ms, weeks begin on Monday
at midnight of the hub's time zone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import String, cast, select
from sqlalchemy.orm import Session

from inspection.escape import EscapeRate, Share, Stratum, clopper_pearson, escape_rate, more_audits
from review.adjudication import MANY, in_force
from review.label_books import newest
from review.labelling import NEED, Vote, consensus
from review.store import Label, Record, Station, TallyRow

WEEKS = (4, 8, 26)
PART, FRAME = "part", "frame"
LATE_MS = 3_600_000
"""A part's frames are taken before the tally that names it, by no more than this beside its own period."""
ANY = ""
"""Any class of the book: the escapes of a line, whatever they are."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line, and what an audit of it looks at."""

    site: str
    line: str
    unit: str


class Audit(NamedTuple):
    """A frame that was drawn at random from what passed, by column: a plant sends 100,000 in eight weeks."""

    id: int
    station_id: int
    ts_ms: int
    part: str
    label_book: str


@dataclass(slots=True)
class Cell:
    """One line in one week. `open`: audited units people have not decided yet. `bad`: class -> units with it."""

    passed: int = 0
    audited: int = 0
    open: int = 0
    bad: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def lost(self) -> bool:
        """More was audited than is known to have passed: an edge was killed before it told."""
        return self.audited > self.passed

    def stratum(self, name: str, cls: str) -> Stratum:
        return Stratum(name, max(self.passed, self.audited), self.audited, self.bad.get(cls, 0))


@dataclass(frozen=True, slots=True)
class WeekRate:
    """One week of one line and class, `share` with its exact interval; `more`: audits that week would have needed
    beside its own for half the interval, None when beyond reason or where nobody looked."""

    start_ms: int
    cell: Cell
    defects: int
    share: Share
    more: int | None


@dataclass(frozen=True, slots=True)
class ClassRate:
    """One line and class over the weeks; `more`: audits to add for half the interval, None when beyond reason."""

    cls: str
    title: str
    rate: EscapeRate
    more: int | None
    weeks: tuple[WeekRate, ...]


@dataclass(frozen=True, slots=True)
class LineRates:
    """`open`: audits that wait for people; `lost`: weeks whose counts an edge did not live to tell."""

    place: Place
    passed: int
    audited: int
    open: int
    lost: int
    classes: tuple[ClassRate, ...]


def week_starts(now_ms: int, weeks: int) -> list[int]:
    """The Mondays of the last `weeks` weeks, the running one included, oldest first."""
    today = datetime.fromtimestamp(now_ms / 1000).astimezone()
    monday = today.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None) - timedelta(days=today.weekday())
    # By the calendar, not by 604,800 s: the week in which the clocks change has an hour more or less.
    return [int((monday - timedelta(weeks=n)).timestamp() * 1000) for n in reversed(range(weeks))]


def rates(session: Session, now_ms: int, weeks: int, need: int = NEED) -> list[LineRates]:
    """Every line on which something passed or was audited, by name."""
    starts = week_starts(now_ms, weeks)
    tallies = session.scalars(select(TallyRow).where(TallyRow.from_ms >= starts[0], TallyRow.from_ms < now_ms)).all()
    count = _Count(starts, {s.id: s for s in session.scalars(select(Station))}, tallies)
    audits = _audits(session, starts[0], now_ms)
    decided = _decided(session, audits, need)
    books = {name: newest(session, name) for name in {_book_name(r) for r in audits}}
    for unit in count.units(audits):
        book = books[_book_name(unit[0])]
        count.audit(unit, [decided.get(r.id) for r in unit], {r.cls: r.title for r in book.rules} if book else {})
    found = sorted(count.cells.items(), key=lambda item: (item[0].site, item[0].line, item[0].unit))
    return [_line(place, cells, starts, count.titles[place]) for place, cells in found]


def worst(lines: Iterable[LineRates]) -> ClassRate | None:
    """The line and class whose rate could be highest, by its upper bound, of those anybody audited."""
    audited = [c for line in lines for c in line.classes if line.audited and c.cls == ANY]
    return max(audited, key=lambda c: c.rate.rate.high, default=None)


class _Count:
    """What passed and what was audited, by line and week."""

    def __init__(self, starts: Sequence[int], stations: Mapping[int, Station], tallies: Sequence[TallyRow]) -> None:
        self._starts, self._stations = starts, stations
        # A station that draws whole parts is judged by parts; frames drawn there beside them are no audits of parts.
        self._whole = {t.station_id for t in tallies if t.audited}
        self._spans: dict[tuple[int, str], list[TallyRow]] = defaultdict(list)
        self.cells: dict[Place, list[Cell]] = {}
        self.titles: dict[Place, dict[str, str]] = defaultdict(dict)
        for t in tallies:
            cell = self._cell(t.station_id, t.from_ms)
            cell.passed += t.parts_passed if t.station_id in self._whole else t.frames_passed
            for part in t.audited:
                self._spans[t.station_id, part].append(t)

    def units(self, audits: Iterable[Audit]) -> Iterable[list[Audit]]:
        """The records of each audited unit: those of one part that passed, or one frame."""
        parts: dict[tuple[int, str], list[Audit]] = defaultdict(list)
        for record in audits:
            if record.station_id not in self._whole:
                yield [record]
                continue
            for t in self._spans[record.station_id, record.part]:
                if t.from_ms - LATE_MS <= record.ts_ms <= t.to_ms:
                    parts[t.id, record.part].append(record)
                    break
        yield from parts.values()

    def audit(self, unit: Sequence[Audit], answers: Sequence[frozenset[str] | None], titles: Mapping[str, str]) -> None:
        """Count a unit once every frame of it is decided: a defect is often seen before the rest is found good."""
        cell = self._cell(unit[0].station_id, unit[0].ts_ms)
        self.titles[self._place(unit[0].station_id)].update(titles)
        if None in answers:
            cell.open += 1
            return
        cell.audited += 1
        found = {cls for classes in answers for cls in classes or ()}
        for cls in found | ({ANY} if found else set()):
            cell.bad[cls] += 1

    def _cell(self, station_id: int, at_ms: int) -> Cell:
        place = self._place(station_id)
        if place not in self.cells:
            self.cells[place] = [Cell() for _ in self._starts]
        return self.cells[place][max(0, bisect_right(self._starts, at_ms) - 1)]

    def _place(self, station_id: int) -> Place:
        station = self._stations[station_id]
        return Place(station.site, station.line, PART if station_id in self._whole else FRAME)


def _line(place: Place, cells: Sequence[Cell], starts: Sequence[int], titles: Mapping[str, str]) -> LineRates:
    classes = [_class(cls, title, cells, starts) for cls, title in {ANY: "", **titles}.items()]
    return LineRates(
        place,
        passed=sum(max(c.passed, c.audited) for c in cells),
        audited=sum(c.audited for c in cells),
        open=sum(c.open for c in cells),
        lost=sum(c.lost for c in cells),
        classes=tuple(classes),
    )


def _class(cls: str, title: str, cells: Sequence[Cell], starts: Sequence[int]) -> ClassRate:
    strata = [c.stratum(str(at), cls) for c, at in zip(cells, starts, strict=True)]
    rate = escape_rate(strata)
    each = zip(starts, cells, strata, strict=True)
    weeks = tuple(WeekRate(at, c, s.defects, *_of_week(s.defects, s.audited)) for at, c, s in each)
    return ClassRate(cls, title, rate, more_audits(rate.rate, rate.audited), weeks)


@lru_cache(4096)
def _of_week(defects: int, audited: int) -> tuple[Share, int | None]:
    """A page asks for the same few pairs again and again, at up to 5 ms each."""
    share = clopper_pearson(defects, audited)
    return share, more_audits(share, audited)


def _audits(session: Session, from_ms: int, to_ms: int) -> list[Audit]:
    """Frames that were drawn at random from what passed, oldest first."""
    drawn = (Record.call == "pass", cast(Record.why, String).like('%"audit"%'), Record.image.is_not(None))
    within = (Record.ts_ms >= from_ms, Record.ts_ms < to_ms)
    columns = (Record.id, Record.station_id, Record.ts_ms, Record.part, Record.label_book)
    rows = session.execute(select(*columns).where(*drawn, *within).order_by(Record.ts_ms, Record.id))
    return [Audit(*row) for row in rows]


def _decided(session: Session, records: Sequence[Audit], need: int) -> dict[int, frozenset[str]]:
    """Record id -> the classes people settled on; a record that is missing waits for a label or for adjudication."""
    found: dict[int, frozenset[str]] = {}
    votes: dict[int, list[Vote]] = defaultdict(list)
    wanted = {r.id for r in records}
    columns = (Label.record_id, Label.person, Label.label_book, Label.classes, Label.unsure)
    for at in range(0, len(records), MANY):
        some = [r.id for r in records[at : at + MANY]]
        current = select(*columns).where(Label.record_id.in_(some), Label.superseded_ms.is_(None)).order_by(Label.id)
        for record_id, person, book, classes, unsure in session.execute(current):
            votes[record_id].append(Vote(person, book, tuple(classes), unsure, (), None))
    for record_id, of_record in votes.items():
        settled = consensus(of_record, need)
        if settled.decided:
            found[record_id] = frozenset(settled.classes)
    for name in {_book_name(r) for r in records}:
        decisions = in_force(session, name)
        found |= {n: frozenset(decisions[n].classes) for n in wanted & decisions.keys()}
    return found


def _book_name(record: Audit) -> str:
    return record.label_book.partition("@")[0]
