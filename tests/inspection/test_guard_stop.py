"""A stop that a person asked for: in every state, in every mode, once for each request, until somebody resumes."""

from __future__ import annotations

import json
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from inspection.decision import LineGuard
from inspection.events import FaultFound, SetPermit, State
from inspection.recording import Head, head_line, parse, step_line
from inspection.stop import SOMEBODY, stop_asked_by, stop_reason
from inspection.types import Call, Code
from tests.inspection.guard_script import (
    ACCEPTED,
    BAD,
    BOOT,
    HALT_1,
    HALT_2,
    MS,
    POLICY,
    RUN,
    answered,
    halt,
    halted,
    maintenance,
    now,
    part,
    play,
    refused,
    resume,
    seen,
    started,
    stop,
    stop_asked,
    tick,
    unfit,
    verdict,
)

STOPPED = (stop(Code.STOP, HALT_1), now(State.HALTED), halt(HALT_1), answered(HALT_1))
STAYS = stop(Code.STOP, HALT_1)


def test_a_stop_halts_a_running_line_and_only_a_resume_ends_it() -> None:
    guard = started()
    play(
        guard,
        (stop_asked(40, why="smoke"), *STOPPED),
        (seen(50, 4), STAYS),
        (seen(60, 5, BAD), STAYS),
        (FaultFound(70 * MS, Code.STORAGE, "disk full"), STAYS),
        (tick(9000), STAYS),
        *((seen(9010 + k, 6 + k), STAYS) for k in range(5)),
    )
    assert guard.halt
    assert (guard.halt.code, guard.halt.reason) == (Code.STOP, "stop requested by ann: smoke")


def test_it_is_resumed_by_the_ordinary_handshake() -> None:
    play(
        started(),
        (stop_asked(40), *STOPPED),
        (seen(50, 4), STAYS),
        (resume(60, HALT_2), STAYS, refused("halt 70002 is not the open one, 70001")),
        (resume(61, seq=79, nonce="n2"), STAYS, refused("the request was based on a permit too old")),
        (resume(62, nonce="n3"), RUN, now(State.RUNNING), ACCEPTED),
        (seen(70, 5), RUN),
    )


@pytest.mark.parametrize("blind_runs", [False, True])
def test_while_blind_it_latches_too(blind_runs: bool) -> None:
    guard = started(replace(POLICY, blind_runs=blind_runs))
    guard.handle(unfit(40, 4))
    assert guard.state is State.BLIND
    play(
        guard,
        (stop_asked(50), *STOPPED),
        *((seen(60 + k, 5 + k), STAYS) for k in range(5)),
        (resume(70), RUN, now(State.RUNNING), ACCEPTED),
    )


def test_before_the_first_frame_it_latches_too() -> None:
    guard = LineGuard(POLICY, ["cam"], BOOT, 0)
    play(guard, (stop_asked(1), *STOPPED), *((seen(10 * k, k), STAYS) for k in (1, 2, 3)))


def test_in_part_mode_between_parts_and_during_one() -> None:
    """The open part still gets its one verdict: the controller waits for it."""
    guard = started(replace(POLICY, mode="part", vote=1))
    play(guard, (part(40, "p1"), RUN), (stop_asked(45), *STOPPED), (seen(50, 4), STAYS))
    play(guard, (seen(60, 5), STAYS, verdict("p1", Call.PASS)))
    between = started(replace(POLICY, mode="part"))
    play(between, (stop_asked(5000), *STOPPED), (tick(6000), STAYS))


def test_where_a_defect_is_only_a_verdict_a_stop_still_stops() -> None:
    play(started(replace(POLICY, mode="part", halt_on_defect=False)), (stop_asked(40), *STOPPED))


def test_in_maintenance_the_permit_is_gone_already_and_does_not_come_back_by_itself() -> None:
    guard = started()
    guard.handle(maintenance(40, 100))
    play(
        guard,
        (stop_asked(50), *STOPPED),
        (resume(60), STAYS, refused("cannot judge: maintenance by eve")),
        *((seen(110 + k, 4 + k), STAYS) for k in range(5)),
        (resume(120, nonce="n2"), RUN, now(State.RUNNING), ACCEPTED),
    )


def test_a_copy_does_nothing_while_it_holds_and_after_the_resume() -> None:
    """QoS 1 may deliver twice, and a page repeats itself until it is answered: neither stops the line again."""
    play(
        started(),
        (stop_asked(40), *STOPPED),
        (stop_asked(41), STAYS, answered(HALT_1, "this request came before")),
        (seen(50, 4), STAYS),
        (resume(60), RUN, now(State.RUNNING), ACCEPTED),
        (stop_asked(61), RUN, answered(0, "this request came before")),
        (stop_asked(62, "s2"), stop(Code.STOP, HALT_2), now(State.HALTED), halt(HALT_2), answered(HALT_2)),
    )


def test_two_people_ask_for_one_stop() -> None:
    play(
        started(),
        (stop_asked(40), *STOPPED),
        (stop_asked(41, "s2", "bo"), STAYS, answered(HALT_1, "stopped by halt 70001 already")),
        (seen(50, 4), STAYS),
        (resume(60), RUN, now(State.RUNNING), ACCEPTED),
    )


def test_during_another_halt_it_waits_and_needs_a_resume_of_its_own() -> None:
    """Whoever resumes the defect may know nothing of it: no permit in between, and the second halt says why."""
    guard = halted()
    waits = answered(HALT_1, "halt 70001 is open; this stop follows it")
    play(
        guard,
        (stop_asked(60), stop(Code.DEFECT, HALT_1), waits),
        (stop_asked(61, "s2", "bo"), stop(Code.DEFECT, HALT_1), waits),
        (
            resume(70),
            stop(Code.STOP, HALT_2),
            now(State.RUNNING),
            ("resume", ""),
            now(State.HALTED),
            halt(HALT_2),
        ),
        (resume(80, HALT_1, nonce="n2"), stop(Code.STOP, HALT_2), refused("halt 70001 is not the open one, 70002")),
        (seen(85, 6), stop(Code.STOP, HALT_2)),
        (resume(90, HALT_2, nonce="n3"), RUN, now(State.RUNNING), ACCEPTED),
    )


def test_a_waiting_stop_outlives_a_restart() -> None:
    before = halted()
    before.handle(stop_asked(60))
    guard = LineGuard(POLICY, ["cam"], BOOT + 1, 0, before.halt)
    for k in (1, 2, 3):
        guard.handle(seen(10 * k, k))
    actions = guard.handle(resume(40, boot=BOOT + 1))
    assert isinstance(actions[0], SetPermit)
    assert not actions[0].run
    assert guard.halt
    assert guard.halt.reason == "stop requested by ann"


def test_a_recording_tells_it_and_plays_it_again() -> None:
    guard = started()
    head = Head(BOOT, ("cam",), POLICY, 0)
    steps = [seen(10 * k, k) for k in (1, 2, 3)] + [stop_asked(40), seen(50, 4), resume(60)]
    again = head.guard()
    lines = [f"{head_line(head)}\n", *(f"{step_line(event, again.handle(event))}\n" for event in steps)]
    recording = parse(lines, "here")
    replayed = recording.head.guard()
    assert [step.event for step in recording.steps] == steps
    assert all(
        step_line(s.event, replayed.handle(s.event)) == line.strip()
        for s, line in zip(recording.steps, lines[1:], strict=True)
    )
    stopped = json.loads(lines[4])["said"]
    assert [next(iter(action)) for action in stopped] == ["SetPermit", "StateChanged", "RaiseHalt", "AnswerStop"]
    held = head
    for event in steps[:5]:
        held = held.after(event, guard.handle(event))
    assert held.open_halt == guard.halt


@given(
    who=st.text(max_size=64),
    why=st.text(max_size=200),
)
def test_who_and_why_are_read_back_from_the_reason(who: str, why: str) -> None:
    assert stop_asked_by(stop_reason(who, why)) == (who.replace(": ", ", ") or SOMEBODY, why)


def test_another_reason_is_no_requested_stop() -> None:
    assert stop_asked_by("scratch 5.0 mm, score 0.90 >= 0.70") is None
