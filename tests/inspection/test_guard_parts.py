"""Parts: exactly one verdict for each, whatever happens, and none of them good without a look."""

from __future__ import annotations

import math

import pytest

from inspection.decision import LineGuard
from inspection.events import (
    GiveVerdict,
    PolicyChanged,
    State,
)
from inspection.types import Call, Code
from tests.inspection.guard_script import (
    BAD,
    BOOT,
    GOOD,
    MS,
    POLICY,
    RUN,
    TWO_OF_THREE,
    UNSURE,
    keep,
    now,
    part,
    play,
    said,
    seen,
    started,
    stop,
    tick,
    unfit,
    verdict,
)

# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scores", "call"),
    [((GOOD, GOOD), Call.PASS), ((GOOD, UNSURE), Call.UNCERTAIN), ((UNSURE, UNSURE), Call.UNCERTAIN)],
)
def test_a_part_gets_one_verdict_after_its_frames(scores: tuple[float, float], call: Call) -> None:
    guard = started()
    verdicts = []
    for k, event in enumerate([part(35, "p1"), seen(40, 4, scores[0]), seen(50, 5, scores[1]), seen(60, 6), tick(290)]):
        verdicts += [(k, a.part, a.verdict) for a in guard.handle(event) if isinstance(a, GiveVerdict)]
    assert verdicts == [(2, "p1", call)]


def test_a_defect_part_halts_the_line_and_the_verdict_carries_the_measure() -> None:
    guard = started()
    guard.handle(part(35, "p1", inspection=9))
    guard.handle(seen(40, 4, BAD, mm=2.0))
    (*_, given) = guard.handle(seen(50, 5, 0.8, mm=3.0))
    assert given == GiveVerdict("p1", 9, Call.DEFECT, "scratch", BAD, 3.0, 2, "2 of 2 frames")
    assert guard.halt
    assert guard.halt.part == "p1"


@pytest.mark.parametrize(("hits", "call"), [(1, Call.UNCERTAIN), (2, Call.DEFECT)])
def test_k_of_n_holds_for_parts(hits: int, call: Call) -> None:
    guard = started(TWO_OF_THREE)
    guard.handle(part(35, "p1", frames=3))
    for k in range(3):
        actions = guard.handle(seen(40 + k, 4 + k, BAD if k < hits else GOOD))
    assert verdict("p1", call) in [said(a) for a in actions]


def test_one_frame_of_a_part_is_enough_for_a_defect_when_there_is_only_one() -> None:
    play(
        started(TWO_OF_THREE),
        (part(35, "p1", frames=1), RUN),
        (seen(40, 4, BAD), RUN, keep(4, "defect"), verdict("p1", Call.DEFECT)),
    )


def test_no_verdict_by_the_deadline_is_a_fault_said_by_a_tick() -> None:
    play(
        started(),
        (part(100, "p1"), RUN),
        (seen(110, 4), RUN),
        (tick(299), RUN),
        (tick(300), RUN, verdict("p1", Call.FAULT)),
        (seen(310, 5), RUN),  # its second frame comes too late
        (seen(320, 6), RUN),
    )


def test_no_verdict_by_the_deadline_is_a_fault_even_when_the_last_frame_says_so() -> None:
    play(
        started(),
        (part(100, "p1"), RUN),
        (seen(110, 4), RUN),
        (seen(300, 5), RUN, verdict("p1", Call.FAULT)),
    )


def test_a_part_before_the_verdict_of_the_last_makes_that_one_a_fault() -> None:
    play(
        started(),
        (part(35, "p1"), RUN),
        (seen(40, 4), RUN),
        (part(45, "p2"), RUN, verdict("p1", Call.FAULT)),
        (seen(50, 5), RUN),
        (seen(60, 6), RUN, verdict("p2", Call.PASS)),
    )


def test_frames_that_nobody_judged_do_not_count_for_a_part() -> None:
    play(
        started(),
        (part(35, "p1"), RUN),
        (seen(40, 4), RUN),
        (unfit(50, 5), stop(Code.MODEL), now(State.BLIND), keep(5, "fault")),
        (seen(60, 6, math.nan), stop(Code.MODEL)),
        (tick(235), stop(Code.MODEL), verdict("p1", Call.FAULT)),
    )


def test_frames_exposed_before_the_trigger_show_the_part_before() -> None:
    """Triggers overtake frames: two pictures of part p0 are still waiting to be judged."""
    guard = started()
    play(
        guard,
        (part(100, "p1"), RUN),
        (seen(101, 4, captured=80), RUN),
        (seen(102, 5, captured=99), RUN),
        (seen(110, 6, captured=100), RUN),
        (seen(120, 7, captured=110), RUN, verdict("p1", Call.PASS)),
    )
    guard.handle(part(130, "p2"))
    guard.handle(seen(131, 8, BAD, captured=125))
    assert guard.halt
    assert guard.halt.part == ""


def test_a_trigger_delivered_twice_gives_one_verdict() -> None:
    play(
        started(),
        (part(35, "p1", frames=2), RUN),
        (seen(40, 4), RUN),
        (part(45, "p1", frames=2), RUN),
        (seen(50, 5), RUN, verdict("p1", Call.PASS)),
        (part(55, "p1", frames=2), RUN),
        (seen(60, 6), RUN),
        (seen(70, 7), RUN),
        # The same part inspected again is another inspection.
        (part(75, "p1", frames=1, inspection=2), RUN),
        (seen(80, 8), RUN, verdict("p1", Call.PASS)),
    )


def test_a_part_is_not_judged_before_every_camera_saw_it() -> None:
    guard = LineGuard(POLICY, ["left", "right"], BOOT, 0)
    for k in (1, 2, 3):
        guard.handle(seen(10 * k, k, camera="left"))
        guard.handle(seen(10 * k, k, camera="right"))
    play(
        guard,
        (part(35, "p1", frames=2), RUN),
        (seen(40, 4, camera="left"), RUN),
        (seen(50, 5, camera="left"), RUN),
        (seen(60, 6, camera="left"), RUN),
        (seen(61, 4, UNSURE, camera="right"), RUN, keep(4, "uncertain"), verdict("p1", Call.UNCERTAIN)),
    )


@pytest.mark.parametrize("frames", [0, -1])
def test_a_part_of_no_frames_still_needs_one(frames: int) -> None:
    play(started(), (part(35, "p1", frames=frames), RUN), (seen(40, 4), RUN, verdict("p1", Call.PASS)))


def test_a_new_policy_judges_the_open_part_anew() -> None:
    play(
        started(),
        (part(35, "p1"), RUN),
        (seen(40, 4), RUN),
        (PolicyChanged(45 * MS, TWO_OF_THREE), RUN),
        (seen(50, 5), RUN),
        (seen(60, 6), RUN, verdict("p1", Call.PASS)),
    )
