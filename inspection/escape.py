"""Shares with honest intervals: how often a defect escapes, from audits of passed parts.

k defects in n audited passes say more than k/n: the interval is exact (C. Clopper, E. Pearson, 1934), also where
k = 0. Audits are drawn per line and week, not from one heap, so the strata are weighted by the parts that passed
there, and the interval takes all of them for audited as sparsely as the sparsest one was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95
MAX_AUDITS = 10_000_000
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `n` (which weighting makes fractional) with its two-sided interval; NaN where n = 0."""

    value: float
    low: float
    high: float
    n: float

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Stratum:
    """One line in one week: `passed` parts, of which `audited` were looked at again and `defects` were found bad."""

    name: str
    passed: int
    audited: int
    defects: int

    def __post_init__(self) -> None:
        if not 0 <= self.defects <= self.audited <= self.passed:
            raise ValueError(f"{self.name}: {self.defects} defects in {self.audited} audits of {self.passed} parts")


@dataclass(frozen=True, slots=True)
class EscapeRate:
    """`rate`: of all parts that passed; `unseen`: strata where parts passed and nobody looked, so nothing is known."""

    rate: Share
    audited: int
    defects: int
    unseen: tuple[str, ...]


def clopper_pearson(k: float, n: float, level: float = LEVEL) -> Share:
    """The exact interval of k in n: beta quantiles (Clopper and Pearson 1934; beta form: Johnson, Kotz 1969).

    Holds at least `level` whatever the true share. Fractional k and n are allowed, for effective sample sizes.
    """
    _check(k, n)
    if n == 0:
        return Share(math.nan, 0.0, 1.0, 0)
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else beta_quantile(tail, k, n - k + 1)
    high = 1.0 if k == n else beta_quantile(1 - tail, k + 1, n - k)
    return Share(k / n, low, high, n)


def lower_bound(k: float, n: float) -> float:
    """The one-sided exact lower bound: fifty perfect parts prove no more than 0.05^(1/50) = 94.2 %."""
    _check(k, n)
    return 0.0 if k == 0 else beta_quantile(1 - LEVEL, k, n - k + 1)


def upper_bound(k: float, n: float, level: float = LEVEL) -> float:
    """The one-sided exact upper bound: 0 in 149 proves at most 2 %."""
    _check(k, n)
    return 1.0 if k == n else beta_quantile(level, k + 1, n - k)


def escape_rate(strata: Sequence[Stratum]) -> EscapeRate:
    """The share of defects among everything that passed, by strata weighted with what passed in each.

    The estimate is sum W_h k_h / n_h with W_h = passed_h / passed (Cochran 1977, 5.3). The interval is the exact one
    at m = min n_h / W_h audits. Its variance, sum W_h^2 p_h q_h / n_h, is at most that of m audits from one heap:
    W_h / n_h <= 1 / m, and sum W_h p_h q_h <= P Q. Kish's 1 / sum (W_h^2 / n_h) holds for equal p_h only: where the
    sparse stratum is the bad one, it promises too much.
    """
    seen = [s for s in strata if s.audited]
    unseen = tuple(s.name for s in strata if s.passed and not s.audited)
    audited, defects = sum(s.audited for s in seen), sum(s.defects for s in seen)
    passed = sum(s.passed for s in seen)
    if not audited:
        return EscapeRate(Share(math.nan, 0.0, 1.0, 0), 0, 0, unseen)
    weights = [s.passed / passed for s in seen]
    value = sum(w * s.defects / s.audited for w, s in zip(weights, seen, strict=True))
    # Never more than were audited, which is the mean of these, weighted by W_h; rounding could make it so.
    effective = min(audited, *(s.audited / w for w, s in zip(weights, seen, strict=True)))
    rate = clopper_pearson(min(1.0, value) * effective, effective)
    return EscapeRate(rate, audited, defects, unseen)


def more_audits(rate: Share, audited: int) -> int | None:
    """How many more audits until the interval is half as wide, if defects stay as frequent; None beyond reason.

    Each further audit is taken to count as much as those so far did (`rate.n` of `audited`).
    """
    if not rate.n:
        return None
    worth, wanted = rate.n / audited, rate.width / 2

    def wide(total: int) -> bool:
        n = total * worth
        return clopper_pearson(rate.value * n, n).width > wanted

    top = 2 * audited
    while wide(top):
        top *= 2
        if top > MAX_AUDITS:
            return None
    low = audited
    while top - low > 1:
        middle = (low + top) // 2
        low, top = (middle, top) if wide(middle) else (low, middle)
    return top - audited


def beta_quantile(p: float, a: float, b: float) -> float:
    """x with I_x(a, b) = p: Newton's steps where they stay inside of what is known, halves of it where they do not."""
    low, high, x = 0.0, 1.0, a / (a + b)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(200):
        off = beta_cdf(x, a, b) - p
        low, high = (x, high) if off < 0 else (low, x)
        slope = math.exp(min(700.0, scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)))
        step = x - off / slope if slope > 0 else low
        # A step that leaves the bracket, or one that hardly shortens it, is a half instead.
        new = step if low < step < high else (low + high) / 2
        if abs(new - x) <= 1e-15 + 4e-16 * x or high - low <= 4e-16 * high:
            return new
        x = new
    return x


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b) (DLMF 8.17.22: continued fraction, by Lentz's method).

    P(Bin(n, x) >= k) = I_x(k, n - k + 1) (DLMF 8.17.5).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, its mirror image does not
        return 1 - beta_cdf(1 - x, b, a)
    front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + step * d)
            c = _away_from_zero(1 + step / c)
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return min(1.0, math.exp(front) * value)


def _away_from_zero(x: float) -> float:
    return x if abs(x) > _TINY else _TINY


def _check(k: float, n: float) -> None:
    if not 0 <= k <= n or not math.isfinite(n):
        raise ValueError(f"{k} of {n} is no share")
