"""What each stored message does to the database. Called by the writer inside its transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from inspection.messages import (
    Conn,
    HaltEvent,
    Message,
    ModelReported,
    PlcState,
    RecordEvent,
    ResumeAnswer,
    StopAnswer,
    Tally,
    Topics,
)
from inspection.station_messages import FilmEvent
from inspection.stop import SOMEBODY
from review import audit, rollout
from review.alarms import Cause, State, is_judged, step
from review.broadcast import News
from review.clock import wall_ms
from review.frames import FrameStore
from review.live import Now
from review.store import FilmRow, Halt, HaltEventRow, Record, Station, TallyRow

Stored = Conn | PlcState | ModelReported | HaltEvent | ResumeAnswer | StopAnswer | RecordEvent | Tally | FilmEvent


@dataclass(frozen=True, slots=True)
class Outcome:
    """`count`: what to count it as. `ack`: the uid the edge may delete now, or empty."""

    count: str = "stored"
    ack: str = ""
    news: tuple[News, ...] = ()


def store(session: Session, frames: FrameStore, topics: Topics, message: Message) -> Outcome:
    """One message by itself; the writer takes in many at a time."""
    batch = Batch(session, frames, [message])
    outcome = batch.store(topics, message)
    batch.close()
    return outcome


class Batch:
    """What one transaction takes in. Records are nearly everything that arrives, so they share what can be shared: one
    look for those known already, one statement that inserts them, and no look for a station that `ids` has already.
    `found`: ids of the stations met, for the next batch's `ids` once this one is committed."""

    def __init__(
        self, session: Session, frames: FrameStore, messages: Iterable[Message], ids: Mapping[Topics, int] | None = None
    ) -> None:
        self._session, self._frames = session, frames
        self.found = dict(ids or {})
        uids = [m.uid for m in messages if isinstance(m, RecordEvent)]
        known = select(Record.uid).where(Record.uid.in_(uids))
        self._known = set(session.scalars(known)) if uids else set()
        self._records: list[dict[str, Any]] = []

    def store(self, topics: Topics, message: Message) -> Outcome:
        """Do what it says; records are in the database once the batch is closed."""
        session, frames = self._session, self._frames
        assert isinstance(message, Stored)
        if isinstance(message, RecordEvent):
            return self._record(topics, message)
        station = station_row(session, topics)
        match message:
            case Conn():
                station.conn, station.edge, station.conn_ms = message.state, message.edge, wall_ms()
                return Outcome(news=(News("line", station.key),))
            case PlcState():
                station.plc, station.plc_why, station.plc_ms = message.state, message.why, wall_ms()
                return Outcome(news=(News("line", station.key),))
            case ModelReported():
                station.bundle, station.bundle_state = message.bundle, message.state
                station.bundle_wanted, station.bundle_why = message.wanted, message.why
                station.provider = message.provider
                rollout.heard(session, station, message, wall_ms())
                return Outcome(news=(News("model", station.key),))
            case HaltEvent():
                return _halt(session, station, message)
            case ResumeAnswer():
                return _resume_answer(session, station, message)
            case StopAnswer():
                return _stop_answer(session, station, message)
            case Tally():
                return _tally(session, station, message)
            case FilmEvent():
                return _film(session, frames, station, message)
            case _:
                assert_never(message)

    def close(self) -> None:
        if self._records:
            self._session.execute(insert(Record), self._records)
            self._records = []

    def _record(self, topics: Topics, m: RecordEvent) -> Outcome:
        if m.uid in self._known:
            return Outcome("duplicates", ack=m.uid)
        if not all(self._frames.exists(sha) for sha in (m.image, m.heat) if sha):
            return Outcome("frames_missing")
        station_id = self.found.get(topics)
        if station_id is None:
            station_id = self.found[topics] = station_row(self._session, topics).id
        fields = m.model_dump(mode="json", exclude={"v"})
        self._records.append({**fields, "station_id": station_id, "received_ms": wall_ms()})
        self._known.add(m.uid)
        news = [News("record", Now(topics).key)]
        if m.halt:
            of_halt = (Halt.station_id == station_id, Halt.halt == m.halt)
            if halt_id := self._session.scalar(select(Halt.id).where(*of_halt)):
                news.append(News("halt", str(halt_id)))
        return Outcome(ack=m.uid, news=tuple(news))


def station_row(session: Session, topics: Topics) -> Station:
    found = session.scalar(
        select(Station).where(
            Station.site == topics.site, Station.line == topics.line, Station.station == topics.station
        )
    )
    if found is None:
        found = Station(site=topics.site, line=topics.line, station=topics.station)
        session.add(found)
        session.flush()
    return found


def change(session: Session, halt: Halt, cause: Cause, who: str = "", **detail: object) -> None:
    """Append to a halt's history and move its state as the table says. What changes nothing is recorded as well."""
    halt.state = step(State(halt.state), cause, judged=is_judged(halt.code, halt.verdict))
    session.add(HaltEventRow(halt_id=halt.id, kind=cause, who=who, at_ms=wall_ms(), detail=detail))


def _halt(session: Session, station: Station, m: HaltEvent) -> Outcome:
    """The alarm, at once; its evidence follows as records."""
    known = session.scalar(select(Halt.id).where(Halt.station_id == station.id, Halt.halt == m.halt))
    if known is not None:
        return Outcome("duplicates", ack=m.uid)
    fields = m.model_dump(exclude={"v", "ts_ms", "records"})
    halt = Halt(
        **fields,
        station_id=station.id,
        records=list(m.records),
        at_ms=m.ts_ms,
        received_ms=wall_ms(),
        state=State.ACTIVE_UNACKED,
    )
    session.add(halt)
    session.flush()
    # The edge keeps a halt in its outbox like any record, until this.
    return Outcome(ack=m.uid, news=(News("halt", str(halt.id)), News("line", station.key)))


def _resume_answer(session: Session, station: Station, m: ResumeAnswer) -> Outcome:
    audit.in_turn(session)
    halt = session.scalar(select(Halt).where(Halt.station_id == station.id, Halt.halt == m.halt))
    if halt is None:
        return Outcome("unknown_halt")
    told = session.scalars(
        select(HaltEventRow).where(
            HaltEventRow.halt_id == halt.id, HaltEventRow.kind.in_([Cause.ACCEPTED, Cause.REFUSED])
        )
    )
    if any(e.detail.get("nonce") == m.nonce for e in told):
        return Outcome("duplicates")
    cause = Cause.ACCEPTED if m.accepted else Cause.REFUSED
    change(session, halt, cause, m.who, why=m.why, nonce=m.nonce, edge_ms=m.ts_ms)
    return Outcome(news=(News("halt", str(halt.id)), News("line", station.key)))


def _stop_answer(session: Session, station: Station, m: StopAnswer) -> Outcome:
    """Who asked stands in the history of the halt that keeps the line stopped, also where another one was open."""
    audit.in_turn(session)
    halt = session.scalar(select(Halt).where(Halt.station_id == station.id, Halt.halt == m.halt))
    if halt is None:
        return Outcome("unknown_halt")
    told = select(HaltEventRow).where(HaltEventRow.halt_id == halt.id, HaltEventRow.kind == Cause.STOP_ASKED)
    if any(e.detail.get("nonce") == m.nonce for e in session.scalars(told)):
        return Outcome("duplicates")
    change(session, halt, Cause.STOP_ASKED, m.who or SOMEBODY, why=m.why, nonce=m.nonce, edge_ms=m.ts_ms)
    return Outcome(news=(News("halt", str(halt.id)), News("line", station.key)))


def _tally(session: Session, station: Station, m: Tally) -> Outcome:
    if session.scalar(select(TallyRow.id).where(TallyRow.uid == m.uid)) is not None:
        return Outcome("duplicates", ack=m.uid)
    fields = m.model_dump(mode="json", exclude={"v"})
    session.add(TallyRow(**fields, station_id=station.id, received_ms=wall_ms()))
    session.flush()
    return Outcome(ack=m.uid)


def _film(session: Session, frames: FrameStore, station: Station, m: FilmEvent) -> Outcome:
    same = (FilmRow.station_id == station.id, FilmRow.halt == m.halt)
    if session.scalar(select(FilmRow.id).where(*same)) is not None:
        return Outcome("duplicates", ack=m.uid)
    if not frames.exists(m.image):
        return Outcome("frames_missing")
    fields = m.model_dump(mode="json", exclude={"v", "rule"})
    rule = m.rule.model_dump() if m.rule else {}
    session.add(FilmRow(**fields, rule=rule, station_id=station.id, received_ms=wall_ms()))
    session.flush()
    halt_id = session.scalar(select(Halt.id).where(Halt.station_id == station.id, Halt.halt == m.halt))
    return Outcome(ack=m.uid, news=(News("halt", str(halt_id)),) if halt_id else ())
