"""The guard, told as stories of a line: each step is an event and what the guard does because of it, the permit first.

The language of the stories is in guard_script.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from inspection import states
from inspection.decision import LineGuard
from inspection.events import (
    Event,
    FaultFound,
    FaultOver,
    Judged,
    PolicyChanged,
    SetPermit,
    State,
    Tick,
)
from inspection.policy import ClassPolicy, Policy
from inspection.states import TRANSITIONS, Cause
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
    lost,
    now,
    part,
    play,
    resume,
    said,
    seen,
    started,
    stop,
    tick,
    unfit,
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
        assert said(guard.handle(seen(10 * k, k))[0]) == stop(Code.INTERNAL)


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


def test_a_site_that_runs_blind_does_not_run_while_another_edge_has_its_name() -> None:
    play(
        started(replace(POLICY, blind_runs=True)),
        (FaultFound(40 * MS, Code.INTERNAL, "another edge runs"), stop(Code.INTERNAL), now(State.BLIND)),
        (seen(50, 4), stop(Code.INTERNAL)),
        (tick(5000), stop(Code.INTERNAL)),
        (FaultOver(5010 * MS, Code.INTERNAL), RUN),
        (FaultFound(5020 * MS, Code.STORAGE, "disk full"), RUN),
    )


def test_a_defect_is_seen_while_blind() -> None:
    play(
        started(),
        (unfit(40, 4), stop(Code.MODEL), now(State.BLIND), keep(4, "fault")),
        (seen(50, 5, BAD), stop(Code.DEFECT, HALT_1), now(State.HALTED), halt(HALT_1), keep(5, "halt")),
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


def test_a_frame_that_nobody_judged_is_no_lost_one() -> None:
    """An arc goes out for three frames: they came, and there was nothing to see."""
    play(
        started(),
        (Tick(40 * MS, "cam", 4), RUN),
        (Tick(50 * MS, "cam", 5), RUN),
        (Tick(60 * MS, "cam", 8), RUN, lost(2)),
        (seen(70, 9), RUN),
        (Tick(80 * MS, "another", 1), RUN),
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
    for line in (states.__doc__ or "").splitlines():
        for chain in re.split(r"\s{2,}", line.strip()):
            names = re.findall(r"[A-Z]{5,}", chain)
            causes = re.findall(r"--(\w+)-->", chain)
            if causes:
                drawn |= set(zip(names, causes, names[1:], strict=False))
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
