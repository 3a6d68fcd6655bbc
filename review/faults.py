"""A station's own alarms: what keeps it from inspecting, told by nobody and found by looking. None of them is a halt.

A condition must last `ON_DELAY_MS` before it is an alarm (ISA-18.2's on-delay: what comes and goes calls nobody). What
cannot be seen, as a camera behind a silent edge, neither begins nor ends one. Times are Unix ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from inspection.errors import HaltlineError
from inspection.types import Code
from review import audit, shelving, suppression
from review.alarms import UNACKED, Cause, State, fault_step
from review.fault_kinds import KINDS, RUNS_ANYWAY, kind_of
from review.language import _
from review.live import PERMIT_STALE_MS, Now, cannot_see, said, unkept, unseen
from review.store import OF_STATION, Fault, FaultEventRow, Shelf, Station, SuppressionRule
from review.suppression import Situation

ON_DELAY_MS = 10_000
SKEW_MS = 2000
OPEN = frozenset({State.ACTIVE_UNACKED, State.ACTIVE_ACKED, State.CLEARED_UNACKED})
ACTIVE = frozenset({State.ACTIVE_UNACKED, State.ACTIVE_ACKED})

BY_CODE: Mapping[int, str] = {
    Code.CAMERA: "camera",
    Code.MODEL: "model",
    Code.STORAGE: "storage",
    Code.INTERNAL: "edge/fault",
}
Key = tuple[int, str]
"""Station's id and kind: of one key at most one alarm is active."""


class NoSuchFault(HaltlineError):
    """There is no station alarm with this id."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at a station finds: kind -> why for people; kinds of which nothing can be said."""

    present: Mapping[str, str]
    unknown: frozenset[str]


def in_maintenance(now: Now, now_ns: int) -> bool:
    """Whether the edge itself says that somebody works there (`haltline edge maintenance`)."""
    return (
        now.permit is not None and now.permit_age_ms(now_ns) <= PERMIT_STALE_MS and now.permit.code == Code.MAINTENANCE
    )


def sight(now: Now, now_ns: int) -> Sight:
    heard = now.permit is not None and now.permit_age_ms(now_ns) <= PERMIT_STALE_MS
    found: dict[str, str] = {}
    unknown = {kind for kind in KINDS if kind.partition("/")[0] not in ("edge", "line") or kind == "edge/fault"}
    line_unknown = set() if heard and now.plc is not None else {"line/silent"}
    moving = now.plc is not None and now.plc.state == "RUNNING" and not now.plc_silent(now_ns)
    if moving and not (heard and now.permit is not None and now.permit.run):
        found[RUNS_ANYWAY] = "the line moves without a permit: its watchdog does not work"
    if heard and now.plc is not None and now.plc_silent(now_ns):
        found["line/silent"] = "the controller's heartbeat is missing"
    if not heard or now.permit is None:
        conn = now.conn.state if now.conn else ""
        if conn != "OFFLINE":  # somebody switched it off
            found["edge/silent"] = "the connection broke" if conn == "BROKEN" else "no permit arrives"
        return Sight(found, frozenset(unknown | line_unknown))
    kind = BY_CODE.get(now.permit.code)
    if now.permit.code == Code.STARTING and unseen(now, now_ns):  # no start will end where a camera has a reason
        kind = "camera"
    if kind and not now.permit.halt:
        does = "the edge withdraws its permit" if not now.permit.run else "the site lets the line run on"
        why = unseen(now, now_ns) if kind == "camera" else said(now, now.permit.code, now_ns)
        found[kind] = "; ".join(filter(None, (why, does)))
    if now.skew_ms is not None and abs(now.skew_ms) > SKEW_MS:
        found["clock"] = f"{now.skew_ms / 1000:+.0f} s"
    pictures = {kind for kind in KINDS if kind.startswith("picture/")}
    if not now.tells(now_ns):
        return Sight(found, frozenset(pictures | line_unknown | {"storage"}))
    if whys := unkept(now):
        found["storage"] = "; ".join(filter(None, (found.get("storage"), *whys)))[:400]
    return Sight(found | _pictures(now), frozenset(line_unknown))


def _pictures(now: Now) -> dict[str, str]:
    """Of optional cameras, which the permit says nothing of. What a camera that must see does not is a camera fault."""
    found: dict[str, list[str]] = {}
    for name, why in cannot_see(now, optional=True):
        found.setdefault(kind_of(why), []).append(f"{name}: {why}")
    return {kind: "; ".join(whys)[:400] for kind, whys in found.items()}


@dataclass(slots=True)
class Watch:
    """What must be remembered from look to look, in memory: a restart of the hub begins every delay anew."""

    since: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(station's key, kind) -> when its condition was first seen without a gap: by the monotonic clock, which the delay
    goes by, and for people."""
    stopped: dict[str, int] = field(default_factory=dict)
    """Station's key -> since when its line was seen to stand."""

    def look(
        self, stations: Sequence[Now], ids: Mapping[str, int], now_ns: int, at_ms: int
    ) -> tuple[dict[Key, tuple[str, int]], set[Key], dict[int, int], set[int]]:
        """(what is present: why and since when; what is unknown; station -> since when its line stands; stations whose
        edge says that somebody works there)."""
        present: dict[Key, tuple[str, int]] = {}
        unknown: set[Key] = set()
        seen: dict[tuple[str, str], tuple[int, int]] = {}
        stands: dict[int, int] = {}
        working: set[int] = set()
        for now in stations:
            if (station := ids.get(now.key)) is None:
                continue
            found = sight(now, now_ns)
            if in_maintenance(now, now_ns):
                working.add(station)
            unknown |= {(station, kind) for kind in found.unknown}
            for kind, why in found.present.items():
                began_ns, began = seen[now.key, kind] = self.since.get((now.key, kind), (now_ns, at_ms))
                if now_ns - began_ns >= ON_DELAY_MS * 1_000_000:
                    present[station, kind] = why, began
                else:  # too young for a new alarm, and no reason to end an old one
                    unknown.add((station, kind))
            if now.plc is not None and now.plc.state != "RUNNING" and not now.plc_silent(now_ns):
                stands[station] = self.stopped.setdefault(now.key, at_ms)
            else:
                self.stopped.pop(now.key, None)
        self.since = seen
        return present, unknown, stands, working

    def forget(self) -> None:
        """The hub itself hears nothing: whatever it sees next begins anew."""
        self.since.clear()
        self.stopped.clear()


def settle(
    session: Session,
    present: Mapping[Key, tuple[str, int]],
    unknown: set[Key],
    stands: Mapping[int, int],
    working: Collection[int],
    at_ms: int,
) -> bool:
    """Raise, end and suppress. True when anything changed; in a session that only reads nothing is kept of it."""
    rows = list(session.scalars(select(Fault).where(Fault.state.in_([*OPEN])).order_by(Fault.id)))
    active = {(f.station_id, f.kind): f for f in rows if f.state in ACTIVE}
    changed = False
    for key, fault in active.items():
        if key in present:
            changed |= fault.why != present[key][0]
            fault.why = present[key][0]
        elif key not in unknown:
            change(session, fault, Cause.GONE, at_ms)
            fault.cleared_ms, changed = at_ms, True
    for (station_id, kind), (why, began) in present.items():
        if (station_id, kind) not in active:
            fault = Fault(
                station=session.get_one(Station, station_id), station_id=station_id, kind=kind, why=why,
                state=State.ACTIVE_UNACKED, began_ms=began, at_ms=at_ms,
            )  # fmt: skip
            session.add(fault)
            change(session, fault, Cause.RAISED, at_ms, why=why)
            rows.append(fault)
            changed = True
    situation = Situation(
        frozenset({*suppression.in_maintenance(session, at_ms), *working}),
        stands,
        [f for f in rows if f.state in ACTIVE],
    )
    rules = suppression.in_force(session)
    return suppress(session, [f for f in rows if f.state in OPEN], rules, situation, at_ms) or changed


def suppress(
    session: Session, rows: Sequence[Fault], rules: Sequence[suppression.Rule], situation: Situation, at_ms: int
) -> bool:
    """Let each call, or not. What a rule held back and is still there when it lets go calls as a re-alarm."""
    changed = False
    for fault in rows:
        rule = next((r for r in rules if suppression.holds(r, fault, situation)), None)
        if rule is not None:
            if fault.suppressed_by != rule.id:
                fault.suppressed_by, fault.rule, changed = rule.id, rule, True
                change(session, fault, Cause.SUPPRESSED, at_ms, rule=rule.rule, version=rule.version, name=rule.name)
            continue
        if fault.suppressed_by is not None:
            was, fault.suppressed_by, fault.rule, changed = fault.rule, None, None, True
            change(session, fault, Cause.RELEASED, at_ms, rule=was.rule if was else 0)
            if fault.state in ACTIVE:
                change(session, fault, Cause.REALARMED, at_ms, why="its suppression ended and it is still there")
                fault.called_ms = at_ms
        if fault.called_ms is None:
            fault.called_ms, changed = at_ms, True
    return changed


def change(session: Session, fault: Fault, cause: Cause, at_ms: int, who: str = "", **detail: object) -> None:
    """Append to its history and move its state as the table says."""
    fault.state = fault_step(State(fault.state), cause, called=fault.called_ms is not None)
    session.add(FaultEventRow(of=fault, kind=cause, who=who, at_ms=at_ms, detail=detail))


def load(session: Session, fault_id: int) -> Fault:
    fault = session.get(Fault, fault_id)
    if fault is None:
        raise NoSuchFault(_("there is no station alarm %(n)s", n=fault_id))
    return fault


def acknowledge(session: Session, fault_id: int, who: str, at_ms: int) -> Fault:
    """NoSuchFault; twice is once."""
    audit.in_turn(session)
    fault = load(session, fault_id)
    if fault.state in UNACKED:
        change(session, fault, Cause.ACK, at_ms, who)
    return fault


def open_faults(session: Session) -> list[Fault]:
    """What calls first, then what was seen, then what is suppressed; the oldest of each first."""
    rows = session.scalars(select(Fault).where(Fault.state.in_([*OPEN])).order_by(Fault.id).limit(200))
    return sorted(rows, key=lambda f: (f.suppressed_by is not None, f.state not in UNACKED, f.id))


class ListedFault(NamedTuple):
    """A station alarm as the alarm list needs it. `rule`: the number of the one that keeps it quiet, None without."""

    id: int
    station_id: int
    kind: str
    why: str
    state: str
    at_ms: int
    line: str
    station: str
    rule: int | None
    rule_name: str | None


def listed(session: Session) -> list[ListedFault]:
    """As `open_faults`, as columns."""
    columns = (Fault.id, Fault.station_id, Fault.kind, Fault.why, Fault.state, Fault.at_ms)
    rule = SuppressionRule
    found = select(*columns, Station.line, Station.station, rule.rule, rule.name).join(Station, isouter=True)
    found = found.join(rule, rule.id == Fault.suppressed_by, isouter=True).where(Fault.state.in_([*OPEN]))
    rows = [ListedFault._make(row) for row in session.execute(found.order_by(Fault.id).limit(200))]
    return sorted(rows, key=lambda f: (f.rule is not None, f.state not in UNACKED, f.id))


@dataclass(frozen=True, slots=True)
class Held:
    """What one rule kept quiet: how often an alarm within the time, and how many now."""

    rule: int
    name: str
    times: int
    now: int


MOST_EVENTS = 20_000


def held(session: Session, from_ms: int, to_ms: int) -> list[Held]:
    """By rule, the most often used first; of a rule with several names the newest. Of the newest `MOST_EVENTS`."""
    within = (FaultEventRow.kind == Cause.SUPPRESSED, FaultEventRow.at_ms >= from_ms, FaultEventRow.at_ms < to_ms)
    rows = select(FaultEventRow.detail).where(*within).order_by(FaultEventRow.id.desc()).limit(MOST_EVENTS)
    times: Counter[int] = Counter()
    names: dict[int, str] = {}
    for detail in session.scalars(rows):
        times[detail["rule"]] += 1
        names.setdefault(detail["rule"], detail["name"])
    rules = [f.rule for f in open_faults(session) if f.rule is not None]
    now = Counter(r.rule for r in rules)
    names |= {r.rule: r.name for r in rules}
    return sorted((Held(r, name, times[r], now[r]) for r, name in names.items()), key=lambda h: (-h.times, h.rule))


def calling(now_ms: int) -> ColumnElement[bool]:
    """True for alarms that sound: called, seen by nobody, kept quiet by no rule and on no shelf."""
    same = and_(Shelf.station_id == Fault.station_id, Shelf.code == OF_STATION, Shelf.cls == Fault.kind)
    shelved = exists().where(same, shelving.holds(now_ms))
    called = (Fault.suppressed_by.is_(None), Fault.called_ms.is_not(None))
    return and_(Fault.state.in_([*UNACKED]), *called, ~shelved)


def count_calling(session: Session, now_ms: int) -> int:
    return session.scalar(select(func.count()).select_from(Fault).where(calling(now_ms))) or 0


def called_again(session: Session, now_ms: int) -> bool:
    """Whether one that sounds has called more than once."""
    again = select(FaultEventRow.id).join(FaultEventRow.of)
    again = again.where(calling(now_ms), FaultEventRow.kind == Cause.REALARMED)
    return session.scalar(again.limit(1)) is not None


def uncalled(session: Session, at_ms: int, patience_ms: int) -> list[Fault]:
    """What sounds and last called, or was called again, more than `patience_ms` ago; or so far ahead, before the clock
    was set back."""
    long_ago, ahead = at_ms - patience_ms, at_ms + patience_ms
    due = or_(Fault.called_ms <= long_ago, Fault.called_ms >= ahead)
    found = select(Fault).where(calling(at_ms), due).order_by(Fault.id).limit(200)
    lately = (FaultEventRow.at_ms > long_ago, FaultEventRow.at_ms < ahead)
    recent = select(FaultEventRow.fault_id).where(FaultEventRow.kind == Cause.REALARMED, *lately)
    return list(session.scalars(found.where(Fault.id.not_in(recent))))
