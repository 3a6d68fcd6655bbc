"""Exact shares and the escape rate, against published values and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inspection.escape import (
    Stratum,
    beta_cdf,
    clopper_pearson,
    escape_rate,
    lower_bound,
    more_audits,
    upper_bound,
)


@pytest.mark.parametrize(("k", "n", "p"), [(3, 10, 0.2), (1, 5, 0.7), (40, 50, 0.85), (7, 900, 0.006)])
def test_the_beta_function_is_the_binomial_tail(k: int, n: int, p: float) -> None:
    tail = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    assert beta_cdf(p, k, n - k + 1) == pytest.approx(tail, rel=1e-10)


def test_the_bounds_the_field_quotes() -> None:
    assert clopper_pearson(50, 50).low == pytest.approx(0.929, abs=5e-4)  # fifty perfect parts
    assert upper_bound(0, 149) <= 0.02 < upper_bound(0, 148)  # 0 misses prove 2 % from 149 on
    assert upper_bound(0, 59) <= 0.05 < upper_bound(0, 58)
    assert upper_bound(0, 2995) <= 0.001 < upper_bound(0, 2994)
    assert lower_bound(50, 50) == pytest.approx(0.05 ** (1 / 50), abs=1e-9)


def test_intervals_of_the_literature() -> None:
    """R. Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20."""
    exact = clopper_pearson(81, 263)
    assert (exact.low, exact.high) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert clopper_pearson(0, 20).high == pytest.approx(0.1684, abs=5e-5)
    assert clopper_pearson(0, 20).low == 0


def test_nothing_audited_promises_nothing() -> None:
    share = clopper_pearson(0, 0)
    assert (share.low, share.high) == (0, 1)
    assert math.isnan(share.value)
    found = escape_rate([Stratum("a", 100, 0, 0)])
    assert found.unseen == ("a",)
    assert more_audits(found.rate, found.audited) is None
    assert found.rate.high == 1


@pytest.mark.parametrize("bad", [(3, 2), (-1, 2), (0, math.nan)])
def test_what_is_no_share_is_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="is no share"):
        clopper_pearson(*bad)


def test_a_stratum_is_checked() -> None:
    with pytest.raises(ValueError, match="line 1"):
        Stratum("line 1", passed=10, audited=11, defects=0)


def test_strata_are_weighted_by_what_passed() -> None:
    """A line that makes nine tenths of the parts decides nine tenths of the rate, however it was audited."""
    found = escape_rate([Stratum("big", 9000, 100, 1), Stratum("small", 1000, 100, 10)])
    assert found.rate.value == pytest.approx(0.9 * 0.01 + 0.1 * 0.10)
    assert found.rate.n == pytest.approx(100 / 0.9)
    assert found.rate.n < found.audited == 200
    even = escape_rate([Stratum("big", 9000, 180, 3), Stratum("small", 1000, 20, 1)])
    assert even.rate.n == pytest.approx(200)  # audited as it passed: no certainty lost


def test_the_stratified_interval_covers() -> None:
    rng, strata = np.random.default_rng(3), ((6000, 200, 0.004), (3000, 60, 0.02), (1000, 40, 0.05))
    truth = sum(passed * p for passed, _, p in strata) / 10_000
    inside = 0
    for _ in range(300):
        drawn = [Stratum(str(p), passed, n, int(rng.binomial(n, p))) for passed, n, p in strata]
        rate = escape_rate(drawn).rate
        inside += rate.low <= truth <= rate.high
    assert inside / 300 >= 0.95


@pytest.mark.parametrize(
    "strata",
    [
        ((2500, 12, 0.10), (7500, 300, 0.002)),
        ((5000, 10, 0.08), (5000, 100, 0.001), (5000, 100, 0.001), (5000, 100, 0.001)),
        ((3000, 10, 0.2), (7000, 400, 0.0)),
    ],
)
def test_the_interval_covers_where_the_sparsely_audited_stratum_is_the_bad_one(
    strata: tuple[tuple[int, int, float], ...],
) -> None:
    rng, draws = np.random.default_rng(5), 2000
    passed = sum(stratum[0] for stratum in strata)
    truth = sum(share * p for share, _, p in strata) / passed
    intervals: dict[tuple[int, ...], tuple[float, float]] = {}
    above = below = 0
    for _ in range(draws):
        found = tuple(int(rng.binomial(n, p)) for _, n, p in strata)
        if found not in intervals:
            drawn = [Stratum(str(h), s[0], s[1], k) for h, (s, k) in enumerate(zip(strata, found, strict=True))]
            rate = escape_rate(drawn).rate
            intervals[found] = rate.low, rate.high
        low, high = intervals[found]
        above, below = above + (truth > high), below + (truth < low)
    assert above / draws <= 0.025
    assert below / draws <= 0.025


def test_more_audits_halve_the_interval() -> None:
    now = clopper_pearson(2, 300)
    more = more_audits(now, 300)
    assert more is not None
    assert clopper_pearson(now.value * (300 + more), 300 + more).width <= now.width / 2
    assert clopper_pearson(now.value * (299 + more), 299 + more).width > now.width / 2
    none_found = clopper_pearson(0, 300)
    assert more_audits(none_found, 300) == pytest.approx(300, abs=5)  # with no defect width goes as 1/n
    assert 600 < more < 900  # with defects towards 1/sqrt(n), which takes three times as many again
