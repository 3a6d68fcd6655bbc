"""Limits with a guarantee: they hold as often as they say, and are refused where nobody could promise them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inspection.errors import ConfigError, DatasetError
from training.promise import (
    Asked,
    Costs,
    best_rate,
    binomial_tail,
    by_cost,
    groups_needed,
    hi_for,
    lo_for,
    most_allowed,
    parse_costs,
    promise,
)

ASKED = Asked(miss=0.05, false_halt=0.05)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def one_per_group(n: int) -> list[str]:
    return [f"part-{k}" for k in range(n)]


def test_smallest_samples_are_those_of_the_table() -> None:
    # Smallest n with k = 0 at 95 %: 59 (5 %), 149 (2 %), 299 (1 %), 2,995 (0.1 %).
    assert [groups_needed(rate, 0.05) for rate in (0.05, 0.02, 0.01, 0.001)] == [59, 149, 299, 2995]
    for rate in (0.05, 0.02, 0.01):
        n = groups_needed(rate, 0.05)
        assert most_allowed(n, rate, 0.05) == 0
        assert most_allowed(n - 1, rate, 0.05) == -1
        assert best_rate(n, 0.05) <= rate < best_rate(n - 1, 0.05)


def test_the_binomial_tail_is_exact() -> None:
    def by_sum(k: int, n: int, p: float) -> float:
        return sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k + 1))

    for k, n, p in ((0, 59, 0.05), (3, 80, 0.04), (7, 300, 0.02), (40, 50, 0.7)):
        assert binomial_tail(k, n, p) == pytest.approx(by_sum(k, n, p), rel=1e-9)
    assert binomial_tail(5, 5, 0.1) == 1


def test_crc_bounds_the_expectation() -> None:
    assert most_allowed(49, 0.02, 0.05, "crc") == 0
    assert most_allowed(48, 0.02, 0.05, "crc") == -1
    assert groups_needed(0.02, 0.05, "crc") == 49
    k, n = most_allowed(500, 0.02, 0.05, "crc"), 500
    assert n / (n + 1) * k / n + 1 / (n + 1) <= 0.02 < n / (n + 1) * (k + 1) / n + 1 / (n + 1)


def simulated(rule: str, seed: int) -> tuple[float, float]:
    """True (miss rate, false-halt rate) of limits certified on 300 defective and 300 good groups of known scores."""
    rng = np.random.default_rng(seed)
    bad, good = sigmoid(rng.normal(3, 2, 300)), sigmoid(rng.normal(-3, 2, 300))
    delta = 0.025
    lo = lo_for(bad, most_allowed(300, 0.05, delta, "crc" if rule == "crc" else "ltt"))
    hi = hi_for(good, most_allowed(300, 0.05, delta, "crc" if rule == "crc" else "ltt"))

    def below(limit: float, mean: float) -> float:
        return 0.5 * math.erfc((mean - math.log(limit / (1 - limit))) / (2 * math.sqrt(2)))

    return below(lo, 3), 1 - below(hi, -3)


def test_promises_hold_in_95_of_100_simulations() -> None:
    rates = np.array([simulated("ltt", seed) for seed in range(1000)])
    held = (rates <= 0.05).all(1).mean()
    assert held >= 0.95
    # Exact, not merely safe: the 2.5 % of each limit are nearly used up. Here k = 7 of 300 has p = 0.018.
    assert (rates > 0.05).any(1).mean() > 0.01
    assert rates.mean() > 0.02


def test_crc_holds_on_average_and_only_on_average() -> None:
    rates = np.array([simulated("crc", seed) for seed in range(1000)])
    assert rates.mean() <= 0.05
    assert (rates <= 0.05).all(1).mean() < 0.8


def test_too_few_labels_are_refused_with_what_can_be_promised() -> None:
    scores = np.concatenate([np.full((40, 1), 0.9), np.full((400, 1), 0.1)])
    target = scores > 0.5
    with pytest.raises(DatasetError) as refused:
        promise(scores, target, one_per_group(440), ["crack"], Asked(miss=0.02, false_halt=0.05))
    text = str(refused.value)
    assert "cannot be promised with 40 groups with a defect" in text
    assert f"{1 - 0.025 ** (1 / 40):.1%}" in text
    assert "collect 143 more (183 in all)" in text
    promise(scores, target, one_per_group(440), ["crack"], Asked(miss=0.09, false_halt=0.05))


def test_frames_of_one_part_are_one_observation() -> None:
    scores = np.concatenate([np.full((400, 1), 0.9), np.full((400, 1), 0.1)])
    groups = [f"part-{k // 10}" for k in range(800)]  # 40 parts with a defect, ten frames each
    with pytest.raises(DatasetError, match="with 40 groups"):
        promise(scores, scores > 0.5, groups, ["crack"], Asked(miss=0.02, false_halt=0.05))


def test_one_passed_frame_is_a_missed_part() -> None:
    scores = np.tile([0.9, 0.9], 200)[:, None]
    scores[:20:2] = 0.01  # one frame of ten parts
    groups = [f"part-{k // 2}" for k in range(400)]
    all_scores = np.concatenate([scores, np.full((200, 1), 0.05)])
    target = np.arange(600)[:, None] < 400
    found = promise(
        all_scores, target, groups + [f"good-{k}" for k in range(200)], ["crack"], Asked(miss=0.1, false_halt=0.1)
    )
    lo, _ = found.limits["crack"]
    assert found.miss.n == 200
    assert found.miss.k == (10 if lo > 0.01 else 0)
    strict = promise(
        all_scores, target, groups + [f"good-{k}" for k in range(200)], ["crack"], Asked(miss=0.03, false_halt=0.1)
    )
    assert strict.limits["crack"][0] <= 0.01
    assert strict.miss.k == 0


def test_separable_scores_leave_nothing_uncertain() -> None:
    scores = np.concatenate([np.full((300, 1), 0.99), np.full((300, 1), 0.01)])
    found = promise(scores, scores > 0.5, one_per_group(600), ["crack"], ASKED)
    lo, hi = found.limits["crack"]
    assert 0.01 < lo == hi < 0.99
    assert (found.miss.k, found.false_halt.k, found.uncertain) == (0, 0, 0.0)
    assert found.miss.at_most < 0.05


def test_every_class_gets_its_own_bound() -> None:
    rng = np.random.default_rng(1)
    target = np.zeros((700, 2), bool)
    target[:300, 0], target[300:330, 1] = True, True
    scores = np.where(target, 0.95, 0.05) + rng.uniform(-0.04, 0.04, (700, 2))
    found = promise(scores, target, one_per_group(700), ["pore", "crack"], ASKED)
    assert (found.miss_of["pore"].n, found.miss_of["crack"].n) == (300, 30)
    assert found.miss_of["crack"].at_most > 0.1, "thirty parts say little of their own class"


def test_costs_move_limits_to_the_safe_side_only() -> None:
    costs = Costs(escape=1000, stop=50, review=2, escape_of={"crack": 10_000})
    assert by_cost(costs, "pore") == (pytest.approx(0.002), pytest.approx(0.96))
    assert by_cost(costs, "crack")[0] == pytest.approx(0.0002)
    lo, hi = by_cost(Costs(escape=10, stop=10, review=20), "pore")
    assert lo == hi == pytest.approx(0.5), "a look that costs more than any error is never asked for"
    scores = np.concatenate([np.full((300, 2), 0.99), np.full((300, 2), 0.01)])
    plain = promise(scores, scores > 0.5, one_per_group(600), ["pore", "crack"], ASKED)
    dear = promise(scores, scores > 0.5, one_per_group(600), ["pore", "crack"], ASKED, costs)
    assert dear.limits["pore"] == (pytest.approx(0.002), pytest.approx(0.96))
    assert dear.limits["crack"][0] < dear.limits["pore"][0] < plain.limits["pore"][0]
    cheap = promise(scores, scores > 0.5, one_per_group(600), ["pore"] * 1 + ["crack"], ASKED, Costs(escape=2, stop=2))
    assert cheap.limits["pore"] == plain.limits["pore"], "cost alone never lets more through than was certified"


def test_costs_as_a_person_writes_them() -> None:
    found = parse_costs(["200", "crack=1000"], 40, 1, ["pore", "crack"])
    assert found == Costs(escape=200, stop=40, review=1, escape_of={"crack": 1000})
    assert parse_costs([], None, 1, ["pore"]) is None
    for escape, stop in ((["dent=3"], 1.0), (["much"], 1.0), (["5"], None), ([], 5.0), (["-1"], 5.0)):
        with pytest.raises(ConfigError):
            parse_costs(escape, stop, 1, ["pore", "crack"])
