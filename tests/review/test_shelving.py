"""Shelves, bursts and calling again: quiet for a while, never hidden, never for ever. And the alarm table, played at
random."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inspection.errors import InputError
from inspection.messages import Permit, Topics
from review import halts, shelving
from review.alarms import ACTIVE, UNACKED, Cause, State, step, why_not
from review.bursts import GAP_MS, bursts
from review.ingest import change
from review.live import Now
from review.routes.alarms import MAX_OPEN, _open
from review.routes.events import _tick
from review.store import Halt
from tests.review.floor import MIN, NOW, World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_shelf_is_quiet_shown_and_ends_by_itself(world: World) -> None:
    halt = world.halt()
    assert world.calls() == 1
    assert world.shelve(halt) == 303
    assert world.calls() == 0
    page = world.ana.get("/alarms").text
    assert "nozzle is changed" in page
    assert "by Ana (operator)" in page
    assert f'href="/halts/{halt}"' in page, "shelved is not hidden"
    world.halt()
    assert world.calls() == 0, "the next of the same cause is shelved too"
    world.halt("undercut")
    world.halt(station=2)
    assert world.calls() == 2, "another cause and another station are not"
    world.now += 15 * MIN - 1
    assert world.calls() == 2
    world.now += 1
    assert world.calls() == 4, "at its minute, whether or not upkeep has run"
    world.upkeep.look_at_shelves(world.now)
    assert world.shelves()[0].ended_by == "hub"
    assert world.acts("unshelved") == [("hub", "station 1 code 1 porosity")]
    assert world.acts("shelved") == [("Ana (operator)", "station 1 code 1 porosity")]


def test_a_shelf_put_while_the_hubs_clock_was_ahead_ends_with_that(world: World) -> None:
    """It kept its cause quiet until the clock was that late again, be it a year; a shift is the most."""
    halt, truth = world.halt(), world.now
    world.now = truth + 400 * 24 * 60 * MIN
    world.shelve(halt, 15)
    assert world.calls() == 0
    world.now = truth + MIN  # somebody has set it
    assert world.calls() == 1
    assert "until" not in world.ana.get("/alarms").text
    world.upkeep.look_at_shelves(world.now)
    assert world.shelves()[0].ended_by == "hub"
    world.shelve(halt, 480)
    world.now -= MIN // 2  # and no step of some seconds ends one
    world.upkeep.look_at_shelves(world.now)
    assert world.calls() == 0


def test_a_shelf_can_be_ended_and_a_second_one_replaces_the_first(world: World) -> None:
    halt = world.halt()
    world.shelve(halt)
    world.shelve(halt, 480, "still the nozzle")
    first, second = world.shelves()
    assert (first.ended_by, second.ended_ms) == ("Ana (operator)", None)
    assert world.ana.post(f"/alarms/shelves/{second.id}/end").status_code == 303
    assert world.calls() == 1
    assert world.ana.post("/alarms/shelves/99/end").status_code == 404


def test_out_of_service_is_for_engineers_and_has_no_end(world: World) -> None:
    halt = world.halt()
    assert world.shelve(halt, 0) == 403
    assert world.shelve(halt, 0, by="chen") == 303
    world.now += 30 * 24 * 60 * MIN
    world.upkeep.look_at_shelves(world.now)
    assert world.calls() == 0
    assert world.ana.post("/alarms/shelves/1/end").status_code == 403
    assert world.shelve(halt) == 403, "a new shelf would end it too"
    assert [s.ended_ms for s in world.shelves()] == [None]
    assert world.chen.post("/alarms/shelves/1/end").status_code == 303
    assert world.calls() == 1
    assert world.shelve(halt) == 303
    assert world.shelve(halt, 0, by="chen") == 303
    assert world.shelve(halt, 60, by="chen") == 303, "an engineer may"


@pytest.mark.parametrize(("minutes", "why"), [(15, ""), (15, " x "), (15, "y" * 201), (16, "reason"), (-1, "reason")])
def test_no_reason_or_another_time_is_refused_and_what_was_typed_stays(world: World, minutes: int, why: str) -> None:
    answer = world.ana.post("/alarms/shelve", data={"halt": world.halt(), "minutes": minutes, "why": why})
    assert answer.status_code == 422
    assert f'value="{why}"' in answer.text
    assert world.calls() == 1
    with pytest.raises(InputError), world.hub.store.writing() as session:
        shelving.shelve(session, session.get_one(Halt, 1), "Ana", why, minutes, NOW)


def test_what_nobody_acknowledges_calls_again_once_per_cause(world: World) -> None:
    first, _second, other = world.halt(), world.halt(), world.halt("undercut")
    shelved = world.halt("spatter")
    world.shelve(shelved, 480)
    for _ in range(3):
        world.upkeep.call_again(world.now)
    assert not _tick(world.hub)["urgent"]
    world.now += 5 * MIN
    for _ in range(3):
        world.upkeep.call_again(world.now)
    assert _tick(world.hub)["urgent"]
    assert world.acts("realarmed") == [("hub", f"halt {first}"), ("hub", f"halt {other}")]
    world.now += 5 * MIN
    world.ana.post(f"/halts/{other}/ack")
    world.upkeep.call_again(world.now)
    assert [s for _, s in world.acts("realarmed")] == [f"halt {n}" for n in (first, other, first)]


def test_what_was_open_when_the_hubs_clock_was_set_back_calls_again_and_ends(world: World) -> None:
    """For as long as the clock had been ahead nobody was called, no reset at the machine was seen, and a reset that the
    edge did not answer could not be asked for once more."""
    first, second, asked = world.halt(), world.halt("undercut", 2), world.halt("spatter", 2)
    with world.hub.store.writing() as session:
        halt = halts.load(session, asked)
        for cause in (Cause.ACK, Cause.RESET_ASKED):
            change(session, halt, cause, "Ana (operator)")
    world.now += 5 * MIN
    world.upkeep.call_again(world.now)
    realarmed = [("hub", f"halt {first}"), ("hub", f"halt {second}")]
    assert world.acts("realarmed") == realarmed
    world.now -= 60 * MIN  # somebody has set it
    for _ in range(3):
        world.upkeep.call_again(world.now)
    assert world.acts("realarmed") == realarmed * 2, "at once, and then at its pace"
    world.now += 5 * MIN
    world.upkeep.call_again(world.now)
    assert world.acts("realarmed") == realarmed * 3
    permit = Permit(boot=1, seq=1, run=1, code=0, halt=0, echo=0, age_ms=1, ts_ms=world.now)
    world.hub.live._stations["p~l~s1"] = Now(Topics("p", "l", "s1"), permit=permit, permit_ns=1)
    world.upkeep.look_at_halts(1, world.now)
    with world.hub.store.reading() as session:
        states = [halts.load(session, n).state for n in (first, second, asked)]
    assert states == [State.CLEARED_UNACKED, State.ACTIVE_UNACKED, State.ACTIVE_ACKED]


def test_a_burst_is_one_item(world: World) -> None:
    for _ in range(10):
        world.halt(state=State.CLEARED_UNACKED)
        world.now += MIN
    world.halt("undercut")
    world.now += GAP_MS
    world.halt(state=State.CLEARED_UNACKED)
    page = world.ana.get("/alarms").text
    assert page.count("×10") == 1
    assert page.count("×") == 1


def test_a_flood_can_be_acknowledged_to_its_end_and_paged_to_its_end(world: World) -> None:
    def ids(page: str) -> list[int]:
        return [int(i) for value in re.findall(r'name="ids" value="([\d,]+)"', page) for i in value.split(",")]

    for n in range(MAX_OPEN + 60):
        world.now += GAP_MS + 1  # each a row of its own
        world.halt(state=State.CLEARED_ACKED if n < 30 else State.CLEARED_UNACKED)
    page = world.ana.get("/alarms").text
    assert ids(page) == [*range(61, MAX_OPEN + 61)], "the newest"
    more = html.unescape(re.findall(r'href="(\?[^"]*)">60 more are open', page)[0])
    rest = world.ana.get(f"/alarms{more}").text
    assert ids(rest) == [*range(31, 61)]
    assert [int(h) for h in re.findall(r'<a href="/halts/(\d+)"', rest)][30:] == [*range(1, 31)], "what was seen last"
    assert "more are open" not in rest
    assert "<h2>" not in rest, "the shelf and the past are on the first page"
    assert world.ana.post("/alarms/ack", data={"ids": ids(page)}).status_code == 303
    assert ids(world.ana.get("/alarms").text) == [*range(31, 61)], "what nobody has seen comes before what was seen"
    held = world.halt("undercut", state=State.ACTIVE_ACKED)
    first = world.ana.get("/alarms").text
    assert f'href="/halts/{held}"' in first
    assert world.ana.get("/alarms?open_after=3-1").status_code == 422
    assert world.ana.get("/alarms?open_after=2-1").text.count("Nothing to review") == 1


def test_bursts_open_at_what_holds_the_line(world: World) -> None:
    for state in (State.CLEARED_UNACKED, State.ACTIVE_ACKED, State.CLEARED_ACKED):
        world.halt(state=state)
    with world.hub.store.reading() as session:
        (burst,) = bursts(_open(session, [])[0])
    assert (burst.face.id, burst.held, len(burst.unacked)) == (2, True, 1)


def test_many_at_a_time_only_where_no_line_is_held(world: World) -> None:
    over, held = world.halt(state=State.CLEARED_UNACKED), world.halt("undercut")
    also = world.halt(state=State.CLEARED_UNACKED)
    answer = world.ana.post("/alarms/ack", data={"ids": [f"{over},{also}", str(held)]})
    assert answer.status_code == 303
    with world.hub.store.reading() as session:
        states = {h.id: h.state for h in session.query(Halt)}
    assert states == {over: "CLEARED_ACKED", also: "CLEARED_ACKED", held: "ACTIVE_UNACKED"}
    assert world.ana.post("/alarms/ack", data={"ids": ["1;2"]}).status_code == 422
    assert world.ana.post("/alarms/ack", data={"ids": ["999"]}).status_code == 404


# ── the table, played at random ─────────────────────────────────────────────────────────────────────────────────────


class Alarm(RuleBasedStateMachine):
    """One alarm, a shelf and a clock, against what people were promised rather than against the table itself."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.seen = State.ACTIVE_UNACKED, [State.ACTIVE_UNACKED]
        self.acked = self.judged = self.over = self.asked = False
        self.now, self.until, self.ended = 0, 0, 1

    def happens(self, cause: Cause) -> None:
        self.state = step(self.state, cause, judged=self.judged)
        self.seen.append(self.state)

    def person(self, cause: Cause, then: Callable[[], None]) -> None:
        if not why_not(self.state, cause, judged=self.judged):
            then()
            self.happens(cause)

    @rule()
    def ack(self) -> None:
        self.person(Cause.ACK, lambda: setattr(self, "acked", True))

    @rule()
    def verdict(self) -> None:
        self.person(Cause.VERDICT, lambda: setattr(self, "judged", True))

    @rule()
    def reset_asked(self) -> None:
        self.person(Cause.RESET_ASKED, lambda: setattr(self, "asked", True))

    @rule(cause=st.sampled_from([Cause.ACCEPTED, Cause.GONE]))
    def over_at_the_machine(self, cause: Cause) -> None:
        self.over = True
        self.happens(cause)

    @rule(cause=st.sampled_from([Cause.REFUSED, Cause.UNANSWERED, Cause.REALARMED]))
    def nothing_came_of_it(self, cause: Cause) -> None:
        before = self.state
        self.happens(cause)
        assert (self.state in ACTIVE) == (before in ACTIVE)

    @rule(minutes=st.sampled_from(shelving.MINUTES))
    def shelve(self, minutes: int) -> None:
        self.until, self.ended = self.now + minutes * MIN, 0

    @rule(minutes=st.integers(1, 600))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MIN

    @invariant()
    def nobody_is_spared_ack_and_verdict(self) -> None:
        assert self.state in UNACKED or self.acked
        assert self.state is not State.CLOSED or (self.acked and self.judged and self.over)
        assert self.state not in (State.RESET_REQUESTED, State.RESET) or (self.asked and self.judged)

    @invariant()
    def it_never_comes_back(self) -> None:
        over = [s not in ACTIVE for s in self.seen]
        assert over == sorted(over)
        closed = [s is State.CLOSED for s in self.seen]
        assert closed == sorted(closed)

    @invariant()
    def it_is_quiet_for_a_shift_at_most(self) -> None:
        quiet = shelving.is_on(self.until, self.ended or None, self.now)
        assert not quiet or self.now < self.until
        assert not quiet or self.until - self.now <= 480 * MIN


Alarm.TestCase.settings = hypothesis_settings(max_examples=300, stateful_step_count=30, deadline=None)
TestAlarm = Alarm.TestCase
