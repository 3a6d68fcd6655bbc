"""The guard while halted: what ends a halt, and what does not."""

from __future__ import annotations

import pytest

from inspection.decision import HALTS_PER_BOOT, LineGuard
from inspection.events import (
    FaultFound,
    FaultOver,
    PolicyChanged,
    ResumeAsked,
    State,
)
from inspection.messages import Permit
from inspection.types import Code, HaltReport
from tests.inspection.guard_script import (
    ACCEPTED,
    BAD,
    BOOT,
    HALT_1,
    HALT_2,
    MS,
    POLICY,
    RUN,
    TOO_OLD,
    TWO_OF_THREE,
    UNSURE,
    halt,
    halted,
    keep,
    now,
    play,
    refused,
    resume,
    seen,
    started,
    stop,
    tick,
    unfit,
)

# ── halted ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_halt_is_said_once_and_nothing_but_a_resume_ends_it() -> None:
    play(
        halted(),
        (seen(60, 6, BAD), stop(Code.DEFECT, HALT_1)),
        (seen(70, 7, UNSURE), stop(Code.DEFECT, HALT_1)),
        (tick(80), stop(Code.DEFECT, HALT_1)),
        (unfit(90, 8), stop(Code.DEFECT, HALT_1), keep(8, "fault")),
        (FaultFound(100 * MS, Code.MODEL, "x"), stop(Code.DEFECT, HALT_1)),
        (FaultOver(110 * MS, Code.MODEL), stop(Code.DEFECT, HALT_1)),
        (PolicyChanged(120 * MS, TWO_OF_THREE), stop(Code.DEFECT, HALT_1)),
        (tick(9000), stop(Code.DEFECT, HALT_1)),
        *((seen(9010 + k, 9 + k), stop(Code.DEFECT, HALT_1)) for k in range(10)),
    )


def test_a_person_resumes_and_the_next_defect_is_a_new_halt() -> None:
    play(
        halted(),
        (resume(60), RUN, now(State.RUNNING), ACCEPTED),
        (seen(70, 6), RUN),
        (seen(80, 7, BAD), stop(Code.DEFECT, HALT_2), now(State.HALTED), halt(HALT_2), keep(7, "halt")),
    )


def test_a_resume_starts_the_evidence_anew() -> None:
    guard = started(TWO_OF_THREE)
    play(
        guard,
        (seen(40, 4, BAD), RUN, keep(4, "defect")),
        (seen(50, 5, BAD), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(5, "halt")),
        (resume(60), RUN, now(State.RUNNING), ACCEPTED),
        (seen(70, 6, BAD), RUN),
        (seen(80, 7, BAD), stop(Code.DEFECT, HALT_2), now(State.HALTED), halt(HALT_2), keep(7, "halt")),
    )


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (resume(60, HALT_2), "halt 70002 is not the open one, 70001"),
        (resume(60, 0), "halt 0 is not the open one, 70001"),
        (resume(60, boot=6), TOO_OLD),
        (resume(60, seq=79), TOO_OLD),
        (resume(60, seq=101), TOO_OLD),
        (resume(351), "cannot judge: fewer than 3 fresh frames"),
    ],
    ids=["wrong halt", "no halt", "other boot", "stale seq", "seq from the future", "silent camera"],
)
def test_a_resume_that_does_nothing_says_why(asked: ResumeAsked, why: str) -> None:
    play(halted(), (asked, stop(Code.DEFECT, HALT_1), refused(why)))


def test_a_resume_may_be_twenty_permits_old() -> None:
    play(halted(), (resume(60, seq=80), RUN, now(State.RUNNING), ACCEPTED))


def test_a_resume_is_refused_while_nobody_can_judge() -> None:
    guard = halted()
    play(
        guard,
        (unfit(60, 6), stop(Code.DEFECT, HALT_1), keep(6, "fault")),
        (resume(70, nonce="n1"), stop(Code.DEFECT, HALT_1), refused("cannot judge: inference failed")),
        (seen(80, 7), stop(Code.DEFECT, HALT_1)),
        (resume(81, nonce="n0"), stop(Code.DEFECT, HALT_1), refused("cannot judge: fewer than 3 fresh frames")),
        (seen(82, 8), stop(Code.DEFECT, HALT_1)),
        (seen(84, 9), stop(Code.DEFECT, HALT_1)),
        (FaultFound(90 * MS, Code.STORAGE, "disk full"), stop(Code.DEFECT, HALT_1)),
        (resume(95, nonce="n2"), stop(Code.DEFECT, HALT_1), refused("cannot judge: disk full")),
        (FaultOver(96 * MS, Code.STORAGE), stop(Code.DEFECT, HALT_1)),
        (resume(97, nonce="n3"), RUN, now(State.RUNNING), ACCEPTED),
    )


def test_a_replayed_resume_does_nothing() -> None:
    guard = halted()
    play(
        guard,
        (resume(351, nonce="n1"), stop(Code.DEFECT, HALT_1), refused("cannot judge: fewer than 3 fresh frames")),
        *((seen(360 + k, 6 + k), stop(Code.DEFECT, HALT_1)) for k in range(3)),
        (resume(370, nonce="n1"), stop(Code.DEFECT, HALT_1), refused("this request came before")),
        (resume(380, nonce="n2"), RUN, now(State.RUNNING), ACCEPTED),
        (resume(390, nonce="n2"), RUN, refused("no halt is open")),
    )


def test_a_resume_sent_before_the_halt_does_not_wait_for_it() -> None:
    play(
        started(),
        (resume(35), RUN, refused("no halt is open")),
        (seen(40, 4, BAD), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(4, "halt")),
    )


def test_an_open_halt_survives_a_restart_of_the_edge() -> None:
    guard = LineGuard(POLICY, ["cam"], BOOT + 1, 0, HaltReport(HALT_1, Code.DEFECT, "scratch 5.0 mm"))
    play(
        guard,
        (tick(1), stop(Code.DEFECT, HALT_1)),
        (resume(5, boot=8), stop(Code.DEFECT, HALT_1), refused("cannot judge: fewer than 3 fresh frames")),
        (seen(10, 1), stop(Code.DEFECT, HALT_1)),
        (seen(20, 2), stop(Code.DEFECT, HALT_1)),
        (seen(30, 3), stop(Code.DEFECT, HALT_1)),
        (seen(40, 4, BAD), stop(Code.DEFECT, HALT_1)),
        # The person's page still shows a permit of the start before.
        (resume(50, boot=7, nonce="n2"), stop(Code.DEFECT, HALT_1), refused(TOO_OLD)),
        (resume(60, boot=8, nonce="n3"), RUN, now(State.RUNNING), ACCEPTED),
        (seen(70, 5, BAD), stop(Code.DEFECT, 80_001), now(State.HALTED), halt(80_001), keep(5, "halt")),
    )


def test_no_halt_id_is_used_twice_and_the_last_one_needs_a_restart() -> None:
    guard, ids = started(), []
    for k in range(HALTS_PER_BOOT):
        guard.handle(seen(40, 4 + k, BAD))
        assert guard.halt
        ids.append(guard.halt.halt)
        guard.handle(resume(40, guard.halt.halt, nonce=f"n{k}"))
    assert ids == list(range(70_001, 80_001))
    play(
        guard,
        (
            resume(41, 80_000, nonce="again"),
            stop(Code.DEFECT, 80_000),
            refused("this start's halt ids are used up: restart the edge"),
        ),
    )


@pytest.mark.parametrize("boot", [0, 429_495, 429_496, 2**32 - 1])
def test_a_halt_id_fits_the_permit_in_every_start(boot: int) -> None:
    guard = LineGuard(POLICY, ["cam"], boot, 0)
    guard.handle(seen(40, 4, BAD))
    assert guard.halt
    assert guard.halt.halt > 0
    Permit(boot=boot, seq=1, run=0, code=1, halt=guard.halt.halt, echo=0, age_ms=0, ts_ms=0)
