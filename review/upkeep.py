"""Notices what nobody sends: silence. A station that went quiet, a halt that is over, a reset nobody answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import or_, select
from sqlalchemy.orm import Session, selectinload

from inspection.messages import Topics
from review import audit, faults, retirement, shelving, suppression
from review.alarms import ACTIVE, UNACKED, Cause, State
from review.broadcast import News
from review.clock import wall_ms
from review.fault_kinds import kind_of
from review.halts import ANSWER_WITHIN_MS
from review.hub import Hub
from review.ingest import change
from review.live import PERMIT_STALE_MS, Now, cannot_see, shown
from review.store import Halt, Shelf, Station, ids_by_key

log = structlog.get_logger("review.upkeep")

PERIOD_S = 0.2
FAULTS_PERIOD_NS = 1_000_000_000
CALLS_NS = 10**9
"""What waits for minutes need not be looked up five times a second."""
GONE_AFTER_MS = 1000
"""The halt event and the permit travel apart: only permits well after the event say that the halt is over."""


class Upkeep:
    """A thread that looks five times a second and tells the pages what changed by itself."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._stopping = threading.Event()
        self._shown: dict[str, tuple[object, ...]] = {}
        self._watch, self._faults_due_ns = faults.Watch(), 0
        self._calls_due_ns = 0
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=3)

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            try:
                now_ns = time.monotonic_ns()
                self.look_at_stations(now_ns)
                self.look_at_halts(now_ns, wall_ms())
                self.look_at_shelves(wall_ms())
                if now_ns >= self._calls_due_ns:
                    self._calls_due_ns = now_ns + CALLS_NS
                    self.call_again(wall_ms())
                self.look_at_faults(now_ns, wall_ms())
            except Exception:
                log.exception("upkeep failed, trying again")
                self._stopping.wait(1)

    def look_at_stations(self, now_ns: int) -> None:
        for now in self._hub.live.stations():
            # Ages inside `why` change every second; the page counts those itself. What a camera lacks comes a second
            # after the permit that is withdrawn for it, and its numbers are others with every frame.
            seen = shown(now, now_ns)
            facts = seen.mode, seen.word, tuple((name, kind_of(why)) for name, why in cannot_see(now, optional=False))
            if self._shown.get(now.key) != facts:
                self._hub.news.tell(News("line", now.key))
            self._shown[now.key] = facts

    def look_at_halts(self, now_ns: int, at_ms: int) -> None:
        with self._hub.store.reading() as session:
            suspects = [row.id for row in _active(session) if self._suspect(row, now_ns, at_ms)]
            found = select(Halt).where(Halt.id.in_(suspects)).options(selectinload(Halt.events))
            halts = session.scalars(found).all() if suspects else ()
            due = [halt.id for halt in halts if self._overdue(halt, now_ns, at_ms)]
        for halt_id in due:
            self._settle(halt_id, now_ns, at_ms)

    def _suspect(self, row: Any, now_ns: int, at_ms: int) -> bool:
        """Whether this halt, of which only what `_active` names is known, may be overdue."""
        if row.state == State.RESET_REQUESTED:
            return True
        now = self._hub.live.get(Now(Topics(row.site, row.line, row.station)).key)
        return _is_gone(row.halt, row.received_ms, now, now_ns, at_ms)

    def look_at_shelves(self, at_ms: int) -> None:
        with self._hub.store.reading() as session:
            gone = (Shelf.ended_ms.is_(None), shelving.over(Shelf.until_ms, at_ms))
            due = session.scalar(select(Shelf.id).where(*gone).limit(1))
        if due is not None:
            with self._hub.store.writing() as session:
                shelving.end_due(session, at_ms)
            self._hub.news.tell(News("halt", "shelf"))

    def look_at_faults(self, now_ns: int, at_ms: int) -> None:
        """Once a second, for delays of ten. While the hub has no broker it hears nobody, which is one fault and not one
        of every station: the banner says it."""
        if now_ns < self._faults_due_ns:
            return
        self._faults_due_ns = now_ns + FAULTS_PERIOD_NS
        if not self._hub.hears():
            self._watch.forget()
            return
        with self._hub.store.reading() as session:
            ids = ids_by_key(session)
            found = self._watch.look(self._hub.live.stations(), ids, now_ns, at_ms)
            due = suppression.end_due(session, at_ms, write=False)
            due |= retirement.bring_back(self._hub, session, write=False)
            due |= faults.settle(session, *found, at_ms)  # tried out: this session keeps nothing
        if due:
            with self._hub.store.writing() as session:
                audit.in_turn(session)
                suppression.end_due(session, at_ms)
                retirement.bring_back(self._hub, session)
                faults.settle(session, *found, at_ms)
            self._hub.news.tell(News("halt", "fault"))

    def call_again(self, at_ms: int) -> None:
        """Whatever nobody acknowledged for too long; of a burst only its oldest, or a flood would flood the log."""
        patience_ms = self._hub.settings.realarm_min * 60_000
        with self._hub.store.reading() as session:
            due = _uncalled(session, at_ms, patience_ms)
            of_stations = faults.uncalled(session, at_ms, patience_ms)
        if of_stations:
            with self._hub.store.writing() as session:
                audit.in_turn(session)
                for fault in faults.uncalled(session, at_ms, patience_ms):
                    faults.change(session, fault, Cause.REALARMED, at_ms, why=_unheard(patience_ms))
            self._hub.news.tell(News("halt", "fault"))
        for halt_id in due:
            with self._hub.store.writing() as session:
                audit.in_turn(session)
                halt = session.get_one(Halt, halt_id)
                if halt.state in UNACKED:
                    change(session, halt, Cause.REALARMED, why=_unheard(patience_ms))
            self._hub.news.tell(News("halt", str(halt_id)))

    def _settle(self, halt_id: int, now_ns: int, at_ms: int) -> None:
        with self._hub.store.writing() as session:
            audit.in_turn(session)
            halt = session.get(Halt, halt_id, options=[selectinload(Halt.events)])
            # Looked at again inside the transaction: somebody may have acted in between.
            if halt is None or (cause := self._overdue(halt, now_ns, at_ms)) is None:
                return
            why = "the edge did not answer in time" if cause is Cause.UNANSWERED else "the permit no longer names it"
            change(session, halt, cause, why=why)
        self._hub.news.tell(News("halt", str(halt.id)))
        self._hub.news.tell(News("line", halt.station.key))

    def _overdue(self, halt: Halt, now_ns: int, at_ms: int) -> Cause | None:
        if halt.state not in ACTIVE:
            return None
        if _is_gone(halt.halt, halt.received_ms, self._hub.live.get(halt.station.key), now_ns, at_ms):
            return Cause.GONE
        if halt.state == State.RESET_REQUESTED:
            asked = _newest_ms(halt, Cause.RESET_ASKED)
            return Cause.UNANSWERED if abs(at_ms - asked) > ANSWER_WITHIN_MS else None  # asked before a step back
        return None


def _unheard(patience_ms: int) -> str:
    return f"not acknowledged for {patience_ms // 60_000} min"


def _uncalled(session: Session, at_ms: int, patience_ms: int) -> list[int]:
    """Of each cause that calls, the oldest halt, when it last called more than `patience_ms` ago; or so far ahead: the
    clock was set back since, and it would not call again before it is that late once more."""
    long_ago = or_(Halt.received_ms <= at_ms - patience_ms, Halt.received_ms >= at_ms + patience_ms)
    calling = select(Halt).where(shelving.calling(at_ms), long_ago).order_by(Halt.id)
    oldest: dict[shelving.CauseKey, Halt] = {}
    for halt in session.scalars(calling.options(selectinload(Halt.events)).limit(1000)):
        oldest.setdefault(shelving.cause_of(halt), halt)
    return [halt.id for halt in oldest.values() if abs(at_ms - _newest_ms(halt, Cause.REALARMED)) >= patience_ms]


def _newest_ms(halt: Halt, kind: Cause) -> int:
    """When this last happened to the halt: by the order of its history, whatever the clock said; 0 when never."""
    return next((e.at_ms for e in reversed(halt.events) if e.kind == kind), 0)


def _active(session: Session) -> Sequence[Any]:
    """Columns, no objects: after a flood there are hundreds, looked at five times a second."""
    columns = (Halt.id, Halt.halt, Halt.state, Halt.received_ms, Station.site, Station.line, Station.station)
    found = select(*columns).join(Station, Station.id == Halt.station_id).where(Halt.state.in_([*ACTIVE]))
    return session.execute(found.limit(1000)).all()


def _is_gone(halt: int, received_ms: int, now: Now | None, now_ns: int, at_ms: int) -> bool:
    """Whether the station's permit names another halt than this one, or none."""
    if now is None or now.permit is None or abs(at_ms - received_ms) < GONE_AFTER_MS:  # ahead: the clock was set back
        return False
    return now.permit_age_ms(now_ns) <= PERMIT_STALE_MS and now.permit.halt != halt
