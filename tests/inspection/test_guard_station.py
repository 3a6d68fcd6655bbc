"""The guard at stations that differ: several cameras, cameras that see only when triggered, an engineer at work."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from inspection.decision import LineGuard
from inspection.events import (
    Event,
    GiveVerdict,
    Judged,
    Keep,
    PolicyChanged,
    RaiseHalt,
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
VERDICT_ONLY = replace(PART, halt_on_defect=False)


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
        (maintenance(40, until=400), stop(Code.INTERNAL), now(State.BLIND)),
        (seen(50, 4), stop(Code.INTERNAL)),
        (seen(60, 5, BAD), stop(Code.INTERNAL)),  # a test piece halts nothing and is no evidence
        (seen(390, 6), stop(Code.INTERNAL)),
        (tick(400), stop(Code.CAMERA)),
        (seen(410, 7), stop(Code.CAMERA)),
        (seen(420, 8), stop(Code.CAMERA)),
        (seen(430, 9), RUN, now(State.RUNNING)),
    )


def test_maintenance_ends_by_order_and_an_order_to_end_none_changes_nothing() -> None:
    play(
        started(),
        (maintenance(35, until=0), RUN),
        (maintenance(40, until=9000), stop(Code.INTERNAL), now(State.BLIND)),
        (seen(50, 4), stop(Code.INTERNAL)),
        (maintenance(60, until=60), stop(Code.CAMERA)),
        (seen(70, 5), stop(Code.CAMERA)),
        (seen(80, 6), stop(Code.CAMERA)),
        (seen(90, 7), RUN, now(State.RUNNING)),
    )


def test_a_site_that_runs_blind_does_not_run_through_maintenance_nor_before_it_sees_again() -> None:
    play(
        started(replace(POLICY, blind_runs=True)),
        (maintenance(40, until=100), stop(Code.INTERNAL), now(State.BLIND)),
        (seen(50, 4), stop(Code.INTERNAL)),
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
        (maintenance(45, until=900), stop(Code.INTERNAL), verdict("p1", Call.FAULT), now(State.BLIND)),
        (seen(50, 5), stop(Code.INTERNAL)),
        (part(60, "p2"), stop(Code.INTERNAL), verdict("p2", Call.FAULT)),
        (seen(70, 6), stop(Code.INTERNAL)),
    )


def test_what_was_seen_before_maintenance_is_no_evidence_after_it() -> None:
    guard = started(TWO_OF_THREE)
    play(
        guard,
        (seen(40, 4, BAD), RUN, keep(4, "defect")),
        (maintenance(45, until=46), stop(Code.INTERNAL), now(State.BLIND)),
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


# ── cameras that see only when triggered ────────────────────────────────────────────────────────────────────────


def test_silence_between_parts_is_not_blindness() -> None:
    play(
        started(PART),
        (tick(5000), RUN),
        (tick(3_600_000), RUN),
        (part(3_600_010, "p1", frames=1), RUN),
        (seen(3_600_050, 4), RUN, verdict("p1", Call.PASS)),
        (tick(7_200_000), RUN),
    )


def test_a_triggered_camera_that_gives_nothing_is_blind_and_a_test_shot_brings_it_back() -> None:
    play(
        started(PART),
        (part(1000, "p1", frames=1, deadline=1000), RUN),
        (tick(1300), RUN),
        (tick(1301), stop(Code.CAMERA), now(State.BLIND)),
        (tick(2000), stop(Code.CAMERA), verdict("p1", Call.FAULT)),
        (tick(9000), stop(Code.CAMERA)),
        (part(9010, "test-1", frames=3, deadline=1000), stop(Code.CAMERA)),
        (seen(9020, 4), stop(Code.CAMERA)),
        (seen(9030, 5), stop(Code.CAMERA)),
        (seen(9040, 6), RUN, now(State.RUNNING), verdict("test-1", Call.PASS)),
    )


def test_a_part_mode_station_starts_by_test_shots() -> None:
    guard = LineGuard(PART, ["cam"], BOOT, 0)
    play(
        guard,
        (tick(5000), stop(Code.STARTING)),
        (part(5010, "test", frames=3), stop(Code.STARTING)),
        (seen(5020, 1), stop(Code.STARTING)),
        (seen(5030, 2), stop(Code.STARTING)),
        (seen(5040, 3), RUN, now(State.RUNNING), verdict("test", Call.PASS)),
    )


def test_between_parts_the_age_is_that_of_the_guards_word_and_from_the_trigger_on_that_of_the_part() -> None:
    guard = started(PART)

    def judged_ms(event: Event) -> float:
        first = guard.handle(event)[0]
        assert isinstance(first, SetPermit)
        return first.judged_ns / MS

    assert judged_ms(tick(5000)) == 5000
    assert judged_ms(part(6000, "p1", frames=2)) == 6000
    assert judged_ms(tick(6100)) == 6000
    assert judged_ms(seen(6150, 4, captured=6140)) == 6140
    assert judged_ms(seen(6160, 5)) == 6160
    assert judged_ms(tick(9000)) == 9000


def test_a_frame_without_a_part_shows_an_empty_fixture() -> None:
    play(
        started(replace(PART, audit_share=1.0)),
        (seen(40, 4, BAD), RUN),
        (seen(50, 5, UNSURE), RUN),
        (part(60, "p1", frames=1), RUN),
        (seen(65, 6, captured=55), RUN),
        (seen(70, 7), RUN, keep(7, "audit"), verdict("p1", Call.PASS)),
    )


def test_evidence_of_one_part_is_none_against_the_next() -> None:
    guard = started(replace(TWO_OF_THREE, mode="part"))
    for k in (1, 2, 3):
        guard.handle(part(100 * k, f"p{k}", frames=2, inspection=k))
        guard.handle(seen(100 * k + 1, 4 + 2 * k, BAD))
        guard.handle(seen(100 * k + 2, 5 + 2 * k))
    assert guard.state is State.RUNNING


def test_where_the_controller_rejects_the_part_a_defect_is_a_verdict_and_no_halt() -> None:
    play(
        started(VERDICT_ONLY),
        (part(35, "p1", frames=2), RUN),
        (seen(40, 4, BAD), RUN, keep(4, "defect")),
        (seen(50, 5, BAD), RUN, verdict("p1", Call.DEFECT)),
        (part(60, "p2", frames=1), RUN),
        (seen(70, 6), RUN, verdict("p2", Call.PASS)),
    )


def test_a_stream_that_never_halts_is_refused() -> None:
    with pytest.raises(ValueError, match="halt_on_defect"):
        replace(POLICY, halt_on_defect=False)


@pytest.mark.parametrize(
    ("scores", "call"),
    [
        ((BAD,), Call.DEFECT),  # all the frames there are
        ((BAD, GOOD, GOOD), Call.UNCERTAIN),
        ((BAD, 0.99, 0.99, GOOD), Call.DEFECT),  # 2.1 + 4.5 + 4.5 nats, clipped to 4 each
        ((GOOD, GOOD), Call.PASS),
    ],
)
def test_a_sequential_test_on_a_part(scores: tuple[float, ...], call: Call) -> None:
    guard = started(Policy((replace(SCRATCH, cusum=Cusum(h=8.0)),), mode="part", halt_on_defect=False))
    guard.handle(part(35, "p1", frames=len(scores)))
    for k, score in enumerate(scores):
        actions = guard.handle(seen(40 + k, 4 + k, score))
    assert verdict("p1", call) in [said(a) for a in actions]


# ── exactly one verdict per part, whatever happens ──────────────────────────────────────────────────────────────

STEP = st.one_of(
    st.tuples(st.just("frame"), st.sampled_from([GOOD, UNSURE, BAD, float("nan")]), st.sampled_from(["left", "right"])),
    st.tuples(st.just("part"), st.integers(1, 8), st.integers(1, 3)),
    st.tuples(st.just("again"), st.integers(1, 8), st.just(0)),
    st.tuples(st.just("quiet"), st.sampled_from([10, 100, 301, 1000]), st.just(0)),
    st.tuples(st.just("unfit"), st.just(0), st.sampled_from(["left", "right"])),
    st.tuples(st.just("maintenance"), st.sampled_from([0, 50, 500]), st.just(0)),
    st.tuples(st.just("policy"), st.integers(1, 2), st.just(0)),
    st.tuples(st.just("resume"), st.just(0), st.just(0)),
)


@given(
    steps=st.lists(STEP, max_size=60),
    mode=st.sampled_from(["stream", "part"]),
    vote=st.integers(1, 2),
    optional=st.sampled_from([(), ("right",)]),
    halts=st.booleans(),
)
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_every_part_gets_exactly_one_verdict_and_no_pass_without_a_look(
    steps: list[tuple[str, float, object]], mode: str, vote: int, optional: tuple[str, ...], halts: bool
) -> None:
    policy = replace(POLICY, mode=mode, vote=vote, optional=optional, halt_on_defect=halts or mode == "stream")
    guard = LineGuard(policy, ["left", "right"], BOOT, 0)
    ms, frame, verdicts, opened = 0, 0, Counter[str](), Counter[str]()
    clear: dict[str, list[tuple[str, bool]]] = {}
    current, boss = "", False

    def tell(event: Event) -> None:
        nonlocal current
        actions = guard.handle(event)
        assert isinstance(actions[0], SetPermit), "the permit goes first"
        assert not any(isinstance(a, SetPermit) for a in actions[1:])
        assert policy.halt_on_defect or not any(isinstance(a, RaiseHalt) for a in actions)
        for action in actions:
            if isinstance(action, GiveVerdict):
                verdicts[action.part] += 1
                if action.verdict is Call.PASS:
                    seen_of_it = clear[action.part]
                    assert seen_of_it
                    assert all(good for _, good in seen_of_it)
                    assert {c for c, _ in seen_of_it} >= {"left"}
                if action.part == current:
                    current = ""
            if isinstance(action, Keep) and mode == "part" and action.call is not Call.FAULT and not action.halt:
                assert action.part

    for kind, a, b in steps:
        ms += 5
        if kind == "frame":
            frame += 1
            if current and a == a:
                clear[current].append((str(b), a == GOOD))
            tell(Judged(str(b), frame, ms * MS, ms * MS, {"scratch": float(a)}))
        elif kind == "part":
            name = f"p{len(opened)}"
            opened[name] += 1
            clear[name] = []
            before, current = current, name
            tell(part(ms, name, frames=int(str(b)), deadline=int(a) * 50, inspection=len(opened)))
            assert not before or verdicts[before] == 1
        elif kind == "again" and opened:
            name = f"p{int(a) % len(opened)}"
            tell(part(ms, name, inspection=int(a) % len(opened) + 1))
        elif kind == "quiet":
            ms += int(a)
            tell(tick(ms))
        elif kind == "unfit":
            frame += 1
            tell(replace(unfit(ms, frame), camera=str(b)))
        elif kind == "maintenance":
            boss = not boss
            tell(maintenance(ms, until=ms + int(a)))
        elif kind == "policy":
            policy = replace(policy, classes=(replace(SCRATCH, k=int(a), n=3),))
            if current:
                clear[current] = []
            tell(PolicyChanged(ms * MS, policy))
        elif kind == "resume" and guard.halt:
            tell(resume(ms, guard.halt.halt, nonce=f"n{ms}"))
    ms += 10_000
    tell(tick(ms))
    assert verdicts == opened
