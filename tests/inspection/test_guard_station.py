"""The guard at stations that differ: several cameras, cameras that see only when triggered, an engineer at work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inspection.decision import LineGuard
from inspection.events import (
    GiveVerdict,
    PolicyChanged,
    SetPermit,
    State,
)
from inspection.evidence import Cusum
from inspection.policy import Policy
from inspection.types import Call, Code
from tests.inspection.guard_script import (
    ACCEPTED,
    BAD,
    BOOT,
    GOOD,
    HALT_1,
    MS,
    POLICY,
    RUN,
    SCRATCH,
    TWO_OF_THREE,
    UNSURE,
    eye,
    halt,
    halted,
    keep,
    maintenance,
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

PART = replace(POLICY, mode="part")


def two_eyes(policy: Policy = POLICY, *names: str) -> LineGuard:
    """All cameras have seen three frames, the last at 30 ms."""
    guard = LineGuard(policy, names or ("left", "right"), BOOT, 0)
    for k in (1, 2, 3):
        for name in names or ("left", "right"):
            guard.handle(seen(10 * k, k, camera=name))
    assert guard.state is State.RUNNING
    return guard


# ── an engineer at work ─────────────────────────────────────────────────────────────────────────────────────────


def test_maintenance_withdraws_the_permit_and_three_frames_after_it_give_it_back() -> None:
    play(
        started(),
        (maintenance(40, until=400), stop(Code.MAINTENANCE), now(State.BLIND)),
        (seen(50, 4), stop(Code.MAINTENANCE)),
        (seen(60, 5, BAD), stop(Code.MAINTENANCE)),  # a test piece halts nothing and is no evidence
        (seen(390, 6), stop(Code.MAINTENANCE)),
        (tick(400), stop(Code.CAMERA)),
        (seen(410, 7), stop(Code.CAMERA)),
        (seen(420, 8), stop(Code.CAMERA)),
        (seen(430, 9), RUN, now(State.RUNNING)),
    )


def test_maintenance_ends_by_order_and_an_order_to_end_none_changes_nothing() -> None:
    play(
        started(),
        (maintenance(35, until=0), RUN),
        (maintenance(40, until=9000), stop(Code.MAINTENANCE), now(State.BLIND)),
        (seen(50, 4), stop(Code.MAINTENANCE)),
        (maintenance(60, until=60), stop(Code.CAMERA)),
        (seen(70, 5), stop(Code.CAMERA)),
        (seen(80, 6), stop(Code.CAMERA)),
        (seen(90, 7), RUN, now(State.RUNNING)),
    )


def test_a_site_that_runs_blind_does_not_run_through_maintenance_nor_before_it_sees_again() -> None:
    play(
        started(replace(POLICY, blind_runs=True)),
        (maintenance(40, until=100), stop(Code.MAINTENANCE), now(State.BLIND)),
        (seen(50, 4), stop(Code.MAINTENANCE)),
        (tick(101), stop(Code.CAMERA)),
        (seen(110, 5), stop(Code.CAMERA)),
        (seen(120, 6), stop(Code.CAMERA)),
        (seen(130, 7), RUN, now(State.RUNNING)),
        (unfit(140, 8), RUN, now(State.BLIND), keep(8, "fault")),
    )


def test_an_open_halt_outlives_maintenance_and_cannot_be_resumed_in_it() -> None:
    play(
        halted(),
        (maintenance(60, until=100), stop(Code.DEFECT, HALT_1)),
        (resume(70, nonce="n1"), stop(Code.DEFECT, HALT_1), refused("cannot judge: maintenance by eve")),
        (tick(100), stop(Code.DEFECT, HALT_1)),
        (seen(110, 6), stop(Code.DEFECT, HALT_1)),
        (resume(115, nonce="n2"), stop(Code.DEFECT, HALT_1), refused("cannot judge: fewer than 3 fresh frames")),
        (seen(120, 7), stop(Code.DEFECT, HALT_1)),
        (seen(130, 8), stop(Code.DEFECT, HALT_1)),
        (resume(140, nonce="n3"), RUN, now(State.RUNNING), ACCEPTED),
    )


def test_no_part_is_good_in_maintenance() -> None:
    play(
        started(),
        (part(35, "p1"), RUN),
        (seen(40, 4), RUN),
        (maintenance(45, until=900), stop(Code.MAINTENANCE), verdict("p1", Call.FAULT), now(State.BLIND)),
        (seen(50, 5), stop(Code.MAINTENANCE)),
        (part(60, "p2"), stop(Code.MAINTENANCE), verdict("p2", Call.FAULT)),
        (seen(70, 6), stop(Code.MAINTENANCE)),
    )


def test_what_was_seen_before_maintenance_is_no_evidence_after_it() -> None:
    guard = started(TWO_OF_THREE)
    play(
        guard,
        (seen(40, 4, BAD), RUN, keep(4, "defect")),
        (maintenance(45, until=46), stop(Code.MAINTENANCE), now(State.BLIND)),
        (tick(46), stop(Code.CAMERA)),
        (seen(50, 5, BAD), stop(Code.CAMERA)),
    )


# ── several cameras ─────────────────────────────────────────────────────────────────────────────────────────────


def test_two_cameras_must_agree_where_the_site_wants_it() -> None:
    play(
        two_eyes(replace(POLICY, vote=2)),
        (seen(40, 4, BAD, camera="left"), RUN, keep(4, "defect")),
        (seen(45, 4, camera="right"), RUN),
        (seen(50, 5, camera="left"), RUN),
        (seen(55, 5, BAD, camera="right"), RUN, keep(5, "defect")),  # left no longer says so
        (
            seen(60, 6, BAD, camera="left"),
            stop(Code.DEFECT, HALT_1),
            now(State.HALTED),
            halt(HALT_1),
            keep(6, "halt"),
        ),
    )


def test_a_sequential_vote_stands_until_its_release_level() -> None:
    policy = Policy((replace(SCRATCH, cusum=Cusum(h=4.0)),), vote=2)
    guard = two_eyes(policy)
    for k in (4, 5):
        guard.handle(seen(10 * k, k, BAD, camera="left"))
    guard.handle(seen(55, 6, 0.3, camera="left"))
    assert guard.state is State.RUNNING
    for k in (6, 7):
        guard.handle(seen(10 * k, k, BAD, camera="right"))
    assert guard.halt, "left has fallen from 4.0 to 3.1 nats, which still stands"


def test_a_blind_camera_does_not_make_a_halt_impossible() -> None:
    guard = two_eyes(replace(POLICY, vote=2))
    guard.handle(unfit(40, 4))  # a third camera, blind since it was first heard of
    guard.handle(seen(41, 4, BAD, camera="left"))
    assert guard.halt is None
    lone = two_eyes(replace(POLICY, vote=2, optional=("right",)))
    lone.handle(tick(329))
    lone.handle(seen(335, 4, camera="left"))
    lone.handle(seen(340, 5, BAD, camera="left"))
    assert lone.halt, "right has been silent for 310 ms, left is all there is"


def test_an_optional_camera_may_be_blind_and_people_are_told() -> None:
    play(
        two_eyes(replace(POLICY, optional=("right",))),
        (seen(300, 4, camera="left"), RUN),
        (tick(331), RUN, eye("right", sees=False)),
        (seen(340, 5, camera="left"), RUN),
        (seen(345, 4, camera="right"), RUN, eye("right", sees=True)),
        (
            seen(350, 5, BAD, camera="right"),
            stop(Code.DEFECT, HALT_1),
            now(State.HALTED),
            halt(HALT_1),
            keep(5, "halt"),
        ),
    )


def test_a_failed_frame_of_an_optional_camera_keeps_the_permit() -> None:
    guard = two_eyes(replace(POLICY, optional=("cam",)), "cam", "left")
    play(
        guard,
        (unfit(40, 4), RUN, keep(4, "fault"), eye("cam", sees=False)),
        (seen(50, 4, camera="left"), RUN),
    )


def test_the_permits_age_is_that_of_the_required_cameras() -> None:
    guard = two_eyes(replace(POLICY, optional=("right",)))
    first = guard.handle(seen(200, 4, camera="left"))[0]
    assert isinstance(first, SetPermit)
    assert first.judged_ns == 200 * MS


@pytest.mark.parametrize("vote", [1, 2])
def test_a_defect_in_a_frame_that_waited_too_long_still_halts(vote: int) -> None:
    guard = started(replace(POLICY, vote=vote))
    guard.handle(seen(5000, 4, BAD, captured=40))
    assert guard.halt


def test_a_late_defect_halts_though_another_camera_sees() -> None:
    guard = two_eyes()
    guard.handle(seen(4990, 4, camera="right"))
    guard.handle(seen(5000, 4, BAD, camera="left", captured=40))
    assert guard.halt


def test_a_policy_that_makes_every_camera_optional_makes_none_so() -> None:
    play(
        started(),
        (PolicyChanged(40 * MS, replace(POLICY, optional=("cam",))), RUN),
        (tick(331), stop(Code.CAMERA), now(State.BLIND), eye("cam", sees=False)),
    )


def test_a_station_of_optional_cameras_is_refused() -> None:
    with pytest.raises(ValueError, match="without a camera"):
        LineGuard(replace(POLICY, optional=("cam",)), ["cam"], BOOT, 0)


@pytest.mark.parametrize(
    ("left", "right", "vote", "call"),
    [
        (BAD, GOOD, 1, Call.DEFECT),
        (BAD, GOOD, 2, Call.UNCERTAIN),
        (BAD, BAD, 2, Call.DEFECT),
        (UNSURE, GOOD, 1, Call.UNCERTAIN),
        (GOOD, GOOD, 2, Call.PASS),
    ],
)
def test_cameras_vote_on_a_part(left: float, right: float, vote: int, call: Call) -> None:
    guard = two_eyes(replace(PART, vote=vote))
    guard.handle(part(35, "p1", frames=2))
    guard.handle(seen(40, 4, left, camera="left"))
    actions = guard.handle(seen(41, 4, right, camera="right"))
    assert [said(a) for a in actions if isinstance(a, GiveVerdict)] == [verdict("p1", call)]


def test_a_part_does_not_wait_for_a_blind_optional_camera() -> None:
    guard = two_eyes(replace(PART, optional=("right",), vote=2))
    guard.handle(part(35, "p1", frames=1))
    assert not [a for a in guard.handle(seen(40, 4, camera="left")) if isinstance(a, GiveVerdict)]
    guard.handle(seen(45, 4, camera="right"))
    guard.handle(part(50, "p2", frames=1, inspection=2))
    guard.handle(replace(unfit(55, 5), camera="right"))
    actions = guard.handle(seen(60, 5, BAD, camera="left"))
    assert verdict("p2", Call.DEFECT) in [said(a) for a in actions], "the only camera that sees decides"
