"""Rows of the alarm list, drawn once for as long as nothing in it changes: after each piece of news every tab fetches
the list anew, of whose 200 open alarms one has changed. As `station_card` for the Line page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

from markupsafe import Markup

from review.alarms import UNACKED, State
from review.bursts import Burst
from review.fault_kinds import RUNS_ANYWAY
from review.faults import ListedFault
from review.halt_view import ICONS, STATE_WORDS, VERDICT_WORDS, cause_words, fault_words
from review.language import N_, current, raw

KEPT = 4096
"""Rows of about 1 kB: 200 open ones and the pages of the past, for whoever may act and whoever only looks."""


@dataclass(frozen=True, slots=True)
class Member:
    """One halt of a row's burst. Times are Unix ms."""

    id: int
    at_ms: int
    unacked: bool


@dataclass(frozen=True, slots=True)
class RowFacts:
    """All that `alarm_row.html` reads, so that equal facts are the same row. `today` is there because a time of
    another day is written with its date. Words are in `language` already."""

    language: str
    today: date
    may_act: bool
    """Somebody is signed in and the alarm is an open one."""
    held: bool
    members: tuple[Member, ...]
    face: int
    """The halt that a tap opens."""
    icon: str
    cause: str
    length_mm: float
    line: str
    station: str
    state: str
    verdict: str
    shelf: str
    """In words; empty while it is not shelved."""


def facts(burst: Burst, *, may_act: bool, shelf: str) -> RowFacts:
    face = burst.face
    return RowFacts(
        language=current(),
        today=datetime.now().astimezone().date(),
        may_act=may_act,
        held=burst.held,
        members=tuple(Member(h.id, h.at_ms, h.state in UNACKED) for h in burst.halts),
        face=face.id,
        icon=ICONS[State(face.state)],
        cause=cause_words(face),
        length_mm=face.length_mm,
        line=face.line,
        station=face.station,
        state=raw(STATE_WORDS[State(face.state)]),
        verdict=raw(VERDICT_WORDS[face.verdict]) if face.verdict else "",
        shelf=shelf,
    )


@lru_cache(KEPT)
def drawn(facts: RowFacts) -> Markup:
    from review.deps import templates  # it has this function as a filter

    return Markup(templates.get_template("alarm_row.html").render(r=facts))


FAULT_WORDS = {
    State.ACTIVE_UNACKED: N_("active, not acknowledged"),
    State.ACTIVE_ACKED: N_("active, acknowledged"),
    State.CLEARED_UNACKED: N_("over, not acknowledged"),
}


@dataclass(frozen=True, slots=True)
class FaultFacts:
    """All that `fault_row.html` reads of a station's own alarm. As `RowFacts`."""

    language: str
    today: date
    signed_in: bool
    fault: ListedFault
    what: str
    state: str
    active: bool
    unacked: bool
    shelf: str
    may_be_shelved: bool


def fault_facts(fault: ListedFault, *, signed_in: bool, shelf: str) -> FaultFacts:
    state = State(fault.state)
    return FaultFacts(
        language=current(),
        today=datetime.now().astimezone().date(),
        signed_in=signed_in,
        fault=fault,
        what=fault_words(fault.kind),
        state=raw(FAULT_WORDS[state]),
        active=state is not State.CLEARED_UNACKED,
        unacked=state in UNACKED,
        shelf=shelf,
        may_be_shelved=not shelf and not fault.rule and fault.kind != RUNS_ANYWAY,
    )


@lru_cache(KEPT)
def drawn_fault(facts: FaultFacts) -> Markup:
    from review.deps import templates

    return Markup(templates.get_template("fault_row.html").render(f=facts))
