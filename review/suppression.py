"""Alarms that a rule keeps quiet while its condition holds: ISA-18.2's "suppressed by design". Never a halt.

A rule says while what, at which stations, which alarms call nobody: while somebody works there, while the line had been
standing before, while another alarm says it already. It is written by an engineer with a reason; a changed one is a new
version, and every version, suppression and release is in the audit log. Times are Unix ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inspection.errors import InputError
from review import audit
from review.fault_kinds import KINDS, RUNS_ANYWAY
from review.language import N_, _
from review.shelving import MAX_WHY, MINUTES, over
from review.store import Fault, Maintenance, Station, SuppressionRule

Rule = SuppressionRule
HALT = "halt"
STOOD_BEFORE_MS = 5000
"""A line that stood so long before an alarm began was not stopped by it. A camera fault stops a line within a second;
if that were enough, the alarm would silence itself."""


class Condition(StrEnum):
    MAINTENANCE = "maintenance"
    LINE_STOPPED = "line_stopped"
    ALARM = "alarm"


CONDITION_WORDS = {
    Condition.MAINTENANCE: N_("while the station is in maintenance"),
    Condition.LINE_STOPPED: N_("while the line has been standing since before"),
    Condition.ALARM: N_("while another alarm is active"),
}


@dataclass(frozen=True, slots=True)
class Situation:
    """What rules look at: stations somebody works at, station -> since when its line stands, active alarms."""

    maintenance: frozenset[int]
    stands: Mapping[int, int]
    active: Sequence[Fault]


def holds(rule: Rule, fault: Fault, now: Situation) -> bool:
    """Whether this rule keeps this alarm quiet now."""
    if not covers(rule, fault):
        return False
    match Condition(rule.condition):
        case Condition.MAINTENANCE:
            return fault.station_id in now.maintenance
        case Condition.LINE_STOPPED:
            since = now.stands.get(fault.station_id)
            return since is not None and since + STOOD_BEFORE_MS <= fault.began_ms
        case Condition.ALARM:
            return any(other.kind == rule.kind and _near(rule, fault, other) for other in now.active)


def covers(rule: Rule, fault: Fault) -> bool:
    """Whether this alarm is one of those the rule names; never one that nothing may keep quiet."""
    if fault.kind == RUNS_ANYWAY or not any(fnmatchcase(fault.kind, p) for p in rule.alarms):
        return False
    return fnmatchcase(place(fault.station), rule.stations)


def _near(rule: Rule, fault: Fault, other: Fault) -> bool:
    a, b = fault.station, other.station
    return (a.site, a.line) == (b.site, b.line) and (rule.whole_line or a.station == b.station)


def place(station: Station) -> str:
    """`site/line/station`, what the pattern of a rule is held against."""
    return f"{station.site}/{station.line}/{station.station}"


def in_force(session: Session) -> list[Rule]:
    return list(session.scalars(select(Rule).where(Rule.ended_ms.is_(None)).order_by(Rule.rule)))


def history(session: Session, limit: int = 50) -> list[Rule]:
    """Versions that are not in force any more, newest end first."""
    ended = select(Rule).where(Rule.ended_ms.is_not(None)).order_by(Rule.ended_ms.desc(), Rule.id.desc())
    return list(session.scalars(ended.limit(limit)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rule as somebody wrote it. `rule`: the number of the one it replaces, None for a new one."""

    rule: int | None
    name: str
    condition: Condition
    kind: str
    whole_line: bool
    stations: str
    alarms: tuple[str, ...]
    why: str


def define(session: Session, wanted: Wanted, who: str, now_ms: int) -> Rule:
    """A new rule, or the next version of one. InputError says what is wrong with it."""
    others = [r for r in in_force(session) if r.rule != wanted.rule]
    _check(session, wanted, others)
    version = 1
    if wanted.rule is not None:
        before = session.scalar(select(Rule).where(Rule.rule == wanted.rule, Rule.ended_ms.is_(None)))
        if before is None:
            raise InputError(_("rule"), _("is not in force any more"), _("reload the page"))
        before.ended_ms, before.ended_by, version = now_ms, who, before.version + 1
    number = wanted.rule or (session.scalar(select(func.max(Rule.rule))) or 0) + 1
    of_alarm = wanted.condition is Condition.ALARM
    row = Rule(
        rule=number, version=version, name=" ".join(wanted.name.split()), condition=wanted.condition,
        kind=wanted.kind if of_alarm else "", whole_line=wanted.whole_line and of_alarm, stations=wanted.stations,
        alarms=list(dict.fromkeys(wanted.alarms)), why=" ".join(wanted.why.split()), by=who, created_ms=now_ms,
        ended_ms=None, ended_by="",
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def end(session: Session, number: int, who: str, now_ms: int) -> bool:
    """False when it is not in force."""
    row = session.scalar(select(Rule).where(Rule.rule == number, Rule.ended_ms.is_(None)))
    if row is None:
        return False
    row.ended_ms, row.ended_by = now_ms, who
    audit.note(session, who, "suppression_rule_ended", f"rule {row.rule} version {row.version}", name=row.name)
    return True


def _check(session: Session, wanted: Wanted, others: Iterable[Rule]) -> None:
    _length(_("name"), wanted.name, 64)
    _length(_("reason"), wanted.why, MAX_WHY)
    if not wanted.alarms:
        raise InputError(_("alarms"), _("none is named"), _("choose what is to call nobody"))
    for pattern in wanted.alarms:
        if could_match_halts(pattern):
            raise InputError(
                pattern,
                _("would match halts, and a halt is never suppressed: it latches the line and somebody must look"),
                _("name kinds of station alarms, as picture/* or camera"),
            )
        if fnmatchcase(RUNS_ANYWAY, pattern):
            raise InputError(
                pattern,
                _("would match a line that runs without a permit, which is never suppressed"),
                _("name the kinds one by one"),
            )
        if not any(fnmatchcase(kind, pattern) for kind in KINDS):
            what = _("names no station alarm; a class of defects is a halt, which is never suppressed")
            raise InputError(pattern, what, _("one of %(kinds)s", kinds=", ".join(KINDS)))
    if wanted.condition is Condition.ALARM:
        if wanted.kind not in KINDS:
            raise InputError(_("condition"), _("%(kind)s names no alarm", kind=wanted.kind or "–"), _("choose one"))
        _check_circle(wanted, others, KINDS)
    stations = session.scalars(select(Station)).all()
    if not any(fnmatchcase(place(s), wanted.stations) for s in stations):
        fix = _("site/line/station, with * for any: plant/line-a/*")
        raise InputError(_("stations"), _("%(pattern)s is none that has reported", pattern=wanted.stations), fix)


def could_match_halts(pattern: str) -> bool:
    """Halts are named `halt/<class>` here. Judged by what stands before the first wildcard, so that no class that will
    ever be defined is matched by a trick."""
    fixed = pattern[: min((pattern.index(c) for c in "*?[" if c in pattern), default=len(pattern))]
    if fixed == pattern:
        return pattern == HALT or pattern.startswith(f"{HALT}/")
    return f"{HALT}/".startswith(fixed) or fixed.startswith(f"{HALT}/")


def _check_circle(wanted: Wanted, others: Iterable[Rule], kinds: Iterable[str]) -> None:
    """Two alarms that each keep the other quiet would leave nobody called."""
    kinds = tuple(kinds)
    leads: dict[str, set[str]] = {}
    edges = [(r.kind, tuple(r.alarms)) for r in others if r.condition == Condition.ALARM]
    for kind, patterns in (*edges, (wanted.kind, wanted.alarms)):
        leads.setdefault(kind, set()).update(k for k in kinds if any(fnmatchcase(k, p) for p in patterns))
    reached, waiting = set[str](), [wanted.kind]
    while waiting:
        for follower in leads.get(waiting.pop(), set()) - reached:
            reached.add(follower)
            waiting.append(follower)
    if wanted.kind in reached:
        raise InputError(
            _("condition"),
            _("%(kind)s would keep itself quiet, by itself or through other rules", kind=wanted.kind),
            _("leave it out of the alarms, or end the other rule"),
        )


def _length(what: str, text: str, most: int) -> None:
    if not 3 <= len(" ".join(text.split())) <= most:
        raise InputError(what, _("has %(n)s letters", n=len(text)), _("3 to %(n)s letters", n=most))


# ── maintenance ─────────────────────────────────────────────────────────────────────────────────────────────────────


def begin_maintenance(session: Session, station_id: int, who: str, why: str, minutes: int, now_ms: int) -> Maintenance:
    """A station is in one maintenance at most: a new one ends the one before."""
    station = session.get(Station, station_id)
    if station is None:
        raise InputError(_("station"), _("%(n)s is no choice", n=station_id), _("reload the page"))
    if minutes not in MINUTES:
        choices = ", ".join(map(str, MINUTES))
        raise InputError(_("minutes"), _("%(n)s is no choice", n=minutes), _("one of %(choices)s", choices=choices))
    _length(_("reason"), why, MAX_WHY)
    if before := in_maintenance(session, now_ms).get(station.id):
        end_maintenance(session, before, who, now_ms)
    row = Maintenance(
        station=station, station_id=station.id, why=" ".join(why.split()), by=who, from_ms=now_ms,
        until_ms=now_ms + minutes * 60_000, ended_ms=None, ended_by="",
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def end_maintenance(session: Session, row: Maintenance, who: str, now_ms: int) -> None:
    if row.ended_ms is None:
        row.ended_ms, row.ended_by = now_ms, who
        audit.note(session, who, "maintenance_ended", f"station {row.station_id}")


def in_maintenance(session: Session, now_ms: int) -> dict[int, Maintenance]:
    """By station; it ends by itself at its minute."""
    holds = (Maintenance.ended_ms.is_(None), ~over(Maintenance.until_ms, now_ms))
    return {m.station_id: m for m in session.scalars(select(Maintenance).where(*holds).order_by(Maintenance.id))}


def end_due(session: Session, now_ms: int, *, write: bool = True) -> bool:
    """Write down which maintenance has ended by itself; True when any has."""
    due = select(Maintenance).where(Maintenance.ended_ms.is_(None), over(Maintenance.until_ms, now_ms))
    rows = session.scalars(due).all()
    for row in rows if write else ():
        end_maintenance(session, row, "hub", now_ms)
    return bool(rows)
