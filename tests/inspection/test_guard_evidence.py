"""What adds up to a halt, what is kept of it, and which sizes are no reason to stop."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from inspection.decision import LineGuard
from inspection.events import (
    Judged,
    Keep,
    State,
)
from inspection.policy import ClassPolicy, Policy
from inspection.types import Code
from tests.inspection.guard_script import (
    BAD,
    BOOT,
    GOOD,
    HALT_1,
    MS,
    POLICY,
    RUN,
    TWO_OF_THREE,
    UNSURE,
    halt,
    keep,
    now,
    play,
    said,
    seen,
    started,
    stop,
)

# ── evidence ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_of_three_frames_make_a_halt() -> None:
    guard = started(TWO_OF_THREE)
    play(
        guard,
        (seen(40, 4, BAD), RUN, keep(4, "defect")),
        (seen(50, 5), RUN),
        (seen(60, 6, BAD), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(6, "halt")),
    )
    assert guard.halt
    assert guard.halt.evidence == (4, 6)
    assert (guard.halt.cls, guard.halt.score, guard.halt.limit) == ("scratch", BAD, 0.7)
    assert (guard.halt.length_mm, guard.halt.limit_mm, guard.halt.frame_id) == (5.0, 1.5, 6)


def test_a_hit_that_has_left_the_window_no_longer_counts() -> None:
    play(
        started(TWO_OF_THREE),
        (seen(40, 4, BAD), RUN, keep(4, "defect")),
        (seen(50, 5), RUN),
        (seen(60, 6), RUN),
        (seen(70, 7, BAD), RUN),  # kept nothing: within a second of the last one
    )


def test_hits_of_two_cameras_do_not_add_up() -> None:
    guard = LineGuard(TWO_OF_THREE, ["left", "right"], BOOT, 0)
    for k in (1, 2, 3):
        guard.handle(seen(10 * k, k, camera="left"))
        guard.handle(seen(10 * k, k, camera="right"))
    play(
        guard,
        (seen(40, 4, BAD, camera="left"), RUN, keep(4, "defect")),
        (seen(41, 4, BAD, camera="right"), RUN, keep(4, "defect")),
        (
            seen(50, 5, BAD, camera="left"),
            stop(Code.DEFECT, HALT_1),
            now(State.HALTED),
            halt(HALT_1),
            keep(5, "halt"),
        ),
    )


def test_hits_of_two_classes_do_not_add_up() -> None:
    pore = ClassPolicy("pore", 0.3, 0.7, k=2, n=3)
    guard = LineGuard(Policy((*TWO_OF_THREE.classes, pore)), ["cam"], BOOT, 0)
    frames = [(GOOD, GOOD), (GOOD, GOOD), (GOOD, GOOD), (BAD, GOOD), (GOOD, BAD)]
    for k, (scratch, hole) in enumerate(frames, 1):
        guard.handle(Judged("cam", k, 10 * k * MS, 10 * k * MS, {"scratch": scratch, "pore": hole}))
    assert guard.state is State.RUNNING
    guard.handle(Judged("cam", 6, 60 * MS, 60 * MS, {"scratch": GOOD, "pore": BAD}))
    assert guard.halt
    assert (guard.halt.cls, guard.halt.evidence) == ("pore", (5, 6))


def test_uncertain_frames_run_on_and_one_a_second_is_kept() -> None:
    play(
        started(),
        (seen(40, 4, UNSURE), RUN, keep(4, "uncertain")),
        (seen(50, 5, UNSURE), RUN),
        (seen(300, 6, UNSURE), RUN),
        (seen(600, 7, UNSURE), RUN),
        (seen(900, 8, UNSURE), RUN),
        (seen(1039, 9, UNSURE), RUN),
        (seen(1040, 10, UNSURE), RUN, keep(10, "uncertain")),
        (seen(1050, 11, UNSURE), RUN),
    )


def test_the_halting_frame_is_kept_though_one_was_kept_just_before() -> None:
    play(
        started(),
        (seen(40, 4, UNSURE), RUN, keep(4, "uncertain")),
        (seen(50, 5, BAD), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(5, "halt")),
    )


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_the_audit_share_of_passed_frames_is_kept(share: float) -> None:
    frames = 5000
    guard = started(replace(POLICY, audit_share=share))
    kept = sum(said(a)[0] == "keep" for k in range(frames) for a in guard.handle(seen(40 + k, 4 + k)))
    assert abs(kept / frames - share) <= 4 * math.sqrt(share * (1 - share) / frames)


def test_a_replay_audits_the_same_frames_and_another_start_others() -> None:
    def audited(boot: int) -> list[int]:
        guard = LineGuard(replace(POLICY, audit_share=0.1), ["cam"], boot, 0)
        return [a.frame_id for k in range(500) for a in guard.handle(seen(k, k)) if isinstance(a, Keep)]

    assert audited(7) == audited(7) != audited(8)


# ── size and place ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mm", "halts"),
    [(1.5, True), (1.21, True), (1.19, False), (0.0, False), (None, True), (math.nan, True)],
    ids=["at the limit", "within the tolerance", "clearly shorter", "a dot", "place unknown", "no number"],
)
def test_only_a_clearly_short_region_is_no_reason_to_stop(mm: float | None, halts: bool) -> None:
    guard = started()
    guard.handle(seen(40, 4, BAD, mm=mm))
    assert (guard.state is State.HALTED) == halts
