"""Evidence over frames: what one frame adds, when it is enough, and that the promised rate of false halts holds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from benchmarks import sequential
from inspection.events import State
from inspection.evidence import Cusum, KOfN, Sum, level_for
from inspection.policy import ClassPolicy, Policy
from inspection.thinning import inflation, prior_of
from inspection.types import Code
from tests.inspection.guard_script import BAD, GOOD, HALT_1, RUN, SCRATCH, UNSURE, halt, keep, now, play, seen, started
from tests.inspection.guard_script import stop as stopped

TEST = Cusum(h=6.0)


def feed(test: Cusum, *scores: float, hit: bool = False, small: bool = False) -> list[bool]:
    total = Sum(test)
    return [total.add(k, score, hit=hit, small=small) for k, score in enumerate(scores)]


def test_the_level_for_one_false_halt_in_a_shift_at_30_fps() -> None:
    assert level_for(1, 30) == pytest.approx(13.67, abs=0.005)
    assert level_for(1, 30, streams=4) == pytest.approx(math.log(4 * 864_000))
    assert level_for(2, 30) == pytest.approx(math.log(432_000))


@pytest.mark.parametrize("rate", [0, -1, 1e6, math.nan])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        level_for(rate, 30)


def test_a_frame_adds_its_log_likelihood_ratio() -> None:
    free = Cusum(h=6, prior=0.2, clip=50, floor=50)
    # odds 0.5 / 0.5 against the prior's 0.2 / 0.8: four times as likely with the defect
    assert free.nats(0.5) == pytest.approx(math.log(4))
    assert free.nats(0.2) == pytest.approx(0)
    assert replace(free, thin=2).nats(0.5) == pytest.approx(math.log(4) / 2)


@pytest.mark.parametrize("score", [0.0, 1.0, 1e-300, 0.5])
def test_no_single_frame_says_everything(score: float) -> None:
    assert -3.05 < TEST.nats(score) < 4


def test_evidence_adds_up_and_good_frames_take_it_back() -> None:
    # 0.9 adds 2.15 nats, 0.1 takes 2.25 back
    assert feed(TEST, 0.9, 0.9, 0.9) == [False, False, True]
    assert feed(TEST, 0.9, 0.9, 0.1, 0.9, 0.9) == [False, False, False, False, True]
    assert feed(TEST, *([0.9, 0.1] * 50)) == [False] * 100


def test_uncertain_frames_alone_make_a_halt_in_time() -> None:
    assert feed(TEST, *[0.7] * 20).index(True) == math.ceil(6 / TEST.nats(0.7)) - 1


@pytest.mark.parametrize(
    ("test", "frames"),
    [(TEST, 2), (replace(TEST, clip=6.05), 1), (Cusum(h=13.67), 4), (Cusum(h=13.67, thin=3), 11)],
    ids=str,
)
def test_the_worst_delay_of_a_defect_that_nobody_could_miss(test: Cusum, frames: int) -> None:
    assert test.worst_delay_frames == frames
    assert feed(test, *[1.0] * 50).index(True) == frames - 1


def test_one_overwhelming_frame_halts_at_once_where_a_site_wants_that() -> None:
    at_once = replace(TEST, at_once=0.95)
    assert feed(at_once, 0.95, hit=True) == [True]
    assert feed(at_once, 0.94, hit=True) == [False]
    assert feed(at_once, 0.99, hit=False, small=True) == [False], "under the limit in mm"


def test_what_is_under_the_limit_in_mm_is_no_evidence() -> None:
    assert feed(TEST, *[0.99] * 100, small=True) == [False] * 100


def test_a_completed_test_stands_until_it_has_fallen_to_its_release_level() -> None:
    total, stands = Sum(TEST), []
    for score in (0.9, 0.9, 0.9, 0.3, 0.3, 0.3, 0.3, 0.9):
        total.add(0, score, hit=False, small=False)
        stands.append(total.stands)
    # 6 -> 5.1 -> 4.2 -> 3.3 -> 2.4, and the release is at 3
    assert stands == [False, False, True, True, True, True, False, False]


def test_a_defect_long_in_view_is_forgotten_as_fast_as_a_short_one() -> None:
    total = Sum(TEST)
    for _ in range(1000):
        total.add(0, 1.0, hit=True, small=False)
    assert total.nats == TEST.h


def test_k_of_n_is_complete_only_with_a_frame_that_says_so() -> None:
    rule = KOfN(2, 3)
    assert [rule.add(k, 0.0, hit=bool(hit), small=False) for k, hit in enumerate((1, 1, 0, 0))] == [0, 1, 0, 0]
    assert rule.frames == (1,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"h": 0},
        {"h": math.inf},
        {"h": math.nan},
        {"prior": 0},
        {"prior": 1},
        {"thin": 0.5},
        {"floor": 0},
        {"clip": 0.01},
        {"release": 1.1},
        {"at_once": 1.1},
    ],
    ids=str,
)
def test_a_test_that_could_never_or_always_halt_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"need|at_once"):
        replace(TEST, **wrong)


@given(
    odds=st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=8),
    floor=st.floats(0.5, 6),
    clip=st.floats(1, 20),
    thin=st.floats(1, 10),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_good_frames_give_no_evidence_on_average(odds: list[float], floor: float, clip: float, thin: float) -> None:
    """The premise of e^h: E[e^nats] <= 1 under good frames, for any scores whose mean odds are the prior's."""
    mean = float(np.mean(odds))
    test = Cusum(h=5, prior=mean / (1 + mean), clip=clip, floor=floor, thin=thin)
    assert float(np.mean([math.exp(test.nats(o / (1 + o))) for o in odds])) <= 1 + 1e-9


def test_the_promised_rate_holds_in_a_small_simulation() -> None:
    """At h = ln 500, 400,000 good frames may give 800 false halts; benchmarks/sequential.py runs the real rates."""
    rng = np.random.default_rng(3)
    ratios = rng.normal(-1, math.sqrt(2), 400_000)  # log-likelihood ratios of two normals, 1 nat apart
    scores = 1 / (1 + np.exp(-ratios))
    total, halts = Sum(Cusum(h=math.log(500))), 0
    for score in scores:
        if total.add(0, float(score), hit=False, small=False):
            halts += 1
            total = Sum(Cusum(h=math.log(500)))
    assert 20 < halts <= 800


def test_the_guard_halts_by_the_sum_and_says_so() -> None:
    guard = started(Policy((replace(SCRATCH, cusum=Cusum(h=4.0)),)))
    play(
        guard,
        (seen(40, 4, BAD), RUN, keep(4, "defect")),
        (seen(50, 5, UNSURE), RUN),
        (seen(60, 6, 0.65), RUN),
        (seen(70, 7, GOOD), RUN),
        (seen(80, 8, BAD), RUN),
        (seen(90, 9, 0.69), RUN),
        (
            seen(100, 10, 0.69),
            stopped(Code.DEFECT, HALT_1),
            now(State.HALTED),
            halt(HALT_1),
            keep(10, "halt"),
        ),
    )
    assert guard.halt
    assert guard.halt.reason.startswith("scratch: 4.0 of 4.0 nats from ")
    assert guard.halt.score == 0.69
    assert 10 in guard.halt.evidence


def test_with_both_rules_either_is_enough() -> None:
    rule = replace(SCRATCH, k=2, n=3, cusum=Cusum(h=6.0, thin=3), beside=True)
    sure = rule.evidence()
    assert [sure.add(k, 0.9, hit=True, small=False) for k in range(3)] == [False, True, True]
    assert (sure.why, sure.frames) == ("3 of 3 frames", (0, 1, 2))
    unsure = rule.evidence()
    found = [unsure.add(k, 0.69, hit=False, small=False) for k in range(60)].index(True)
    assert found > 20
    assert unsure.why.startswith("6.0 of 6.0 nats")
    assert unsure.stands


def test_each_class_has_its_own_rule() -> None:
    policy = Policy((ClassPolicy("scratch", 0.3, 0.7, k=2, n=3), ClassPolicy("pore", 0.3, 0.7, cusum=TEST)))
    kinds = [type(rule.evidence()) for rule in policy.classes]
    assert kinds == [KOfN, Sum]
    assert policy.id != replace(policy, classes=(policy.classes[0], replace(policy.classes[1], cusum=None))).id


# ── what the benchmark builds on ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("test", [Cusum(h=5), Cusum(h=5, clip=2.5, floor=1, thin=3)], ids=str)
def test_the_benchmark_adds_what_the_guard_adds(test: Cusum) -> None:
    ratios = np.linspace(-8, 8, 33)
    ours = [test.nats(1 / (1 + math.exp(-ratio))) for ratio in ratios]
    assert sequential.added(test, ratios) == pytest.approx(ours)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.9])
def test_the_inflation_of_correlated_frames_is_found(rho: float) -> None:
    """For an AR(1) stream it is (1 + rho) / (1 - rho)."""
    rng, values = np.random.default_rng(2), np.empty(50_000)
    noise = 0.0
    for k in range(len(values)):
        noise = rho * noise + math.sqrt(1 - rho**2) * rng.standard_normal()
        values[k] = noise
    found, true = inflation(values), (1 + rho) / (1 - rho)
    assert true <= found.upper <= 1.5 * true
    assert 0.8 * true <= found.factor <= 1.4 * true


@pytest.mark.parametrize("values", [np.zeros(5000), np.arange(999.0)], ids=["all alike", "too few"])
def test_an_inflation_that_cannot_be_known_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="too few"):
        inflation(values)


@pytest.mark.parametrize("clip", [50.0, 4.0, 1.0])
def test_the_prior_of_good_frames_keeps_the_promise(clip: float) -> None:
    scores = [*np.random.default_rng(4).beta(1, 9, 10_000), 0.999999]
    test = Cusum(h=5, prior=prior_of(scores, clip), clip=clip, floor=50)
    assert np.mean([math.exp(test.nats(float(p))) for p in scores]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("events", "bound"), [(0, 2.996), (1, 4.744), (10, 16.962)])
def test_the_poisson_bound_is_the_textbooks(events: int, bound: float) -> None:
    assert sequential.most_likely(events) == pytest.approx(bound, abs=0.002)


def test_the_promised_rate_holds_for_independent_and_correlated_frames() -> None:
    """At a rate that a test can afford: h = ln 2,000 over 4 million frames, of which 2,000 may halt."""
    plain = Cusum(h=math.log(2000))
    for rho in (0.0, 0.6):
        stream = sequential.Stream(1.0, rho)
        fitted = replace(plain, thin=sequential.thin_of(stream, plain))
        assert sequential.false_halts(stream, fitted, 4_000_000) <= 2000
    naive = sequential.false_halts(sequential.Stream(1.0, 0.6), plain, 4_000_000)
    assert naive > 2000, "without thinning the promise does not hold"
