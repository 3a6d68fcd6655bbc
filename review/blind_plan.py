"""Who labels what, without knowing why: frames are dealt out, and checks are put among them.

- Each frame goes to `labels_per_frame` people, those with the least open work, and of those the pair that has shared
  the fewest frames, so that every two people can be compared.
- Of each person's labels, a share is asked for again after a wash-out (a *repeat*: does the person agree with
  themselves?) and a share are *gold*: frames with a decided answer (does the person agree with it?).
- Checks come mirrored, so that a frame is not simply recognised; for each of them one ordinary frame is mirrored too,
  so that being mirrored gives nothing away.

The plan is made in the background and never as an answer to somebody's label: a queue that grows at the moment of
saving would tell.
"""

from __future__ import annotations

import math
import random
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from review import adjudication
from review.clock import wall_ms
from review.label_books import newest
from review.label_queue import ASIDE, BLIND, Task, counted, short_of_labels, waiting_for
from review.mirror import FLIPS
from review.settings import Settings
from review.store import (
    Adjudication,
    BookFrame,
    BookRow,
    GoldChoice,
    Label,
    LabelAssignment,
    Person,
    Record,
    Showing,
    Store,
)

log = structlog.get_logger("review.blind_plan")

PERIOD_S = 60.0
DAY_MS = 24 * 3600 * 1000
ACTIVE_MS = 7 * DAY_MS
"""Frames are dealt out to people who labelled within this time."""
HORIZON = 50
"""So many frames at most wait for one person as dealt out; what is beyond stays open to whoever comes."""
AMONG = 200
"""Checks are spread over so many of the frames a person labels next."""


class Planner:
    """A thread of its own, as a plan reads many rows and whoever watches the line must not wait for it."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="blind plan", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=3)

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            try:
                plan(self._store, self._settings, wall_ms())
            except Exception:
                log.exception("no plan made, trying again")


def plan(store: Store, settings: Settings, now_ms: int, rng: random.Random | None = None) -> int:
    """Add what is due, and withdraw checks that new rules or decisions made pointless; returns how many were added."""
    rng = rng or random.SystemRandom()
    with store.reading() as session:
        rows: list[LabelAssignment | Showing] = []
        active = _labellers(session, now_ms - ACTIVE_MS)
        rows += dealt(session, active, settings.labels_per_frame, now_ms)
        stale: list[int] = []
        for person in _labellers(session, 0):
            rows += checks(session, person, settings, now_ms, rng)
            stale += _pointless(session, person, now_ms)
    if rows or stale:
        with store.writing() as session:
            session.add_all(rows)
            session.execute(update(Showing).where(Showing.id.in_(stale)).values(done_ms=now_ms))
    return len(rows)


def _pointless(session: Session, person: Person, now_ms: int) -> list[int]:
    """Checks that wait for this person although their first label, or the decision, no longer holds."""
    waiting = select(Showing).where(Showing.person == person.name, Showing.done_ms.is_(None), Showing.kind.in_(ASIDE))
    found = session.scalars(waiting).all()
    if not found:
        return []
    holds = {
        "repeat": {r.id for r in repeatable(session, person, now_ms)},
        "gold": {d.record_id for d in gold(session)},
    }
    return [s.id for s in found if s.record_id not in holds[s.kind]]


# -- dealing out ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Hands:
    """What everybody holds: open work per person, frames shared per pair of people."""

    load: Counter[str] = field(default_factory=Counter)
    shared: Counter[tuple[str, str]] = field(default_factory=Counter)

    def choose(self, able: Sequence[str], given: Iterable[str], need: int) -> list[str]:
        """`need` of those `able`, one after the other; `given` are the people who labelled the frame already."""
        together, chosen = list(given), list[str]()
        while len(chosen) < need:
            best = min(
                (p for p in able if p not in together),
                key=lambda p: (self.load[p], sum(self.shared[_pair(p, other)] for other in together), p),
                default=None,
            )
            if best is None:
                return []
            chosen.append(best)
            together.append(best)
        for a, b in combinations(sorted(together), 2):
            self.shared[a, b] += 1
        self.load.update(chosen)
        return chosen


def dealt(session: Session, labellers: Sequence[Person], need: int, now_ms: int) -> list[LabelAssignment]:
    """Assignments of frames that nobody was asked for yet, oldest first. A frame for which there are not enough people
    stays open to everybody."""
    names = [p.name for p in labellers]
    hands = _hands(session)
    room = sum(max(0, HORIZON - hands.load[n]) for n in names)
    if len(names) < need or not room:
        return []
    due = select(Record).where(short_of_labels(need)).order_by(Record.ts_ms, Record.id).limit(room)
    records = session.scalars(due).all()
    given = _people_of(session, [r.id for r in records])
    found: list[LabelAssignment] = []
    for record in records:
        able = [n for n in names if hands.load[n] < HORIZON]
        already = given.get(record.id, ())
        for person in hands.choose(able, already, need - len(already)):
            found.append(LabelAssignment(record_id=record.id, person=person, why=BLIND, created_ms=now_ms))
    return found


def _labellers(session: Session, since_ms: int) -> list[Person]:
    lately = select(Label.person).where(Label.created_ms >= since_ms).distinct()
    here = select(Person).where(Person.left_ms.is_(None), Person.name.in_(lately)).order_by(Person.name)
    return list(session.scalars(here))


def _hands(session: Session) -> _Hands:
    hands, people = _Hands(), dict[int, list[str]]()
    for row in session.scalars(select(LabelAssignment).where(LabelAssignment.why == BLIND)):
        people.setdefault(row.record_id, []).append(row.person)
        if row.done_ms is None:
            hands.load[row.person] += 1
    for together in people.values():
        hands.shared.update(_pair(a, b) for a, b in combinations(together, 2))
    return hands


def _people_of(session: Session, record_ids: Sequence[int]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    rows = select(Label.record_id, Label.person).where(Label.record_id.in_(record_ids), counted())
    for record_id, person in session.execute(rows):
        found.setdefault(record_id, set()).add(person)
    return found


def _pair(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


# -- checks -----------------------------------------------------------------------------------------------------------


def checks(session: Session, person: Person, settings: Settings, now_ms: int, rng: random.Random) -> list[Showing]:
    """Repeats and gold frames that are due for this person, and as many ordinary frames mirrored."""
    washout_ms = round(settings.washout_days * DAY_MS)
    before_ms = now_ms - washout_ms
    waiting = waiting_for(session, person, AMONG, settings.labels_per_frame).tasks
    made = _made(session, person)
    shown = list(session.scalars(select(Showing).where(Showing.person == person.name)))
    due: list[tuple[str, Record]] = []
    for kind, share, of_kind in (
        ("repeat", settings.repeat_share, repeatable),
        ("gold", settings.gold_share, gold_for),
    ):
        count = _due(kind, share, made, shown, len(waiting))
        if count:
            lately = {s.record_id for s in shown if s.kind in ASIDE and (s.done_ms is None or s.done_ms > before_ms)}
            taken = lately | {record.id for _, record in due}
            able = [r for r in of_kind(session, person, before_ms) if r.id not in taken]
            due += [(kind, record) for record in rng.sample(able, min(count, len(able)))]
    found = [_showing(kind, record, person, _place(waiting, now_ms, rng), now_ms, rng) for kind, record in due]
    ordinary = [t.record for t in waiting if t.showing is None]
    for record in rng.sample(ordinary, min(len(found), len(ordinary))):
        found.append(_showing("mirror", record, person, record.ts_ms, now_ms, rng))
    return found


def repeatable(session: Session, person: Person, before_ms: int) -> list[Record]:
    """Frames this person labelled before then under the rules still in force, and that no label book shows."""
    own = (
        select(Record, Label.label_book)
        .join(Label, Label.record_id == Record.id)
        .where(Label.person == person.name, Label.superseded_ms.is_(None), Label.created_ms <= before_ms)
        .where(Record.image.is_not(None))
        .order_by(Record.id)
    )
    open_book = _on_view(session)
    rules = _in_force(session)
    return [r for r, book in session.execute(own) if book in rules.values() and r.id not in open_book]


def gold_for(session: Session, person: Person, before_ms: int) -> list[Record]:
    """Frames with a decided answer under the rules in force that this person neither decided nor labelled lately."""
    since = select(Label.record_id).where(Label.person == person.name, Label.created_ms > before_ms).distinct()
    lately, open_book = set(session.scalars(since)), _on_view(session)
    found = [
        decision.record_id
        for decision in gold(session)
        if decision.person != person.name and decision.record_id not in lately | open_book
    ]
    return list(session.scalars(select(Record).where(Record.id.in_(found)).order_by(Record.id)))


def gold(session: Session) -> list[Adjudication]:
    """Decisions in force under the newest rules that may test people."""
    choices = session.scalars(select(GoldChoice).order_by(GoldChoice.id))
    use: Mapping[int, bool] = {choice.record_id: choice.use for choice in choices}
    found: list[Adjudication] = []
    for name, book_id in _in_force(session).items():
        decisions = adjudication.in_force(session, name)
        found += [d for d in decisions.values() if d.label_book == book_id and use.get(d.record_id, True)]
    return found


def _in_force(session: Session) -> dict[str, str]:
    """Name of each book with labels or decisions -> the id of its newest version."""
    ids = {*session.scalars(select(Label.label_book).distinct())}
    ids |= {*session.scalars(select(Adjudication.label_book).distinct())}
    books = {name: newest(session, name) for name in {book_id.partition("@")[0] for book_id in ids}}
    return {name: book.id for name, book in books.items() if book}


def _on_view(session: Session) -> set[int]:
    """Frames the label book shows beside its rules: nobody is asked what they can look up."""
    shown = select(BookFrame.record_id).join(BookRow, BookRow.id == BookFrame.book_id)
    return set(session.scalars(shown.where(BookRow.published_ms.is_not(None))))


def _made(session: Session, person: Person) -> int:
    own = select(func.count(func.distinct(Label.record_id))).where(
        Label.person == person.name, Label.showing_id.is_(None)
    )
    return session.scalar(own) or 0


def _due(kind: str, share: float, made: int, shown: Sequence[Showing], waiting: int) -> int:
    """What the share of their labels asks for, but never more at a time than that share of what waits."""
    of_kind = [s for s in shown if s.kind == kind]
    at_once = math.ceil(share * max(1, waiting)) - sum(s.done_ms is None for s in of_kind)
    return max(0, min(math.floor(share * made) - len(of_kind), at_once))


def _place(waiting: Sequence[Task], now_ms: int, rng: random.Random) -> int:
    if not waiting:
        return now_ms
    beside = rng.choice(waiting)
    return beside.showing.place_ms if beside.showing else beside.record.ts_ms


def _showing(kind: str, record: Record, person: Person, place_ms: int, now_ms: int, rng: random.Random) -> Showing:
    return Showing(
        uid=secrets.token_hex(16), record_id=record.id, person=person.name, kind=kind, flip=rng.choice(FLIPS),
        place_ms=place_ms, created_ms=now_ms,
    )  # fmt: skip
