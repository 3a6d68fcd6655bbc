"""What people do about a halt: acknowledge, judge, ask for a reset. Each is one row of history with who and when."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, select
from sqlalchemy.orm import Session, selectinload

from inspection.errors import HaltlineError
from inspection.messages import Resume, Topics
from inspection.types import Code
from review import audit
from review.alarms import ACTIVE, UNACKED, Cause, State, Verdict, is_judged, why_no_undo, why_not
from review.broadcast import News
from review.hub import Hub
from review.ingest import change
from review.language import _, raw
from review.live import PERMIT_STALE_MS
from review.store import Halt, Record, Station

ANSWER_WITHIN_MS = 6000
"""A resume lives 5 s at the edge; after that no answer will come."""


MOST_FRAMES = 24

NO_VERDICT = "none"
"""What a page says it saw before anybody had judged; an empty field of a form says nothing."""


class NotNow(HaltlineError):
    """What a person asked for cannot be done in the halt's present state; says why."""


class NoSuchHalt(HaltlineError):
    """There is no halt with this id."""


def urgency() -> ColumnElement[int]:
    """For lists that are cut: 0 holds a line, 1 is over but nobody has seen it, 2 is the rest."""
    return case((Halt.state.in_([*ACTIVE]), 0), (Halt.state.in_([*UNACKED]), 1), else_=2)


def topics_of(station: Station) -> Topics:
    return Topics(station.site, station.line, station.station)


def acknowledge(hub: Hub, halt_id: int, who: str) -> None:
    with hub.store.writing() as session:
        halt = _changing(session, halt_id, Cause.ACK)
        change(session, halt, Cause.ACK, who)
    _tell(hub, halt)


def judge(hub: Hub, halt_id: int, who: str, verdict: Verdict, saw: str, was: str | None = None) -> None:
    """Say what it was. Judging is having seen, so an unseen halt is acknowledged by the same tap.

    `saw` is the uid of the record whose picture was on the screen. It may be empty only while there is none. `was` is
    the verdict that stood on it, where the caller says so: one that came meanwhile is not overwritten unseen.
    """
    with hub.store.writing() as session:
        halt = _to_change(session, halt_id)
        if halt.code == Code.STOP:
            raise NotNow(_("a person asked for this stop: there is nothing to judge"))
        if was is not None and _said(halt) != was and (halt.verdict, _said_by(halt)) == (verdict, who):
            return  # sent again, since the answer to it was lost
        _refuse_if_unseen(halt, was)
        _check_seen(session, halt, saw)
        if not why_not(State(halt.state), Cause.ACK, judged=False):
            change(session, halt, Cause.ACK, who)
        _refuse_if_not(halt, Cause.VERDICT)
        was, halt.verdict = halt.verdict, verdict
        change(session, halt, Cause.VERDICT, who, verdict=verdict, was=was, saw=saw)
    _tell(hub, halt)


def undo(hub: Hub, halt_id: int, who: str, was: str | None = None) -> None:
    """Take back the verdict one has just given: a glove hit the wrong key. Both stay in the history. `was`: as in
    `judge`. Only one's own: an Undo of another's would come under the finger that was about to acknowledge."""
    with hub.store.writing() as session:
        halt = _to_change(session, halt_id)
        _refuse_if_unseen(halt, was)
        newest = halt.events[-1] if halt.events else None
        before = newest.detail.get("was") if newest else None
        if why := why_no_undo(State(halt.state), newest.kind if newest else "", before):
            raise NotNow(why)
        if newest and newest.who != who:
            raise NotNow(_("the verdict is by %(who)s: judge it anew instead", who=newest.who))
        taken, halt.verdict = halt.verdict, before
        change(session, halt, Cause.UNDONE, who, verdict=taken, now=before)
    _tell(hub, halt)


def ask_reset(hub: Hub, halt_id: int, who: str, now_ns: int) -> None:
    """Ask the edge to let go. The request names the newest permit seen, so that a late one does nothing."""
    with hub.store.writing() as session:
        halt = _changing(session, halt_id, Cause.RESET_ASKED)
        now = hub.live.get(halt.station.key)
        if now is None or now.permit is None or now.permit_age_ms(now_ns) > PERMIT_STALE_MS:
            raise NotNow(
                _("the edge is silent, so nobody would answer: see to the edge computer and its network first")
            )
        request = Resume(
            halt=halt.halt, who=who, nonce=secrets.token_urlsafe(16), boot=now.permit.boot, seq=now.permit.seq
        )
        change(session, halt, Cause.RESET_ASKED, who, nonce=request.nonce, boot=request.boot, seq=request.seq)
    # After the commit: the edge may answer at once, and the answer must find the request.
    if not hub.publish(topics_of(halt.station), request):
        with hub.store.writing() as session:
            change(session, _to_change(session, halt_id), Cause.UNANSWERED, why="not sent: the hub has lost the broker")
        _tell(hub, halt)
        raise NotNow(_("not sent: the hub has lost the broker. Reset at the machine's own panel or try again"))
    _tell(hub, halt)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What belongs to a halt: the frame that completed it, and the other frames."""

    main: Record | None
    others: tuple[Record, ...]


def evidence(session: Session, halt: Halt, frame_uid: str = "") -> Evidence:
    """`frame_uid` puts another of the halt's frames first."""
    here = select(Record).where(Record.station_id == halt.station_id, Record.image.is_not(None))
    here = here.order_by(Record.frame_id).limit(MOST_FRAMES)
    # Two queries, each by its index: with an "or" the database reads every record of the station.
    named, of_halt = here.where(Record.uid.in_(halt.records)), here.where(Record.halt == halt.halt)
    belongs = {r.id: r for query in (named, of_halt) for r in session.scalars(query)}
    found = sorted(belongs.values(), key=lambda r: r.frame_id)[:MOST_FRAMES]
    main = min(found, key=lambda r: (r.uid != frame_uid, *_distance(r, halt)), default=None)
    return Evidence(main, tuple(r for r in found if r is not main))


def _check_seen(session: Session, halt: Halt, saw: str) -> None:
    found = evidence(session, halt)
    pictures = [record.uid for record in (found.main, *found.others) if record is not None]
    if pictures and saw not in pictures:
        raise NotNow(_("the picture has arrived: look at it first, then judge"))


def _said(halt: Halt) -> str:
    return halt.verdict or NO_VERDICT


def _said_by(halt: Halt) -> str:
    """Whose the verdict that holds is, or who took the last one back; empty before anybody said anything."""
    for fact in reversed(halt.events):
        gave = fact.kind == Cause.VERDICT and fact.detail.get("verdict") == halt.verdict
        if gave or (halt.verdict is None and fact.kind == Cause.UNDONE):
            return fact.who
    return ""


def _refuse_if_unseen(halt: Halt, was: str | None) -> None:
    if was is None or was == _said(halt):
        return
    who = _said_by(halt)
    if halt.verdict is None:
        raise NotNow(_("not recorded: %(who)s took the verdict back meanwhile. Look again, then judge", who=who))
    said = raw(halt.verdict.replace("_", " "))
    raise NotNow(
        _("not recorded: the verdict is now “%(said)s”, by %(who)s. Look again, then judge", said=said, who=who)
    )


def _distance(record: Record, halt: Halt) -> tuple[bool, bool, int]:
    """How far a record is from being *the* frame: the completing one first, then defects, then the nearest. No frame
    completed a requested stop: the newest one shows what there was to see."""
    if halt.frame_id < 0:
        return False, False, -record.ts_ms
    return record.frame_id != halt.frame_id, record.call != "defect", abs(record.frame_id - halt.frame_id)


def load(session: Session, halt_id: int) -> Halt:
    halt = session.get(Halt, halt_id, options=[selectinload(Halt.events)])
    if halt is None:
        raise NoSuchHalt(_("there is no halt %(n)s", n=halt_id))
    return halt


def _to_change(session: Session, halt_id: int) -> Halt:
    audit.in_turn(session)
    return load(session, halt_id)


def _changing(session: Session, halt_id: int, cause: Cause) -> Halt:
    halt = _to_change(session, halt_id)
    _refuse_if_not(halt, cause)
    return halt


def _refuse_if_not(halt: Halt, cause: Cause) -> None:
    if why := why_not(State(halt.state), cause, judged=is_judged(halt.code, halt.verdict)):
        raise NotNow(why)


def _tell(hub: Hub, halt: Halt) -> None:
    hub.news.tell(News("halt", str(halt.id)))
    hub.news.tell(News("line", halt.station.key))
