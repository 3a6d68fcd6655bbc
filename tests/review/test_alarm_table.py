"""The alarm's life as scripts: what happens, and the state after it."""

from __future__ import annotations

import itertools

import pytest

from review.alarms import ACTIVE, TABLE, UNACKED, Cause, State, step, why_no_undo, why_not


def play(*script: tuple[Cause, State]) -> None:
    state, judged = State.ACTIVE_UNACKED, False
    for cause, expected in script:
        judged = judged or cause is Cause.VERDICT
        state = step(state, cause, judged=judged)
        assert state is expected, f"after {cause}"


def test_the_usual_halt() -> None:
    play(
        (Cause.ACK, State.ACTIVE_ACKED),
        (Cause.VERDICT, State.ACTIVE_ACKED),
        (Cause.RESET_ASKED, State.RESET_REQUESTED),
        (Cause.ACCEPTED, State.RESET),
        (Cause.GONE, State.CLOSED),
    )


def test_the_permit_may_come_before_the_answer() -> None:
    play(
        (Cause.ACK, State.ACTIVE_ACKED),
        (Cause.VERDICT, State.ACTIVE_ACKED),
        (Cause.RESET_ASKED, State.RESET_REQUESTED),
        (Cause.GONE, State.CLOSED),
        (Cause.ACCEPTED, State.CLOSED),
    )


@pytest.mark.parametrize("no", [Cause.REFUSED, Cause.UNANSWERED])
def test_a_reset_that_failed_can_be_asked_for_again(no: Cause) -> None:
    play(
        (Cause.ACK, State.ACTIVE_ACKED),
        (Cause.VERDICT, State.ACTIVE_ACKED),
        (Cause.RESET_ASKED, State.RESET_REQUESTED),
        (no, State.ACTIVE_ACKED),
        (Cause.RESET_ASKED, State.RESET_REQUESTED),
    )


def test_reset_at_the_machine_leaves_the_questions_open() -> None:
    play(
        (Cause.GONE, State.CLEARED_UNACKED),
        (Cause.ACK, State.CLEARED_ACKED),
        (Cause.VERDICT, State.CLOSED),
    )


def test_reset_at_the_machine_after_the_verdict_closes() -> None:
    play((Cause.ACK, State.ACTIVE_ACKED), (Cause.VERDICT, State.ACTIVE_ACKED), (Cause.GONE, State.CLOSED))


def test_closed_is_for_ever_and_nothing_becomes_active_again() -> None:
    for state, cause, judged in itertools.product(State, Cause, (True, False)):
        after = step(state, cause, judged=judged)
        if state is State.CLOSED:
            assert after is State.CLOSED
        if state not in ACTIVE:
            assert after not in ACTIVE


def test_every_state_is_reached_and_every_open_one_left() -> None:
    assert set(TABLE.values()) == set(State) - {State.ACTIVE_UNACKED}
    assert {state for state, _ in TABLE} == set(State) - {State.CLOSED}


def test_only_an_acknowledged_and_judged_active_halt_may_be_reset() -> None:
    may = {
        (state, judged)
        for state, judged in itertools.product(State, (True, False))
        if not why_not(state, Cause.RESET_ASKED, judged=judged)
    }
    assert may == {(State.ACTIVE_ACKED, True)}


def test_acknowledging_is_offered_exactly_where_it_changes_something() -> None:
    for state in State:
        assert (not why_not(state, Cause.ACK, judged=False)) == (state in UNACKED)


def test_a_verdict_is_taken_back_only_while_it_is_the_newest_act_and_a_closed_halt_keeps_one() -> None:
    assert not why_no_undo(State.ACTIVE_ACKED, Cause.VERDICT, None)
    assert not why_no_undo(State.CLOSED, Cause.VERDICT, "real")
    assert "judge it anew" in why_no_undo(State.CLOSED, Cause.VERDICT, None)
    for newest in {"", *Cause} - {Cause.VERDICT}:
        assert why_no_undo(State.ACTIVE_ACKED, newest, None)
    for state in State:
        assert step(state, Cause.UNDONE, judged=False) is state
    assert not why_not(State.CLOSED, Cause.VERDICT, judged=True), "a laboratory's word may come after the shift"
