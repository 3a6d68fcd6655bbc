"""Limits with a guarantee: pass / uncertain / halt for a stated miss rate and false-halt rate at a stated confidence.

Learn then Test (A. Angelopoulos, S. Bates, E. Candès, M. Jordan, L. Lei, 2021): each limit walks a grid that was fixed
beforehand, from where it is surely safe. At every step the hypothesis "the rate is above alpha" is tested with the
exact binomial p = P(Bin(n, alpha) <= k); the walk ends at the first step with p > delta. As k only grows on the way, no
more than delta of all samples certify a limit that breaks its rate (fixed sequence testing). The two limits share the
error: delta / 2 each, so both promises hold together.

What is counted are *groups* (parts, scenes), never frames: the frames of one part are not independent. A defective
group is missed when any of its defective pictures is passed, a good group is stopped when any of its good ones is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from inspection.errors import ConfigError, DatasetError
from inspection.escape import beta_cdf, upper_bound

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rule = Literal["ltt", "crc"]

GRID: Floats = 1 / (1 + np.exp(-np.linspace(-12, 12, 4801)))
"""Where a limit may stand, fixed before any score is seen: even steps of log-odds, so that 0.9999 has neighbours."""


class Asked(BaseModel):
    """What is to be promised: at most `miss` of defective parts passed, at most `false_halt` of good parts stopped,
    both together with `confidence`. `rule` crc bounds the rates on average over calibrations only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    miss: float = Field(gt=0, lt=1)
    false_halt: float = Field(gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    rule: Rule = "ltt"


class Costs(BaseModel):
    """Cost of a passed defect, of a false stop, of a person's look, in one unit; `escape_of` per class instead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    escape: float = Field(gt=0)
    stop: float = Field(gt=0)
    review: float = Field(default=1.0, gt=0)
    escape_of: dict[str, float] = {}


class Bound(BaseModel):
    """`k` of `n` groups on the wrong side of the limit; the rate is below `at_most` with the promise's confidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int
    n: int
    at_most: float


class Promise(BaseModel):
    """`limits`: class -> (lo, hi). `miss_of`: what is known of each class alone, at the same confidence each.

    `uncertain`: share of the pictures between the limits. `n` of the bounds are groups. `views`: how often the model
    looked at each picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: Asked
    costs: Costs | None
    limits: dict[str, tuple[float, float]]
    miss: Bound
    false_halt: Bound
    miss_of: dict[str, Bound]
    uncertain: float
    pictures: int
    snapshot: str = ""
    on: str = ""
    views: int = 1


def binomial_tail(k: int, n: int, rate: float) -> float:
    """P(Bin(n, rate) <= k) = 1 - I_rate(k + 1, n - k) (DLMF 8.17.5)."""
    return 1.0 if k >= n else 1 - beta_cdf(rate, k + 1, n - k)


def most_allowed(n: int, rate: float, delta: float, rule: Rule = "ltt") -> int:
    """The largest k in n groups with which a rate of at most `rate` is certified; -1 when not even 0 is enough.

    ltt: P(Bin(n, rate) <= k) <= delta. crc: n/(n+1) k/n + 1/(n+1) <= rate (A. Angelopoulos et al., 2022).
    """
    if rule == "crc":
        return max(-1, math.floor(rate * (n + 1) - 1 + 1e-9))
    k = -1
    while k + 1 < n and binomial_tail(k + 1, n, rate) <= delta:
        k += 1
    return k


def groups_needed(rate: float, delta: float, rule: Rule = "ltt") -> int:
    """The smallest n with which a rate can be certified at all, when nothing goes wrong: (1 - rate)^n <= delta."""
    if rule == "crc":
        return math.ceil(1 / rate - 1 - 1e-9)
    return math.ceil(math.log(delta) / math.log1p(-rate) - 1e-9)


def best_rate(n: int, delta: float, rule: Rule = "ltt") -> float:
    """The lowest rate that n groups without an error can promise: 1 - delta^(1/n)."""
    if n == 0:
        return 1.0
    return 1 / (n + 1) if rule == "crc" else 1 - delta ** (1 / n)


def lo_for(worst: Floats, allowed: int) -> float:
    """The highest grid point below which at most `allowed` of the `worst` scores of defective groups lie; 0: none."""
    counts = np.searchsorted(np.sort(worst), GRID, side="left")
    good = np.flatnonzero(counts <= allowed)
    return float(GRID[good[-1]]) if allowed >= 0 and len(good) else 0.0


def hi_for(worst: Floats, allowed: int) -> float:
    """The lowest grid point that at most `allowed` of the `worst` scores of good groups reach; 1: none."""
    counts = len(worst) - np.searchsorted(np.sort(worst), GRID, side="left")
    good = np.flatnonzero(counts <= allowed)
    return float(GRID[good[0]]) if allowed >= 0 and len(good) else 1.0


def by_cost(costs: Costs, cls: str) -> tuple[float, float]:
    """(lo, hi) on calibrated p. To a person when min(C_escape p, C_stop (1 - p)) > C_review, else the cheaper call."""
    escape = costs.escape_of.get(cls, costs.escape)
    lo, hi = costs.review / escape, 1 - costs.review / costs.stop
    if lo >= hi:  # a look costs more than it saves: one limit, where both errors cost the same
        lo = hi = costs.stop / (escape + costs.stop)
    return lo, hi


def promise(
    scores: Floats,
    target: Bools,
    groups: Sequence[str],
    classes: Sequence[str],
    asked: Asked,
    costs: Costs | None = None,
) -> Promise:
    """Limits for calibrated `scores` (N, C) of pictures that neither training nor calibration saw.

    `target` (N, C). One limit lo and one hi walk for all classes: a picture is passed when every class is below lo and
    stops the line when any is from hi on, as the guard has it. Costs move a class's own limits further to the safe
    side, never back. DatasetError, with what could be promised, where there are too few groups.
    """
    top, bad = scores.max(1), np.asarray(target.any(axis=1))
    missed_from = _per_group(top, bad, groups, min)
    stopped_from = _per_group(top, ~bad, groups, max)
    share = (1 - asked.confidence) / 2
    allowed_misses = _allowed(len(missed_from), asked.miss, share, asked, "a miss rate", "groups with a defect")
    allowed_stops = _allowed(len(stopped_from), asked.false_halt, share, asked, "a false-halt rate", "good groups")
    lo, hi = lo_for(missed_from, allowed_misses), hi_for(stopped_from, allowed_stops)
    if lo > hi:  # both promises leave room: nothing need be uncertain, and the middle is as far from both as can be
        lo = hi = float(GRID[(np.searchsorted(GRID, lo) + np.searchsorted(GRID, hi)) // 2])
    limits = {cls: _with_costs(lo, hi, costs, cls) for cls in classes}
    low, high = (np.array([limits[c][side] for c in classes]) for side in (0, 1))
    passed, stopped = np.asarray((scores < low).all(axis=1)), np.asarray((scores >= high).any(axis=1))
    return Promise(
        asked=asked,
        costs=costs,
        limits=limits,
        miss=_bound(passed, bad, groups, share),
        false_halt=_bound(stopped, ~bad, groups, share),
        miss_of={c: _bound(passed, target[:, k], groups, share) for k, c in enumerate(classes)},
        uncertain=float((~passed & ~stopped).mean()),
        pictures=len(scores),
    )


def _per_group(scores: Floats, rows: Bools, groups: Sequence[str], worst: Callable[[Sequence[float]], float]) -> Floats:
    of: dict[str, list[float]] = {}
    for score, row, group in zip(scores, rows, groups, strict=True):
        if row:
            of.setdefault(group, []).append(float(score))
    return np.array([worst(those) for those in of.values()])


def _allowed(n: int, rate: float, delta: float, asked: Asked, of_what: str, kind: str) -> int:
    allowed = most_allowed(n, rate, delta, asked.rule)
    if allowed < 0:
        needed, best = groups_needed(rate, delta, asked.rule), best_rate(n, delta, asked.rule)
        raise DatasetError(
            f"{of_what} of {rate:.2%}",
            f"cannot be promised with {n} {kind}: with so few the lowest is {best:.1%}, if not one of them goes wrong",
            f"collect {needed - n} more ({needed} in all), or ask for no less than {best:.1%}",
        )
    return allowed


def _with_costs(lo: float, hi: float, costs: Costs | None, cls: str) -> tuple[float, float]:
    if costs is None:
        return lo, hi
    cheap_lo, cheap_hi = by_cost(costs, cls)
    return min(lo, cheap_lo), max(hi, cheap_hi)


def _bound(wrong: Bools, rows: Bools, groups: Sequence[str], delta: float) -> Bound:
    those = {g for g, row in zip(groups, rows, strict=True) if row}
    hit = {g for g, row, bad in zip(groups, rows, wrong, strict=True) if row and bad}
    return Bound(k=len(hit), n=len(those), at_most=upper_bound(len(hit), len(those), 1 - delta) if those else 1.0)


def parse_costs(escape: Sequence[str], stop: float | None, review: float, classes: Sequence[str]) -> Costs | None:
    """`--cost-escape 200 --cost-escape crack=1000 --cost-stop 40` -> Costs; None when none is given."""
    if not escape and stop is None:
        return None
    every, of = 0.0, dict[str, float]()
    for text in escape:
        cls, equals, value = text.rpartition("=")
        if (equals and cls not in classes) or not _is_cost(value):
            raise ConfigError("--cost-escape", f"is {text!r}", f"a number above 0, or CLASS=number of {list(classes)}")
        if equals:
            of[cls] = float(value)
        else:
            every = float(value)
    every = every or max(of.values(), default=0.0)
    if not every or stop is None or not stop > 0 or not review > 0:
        raise ConfigError("--cost-escape and --cost-stop", "are not both given, above 0", "give both, in one unit")
    return Costs(escape=every, stop=stop, review=review, escape_of=of)


def _is_cost(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def metrics_of(found: Promise) -> Mapping[str, float]:
    """The promise as a bundle's manifest carries it, among the figures of its lineage."""
    return {
        "promise.miss": found.asked.miss,
        "promise.false_halt": found.asked.false_halt,
        "promise.confidence": found.asked.confidence,
        "promise.defective_groups": found.miss.n,
        "promise.good_groups": found.false_halt.n,
        "promise.uncertain": round(found.uncertain, 4),
    }
