"""Cameras that see only when a part triggers them, and the verdicts of any history of parts."""

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
    BAD,
    BOOT,
    GOOD,
    MS,
    POLICY,
    RUN,
    SCRATCH,
    TWO_OF_THREE,
    UNSURE,
    keep,
    maintenance,
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
    verdict,
)

PART = replace(POLICY, mode="part")
VERDICT_ONLY = replace(PART, halt_on_defect=False)


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


@pytest.mark.parametrize(("deadline", "every"), [(200, 1000), (300, 1000), (1000, 250), (60, 50)])
def test_a_dead_camera_is_blind_however_short_a_part_is(deadline: int, every: int) -> None:
    """The part is over, or the next one there, before the silence is long enough to be called one."""
    guard = started(PART)
    for n in range(40):
        guard.handle(part(1000 + n * every, f"p{n}", frames=1, deadline=deadline))
        for ms in range(10, every, 10):
            guard.handle(tick(1000 + n * every + ms))
        if n * every > 300:
            assert guard.state is State.BLIND
    assert isinstance(permit := guard.handle(tick(1000 + 40 * every))[0], SetPermit)
    assert (permit.run, permit.code, permit.judged_ns) == (False, Code.CAMERA, 1000 * MS), (
        "it owes since the first part"
    )


def test_a_dead_cameras_vote_is_not_waited_for() -> None:
    two_of_two = replace(PART, vote=2, optional=frozenset({"b"}))
    guard = LineGuard(two_of_two, ["cam", "b"], BOOT, 0)
    for k in (1, 2, 3):
        guard.handle(seen(10 * k, k))
        guard.handle(seen(10 * k, k, camera="b"))
    said: list[str] = []
    for n in range(4):
        guard.handle(part(1000 * (n + 1), f"p{n}", frames=1, deadline=200))
        said += [type(a).__name__ for a in guard.handle(seen(1000 * (n + 1) + 50, 10 + n, BAD))]
        for ms in range(60, 1000, 20):
            guard.handle(tick(1000 * (n + 1) + ms))
    assert guard.state is State.HALTED
    assert "RaiseHalt" in said


def test_what_a_camera_owed_before_maintenance_it_does_not_owe_after() -> None:
    play(
        started(PART),
        (part(1000, "p1", frames=1, deadline=200), RUN),
        (
            maintenance(1100, until=5000),
            stop(Code.MAINTENANCE),
            verdict("p1", Call.FAULT),
            now(State.BLIND),
        ),
        (part(3000, "p2", frames=1, deadline=200), stop(Code.MAINTENANCE), verdict("p2", Call.FAULT)),
        (tick(5000), stop(Code.CAMERA)),
        (part(6000, "test", frames=3), stop(Code.CAMERA)),
        (seen(6010, 4), stop(Code.CAMERA)),
        (seen(6020, 5), stop(Code.CAMERA)),
        (seen(6030, 6), RUN, now(State.RUNNING), verdict("test", Call.PASS)),
    )


def test_the_same_numbers_much_later_are_another_part() -> None:
    """A controller that was restarted counts anew: its part must not go unseen."""
    play(
        started(PART),
        (part(1000, "p1", frames=1), RUN),
        (seen(1050, 4), RUN, verdict("p1", Call.PASS)),
        (part(5990, "p1", frames=1), RUN),
        (part(6010, "p1", frames=1), RUN),
        (tick(6210), RUN, verdict("p1", Call.FAULT)),
    )


def test_a_camera_that_has_shown_the_part_owes_nothing_until_the_deadline() -> None:
    play(
        started(PART),
        (part(1000, "p1", frames=2, deadline=2000), RUN),
        (seen(1010, 4), RUN),
        (tick(2900), RUN),
        (seen(2950, 5), RUN, verdict("p1", Call.PASS)),
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
