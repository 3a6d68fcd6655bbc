"""The guard, told as stories of a line: each step is an event and what the guard does because of it, the permit first.

`RUN` and `stop(code, halt)` are the permit; times are in ms since the edge started.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from inspection import decision
from inspection.decision import HALTS_PER_BOOT, TRANSITIONS, Cause, LineGuard
from inspection.events import (
    Event,
    FaultFound,
    FaultOver,
    GiveVerdict,
    Judged,
    Keep,
    PolicyChanged,
    ResumeAsked,
    SetPermit,
    State,
)
from inspection.messages import Permit
from inspection.policy import ClassPolicy, Policy
from inspection.types import Call, Code, HaltReport
from tests.inspection.guard_script import (
    ACCEPTED,
    BAD,
    BOOT,
    GOOD,
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
    lost,
    now,
    part,
    play,
    refused,
    resume,
    said,
    seen,
    started,
    stop,
    tick,
    unfit,
    verdict,
)

# ── start ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_line_may_run_after_three_judged_frames() -> None:
    play(
        LineGuard(POLICY, ["cam"], BOOT, 0),
        (tick(1), stop(Code.STARTING)),
        (seen(10, 1), stop(Code.STARTING)),
        (seen(20, 2), stop(Code.STARTING)),
        (seen(30, 3), RUN, now(State.RUNNING)),
    )


def test_a_failed_frame_starts_the_count_anew() -> None:
    play(
        LineGuard(POLICY, ["cam"], BOOT, 0),
        (seen(10, 1), stop(Code.STARTING)),
        (seen(20, 2), stop(Code.STARTING)),
        (unfit(30, 3), stop(Code.STARTING), keep(3, "fault")),
        (seen(40, 4), stop(Code.STARTING)),
        (seen(50, 5), stop(Code.STARTING)),
        (seen(60, 6), RUN, now(State.RUNNING)),
    )


def test_a_defect_in_the_very_first_frame_halts() -> None:
    play(
        LineGuard(POLICY, ["cam"], BOOT, 0),
        (seen(10, 1, BAD), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(1, "halt")),
    )


def test_every_camera_must_see_before_the_line_may_run() -> None:
    guard = LineGuard(POLICY, ["left", "right"], BOOT, 0)
    play(
        guard,
        (seen(10, 1, camera="left"), stop(Code.STARTING)),
        (seen(20, 2, camera="left"), stop(Code.STARTING)),
        (seen(30, 3, camera="left"), stop(Code.STARTING)),
        (seen(40, 4, camera="left"), stop(Code.STARTING)),
        (seen(50, 1, camera="right"), stop(Code.STARTING)),
        (seen(60, 2, camera="right"), stop(Code.STARTING)),
        (seen(70, 3, camera="right"), RUN, now(State.RUNNING)),
        # ... and one blind eye is enough to stop it.
        (seen(300, 5, camera="left"), RUN),
        (seen(380, 6, camera="left"), stop(Code.CAMERA), now(State.BLIND)),
    )


def test_a_station_without_cameras_is_refused() -> None:
    with pytest.raises(ValueError, match="without a camera"):
        LineGuard(POLICY, [], BOOT, 0)


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


# ── nothing unjudged is ever good ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -0.01, 1.01])
def test_a_score_that_is_no_probability_withdraws_the_permit(score: float) -> None:
    play(
        started(),
        (seen(40, 4, score), stop(Code.MODEL), now(State.BLIND), keep(4, "fault")),
        (seen(50, 5, score), stop(Code.MODEL)),
    )


def test_a_model_that_does_not_know_the_class_never_lets_the_line_run() -> None:
    guard = LineGuard(POLICY, ["cam"], BOOT, 0)
    for k in range(100):
        guard.handle(Judged("cam", k, 10 * k * MS, 10 * k * MS, {"scretch": GOOD}))
    assert guard.state is State.STARTING


def test_a_failed_inference_is_blind_at_once_and_three_frames_later_over() -> None:
    play(
        started(),
        (unfit(40, 4), stop(Code.MODEL), now(State.BLIND), keep(4, "fault")),
        (unfit(50, 5), stop(Code.MODEL)),  # the thousandth blind frame shows nothing new
        (seen(60, 6), stop(Code.CAMERA)),
        (seen(70, 7), stop(Code.CAMERA)),
        (seen(80, 8), RUN, now(State.RUNNING)),
    )


def test_silence_is_blind_after_300_ms() -> None:
    play(
        started(),  # newest frame at 30 ms
        (tick(330), RUN),
        (tick(331), stop(Code.CAMERA), now(State.BLIND)),
        (seen(340, 4), stop(Code.CAMERA)),
        (seen(350, 5), stop(Code.CAMERA)),
        (seen(360, 6), RUN, now(State.RUNNING)),
    )


def test_the_reason_of_a_frame_that_failed_outlives_the_silence_after_it() -> None:
    play(
        started(),
        (unfit(40, 4), stop(Code.MODEL), now(State.BLIND), keep(4, "fault")),
        (tick(900), stop(Code.MODEL)),
    )


def test_a_frame_that_waited_too_long_renews_no_permit() -> None:
    """Inference hung for 5 s: its frame comes out at last, before any tick."""
    play(
        started(),
        (seen(5000, 4, captured=40), stop(Code.CAMERA), now(State.BLIND)),
        # A backlog of old pictures is not sight either.
        (seen(5010, 5, captured=50), stop(Code.CAMERA)),
        (seen(5020, 6, captured=60), stop(Code.CAMERA)),
        (seen(5030, 7, captured=70), stop(Code.CAMERA)),
        (seen(5040, 8), stop(Code.CAMERA)),
        (seen(5050, 9), stop(Code.CAMERA)),
        (seen(5060, 10), RUN, now(State.RUNNING)),
    )


def test_no_event_renews_the_permit_of_a_silent_camera() -> None:
    for event in (resume(5000), part(5000, "p"), PolicyChanged(5000 * MS, POLICY), FaultOver(5000 * MS, Code.MODEL)):
        guard = started()
        assert said(guard.handle(event)[0]) == stop(Code.CAMERA), event


def test_a_camera_whose_clock_runs_ahead_still_falls_silent() -> None:
    play(
        started(),
        (seen(40, 4, captured=3_600_000), RUN),
        (tick(341), stop(Code.CAMERA), now(State.BLIND)),
    )


def test_a_fault_is_blind_until_it_is_over() -> None:
    play(
        started(),
        (FaultFound(40 * MS, Code.STORAGE, "disk full"), stop(Code.STORAGE), now(State.BLIND)),
        (seen(50, 4), stop(Code.STORAGE)),
        (seen(60, 5), stop(Code.STORAGE)),
        (seen(70, 6), stop(Code.STORAGE)),
        (FaultOver(80 * MS, Code.MODEL), stop(Code.STORAGE)),
        (FaultOver(90 * MS, Code.STORAGE), RUN, now(State.RUNNING)),
    )


def test_a_fault_before_the_start_keeps_the_line_waiting() -> None:
    guard = LineGuard(POLICY, ["cam"], BOOT, 0)
    guard.handle(FaultFound(1 * MS, Code.INTERNAL, "golden frames differ"))
    for k in range(1, 20):
        assert said(guard.handle(seen(10 * k, k))[0]) == stop(Code.STARTING)


def test_the_end_of_a_fault_alone_is_not_sight() -> None:
    play(
        started(),
        (FaultFound(40 * MS, Code.STORAGE, "disk full"), stop(Code.STORAGE), now(State.BLIND)),
        (FaultOver(900 * MS, Code.STORAGE), stop(Code.CAMERA)),
    )


def test_a_site_may_run_blind_but_never_through_a_halt() -> None:
    play(
        started(replace(POLICY, blind_runs=True)),
        (unfit(40, 4), RUN, now(State.BLIND), keep(4, "fault")),
        (tick(5000), RUN),
        (seen(5010, 5, BAD), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(5, "halt")),
        (unfit(5020, 6), stop(Code.DEFECT, HALT_1), keep(6, "fault")),
        (tick(9000), stop(Code.DEFECT, HALT_1)),
    )


def test_a_site_that_runs_blind_says_so_in_the_code_and_does_not_start_blind() -> None:
    policy = replace(POLICY, blind_runs=True)
    (permit, *_) = started(policy).handle(unfit(40, 4))
    assert isinstance(permit, SetPermit)
    assert (permit.run, permit.code) == (True, Code.MODEL)
    assert said(LineGuard(policy, ["cam"], BOOT, 0).handle(tick(5000))[0]) == stop(Code.STARTING)


def test_a_defect_is_seen_while_blind() -> None:
    play(
        started(),
        (unfit(40, 4), stop(Code.MODEL), now(State.BLIND), keep(4, "fault")),
        (seen(50, 5, BAD), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(5, "halt")),
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


# ── loss, policy, permit ────────────────────────────────────────────────────────────────────────────────────────


def test_lost_frames_are_counted_and_a_restarted_counter_is_no_loss() -> None:
    play(
        started(),
        (seen(40, 4), RUN),
        (seen(50, 8), RUN, lost(3)),
        (unfit(60, 10), stop(Code.MODEL), now(State.BLIND), keep(10, "fault"), lost(1)),
        (seen(70, 0), stop(Code.CAMERA)),
        (seen(80, 1), stop(Code.CAMERA)),
        (seen(90, 1001), RUN, now(State.RUNNING), lost(999)),
    )


def test_a_new_policy_keeps_the_permit_and_drops_the_evidence() -> None:
    stricter = Policy((ClassPolicy("scratch", lo=0.2, hi=0.4, k=2, n=3),))
    guard = started(TWO_OF_THREE)
    play(
        guard,
        (seen(40, 4, BAD), RUN, keep(4, "defect")),
        (PolicyChanged(45 * MS, stricter), RUN),
        (seen(50, 5, UNSURE), RUN),
        (seen(60, 6, UNSURE), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(6, "halt")),
    )
    assert guard.halt
    assert guard.halt.limit == 0.4


def test_the_permit_carries_a_lease_the_age_of_its_oldest_eye_and_whether_it_changed() -> None:
    guard = LineGuard(replace(POLICY, lease_ms=400), ["left", "right"], BOOT, 0)

    def permit(event: Event) -> SetPermit:
        first = guard.handle(event)[0]
        assert isinstance(first, SetPermit)
        return first

    assert permit(tick(1)) == SetPermit(False, Code.STARTING, 0, 0, 401 * MS, changed=True)
    assert permit(tick(2)) == SetPermit(False, Code.STARTING, 0, 0, 402 * MS, changed=False)
    for k in (1, 2, 3):
        permit(seen(10 * k, k, camera="left"))
        last = permit(seen(10 * k + 5, k, camera="right"))
    assert last == SetPermit(True, Code.OK, 0, 30 * MS, 435 * MS, changed=True)
    assert permit(seen(60, 4, camera="left")) == SetPermit(True, Code.OK, 0, 35 * MS, 460 * MS, changed=False)
    # A late, older frame does not make the newest one older.
    assert permit(seen(61, 5, camera="right", captured=1)).judged_ns == 35 * MS


# ── the state table ─────────────────────────────────────────────────────────────────────────────────────────────


def edges() -> set[tuple[str, str, str]]:
    return {(old.name, cause.value, new.name) for (old, cause), new in TRANSITIONS.items()}


def test_the_drawing_in_the_docs_is_the_table() -> None:
    """The drawing reads `A --cause--> B --cause--> C`; HALTED --resume--> RUNNING closes the ring."""
    drawn = set()
    for line in (decision.__doc__ or "").splitlines():
        for chain in re.split(r"\s{2,}", line.strip()):
            states = re.findall(r"[A-Z]{5,}", chain)
            causes = re.findall(r"--(\w+)-->", chain)
            if causes:
                drawn |= set(zip(states, causes, states[1:], strict=False))
    assert drawn == edges()


def test_every_state_is_reached_and_may_run_again() -> None:
    for first in State:
        reached = {first.name}
        for _ in State:
            reached |= {new for old, _, new in edges() if old in reached}
        assert reached >= {"RUNNING", "HALTED", "BLIND"}, f"from {first}"


def test_only_a_resume_leaves_halted_and_nothing_returns_to_starting() -> None:
    assert [cause for (old, cause), _ in TRANSITIONS.items() if old is State.HALTED] == [Cause.RESUME]
    assert State.STARTING not in TRANSITIONS.values()
    assert {old for (old, cause) in TRANSITIONS if cause is Cause.RESUME} == {State.HALTED}
