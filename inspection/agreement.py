"""How far people say the same about the same frame, beyond what chance alone would give.

Every coefficient comes with the prevalence, because kappa collapses when defects are rare however careful people
are (A. Feinstein, D. Cicchetti, 1990), and with an interval by bootstrap over *parts*: frames of one part are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MIN_UNITS = 20
"""Fewer frames that two people labelled carry no coefficient worth showing."""
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; NaN where it is not defined (everybody always says the same)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Unit:
    """One frame of a part and what each person called it; somebody who did not label it is simply absent."""

    part: str
    answers: Mapping[str, str]
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """`units`: frames with two answers or more, of `parts` parts. `prevalence`: share of answers per category.

    `observed`: share of pairs of answers that agree. `specific`: given that one person says a category, how often
    another does too (J. Fleiss, 1981). `alpha` is Krippendorff's; `kappa` Fleiss's or, of two people, Cohen's, None
    where the frames were not all labelled by equally many.
    """

    units: int
    parts: int
    people: tuple[str, ...]
    prevalence: dict[str, float]
    observed: Estimate
    specific: dict[str, float]
    alpha: Estimate
    kappa: Estimate | None

    @property
    def enough(self) -> bool:
        return self.units >= MIN_UNITS


def cohen_kappa(table: ArrayLike) -> float:
    """k = (p_o - p_e) / (1 - p_e) of a square table of counts, rows one person, columns the other (J. Cohen, 1960)."""
    counts = np.asarray(table, np.float64)
    return float(_cohen(counts.reshape(1, -1), len(counts))[0])


def agreement(units: Iterable[Unit], draws: int = DRAWS, seed: int = 0) -> Agreement:
    """Of those frames that two people or more labelled; the interval is the bootstrap's, by part."""
    double = [u for u in units if len(u.answers) >= 2]
    names = sorted({a for u in double for a in u.answers.values()})
    people = tuple(sorted({p for u in double for p in u.answers}))
    counts = np.zeros((len(double), max(1, len(names))))
    for row, unit in zip(counts, double, strict=True):
        for answer in unit.answers.values():
            row[names.index(answer)] += 1
    parts = sorted({u.part for u in double})
    weights = part_weights([u.part for u in double], draws, seed)
    answers = counts.sum(1)
    level = bool(len(double)) and bool((answers == answers[0]).all())
    pairs = _pairs(double, people, names) if level and len(people) == 2 else None
    total = max(1.0, float(counts.sum()))
    return Agreement(
        units=len(double),
        parts=len(parts),
        people=people,
        prevalence={name: float(counts[:, k].sum() / total) for k, name in enumerate(names)},
        observed=estimate(lambda w: _observed(counts, w), weights),
        specific={name: _specific(counts, k) for k, name in enumerate(names)},
        alpha=estimate(lambda w: _alpha(counts, w), weights),
        kappa=estimate(lambda w: _kappa(counts, pairs, w), weights) if level else None,
    )


def each_pair(units: Sequence[Unit], draws: int = DRAWS, seed: int = 0) -> dict[tuple[str, str], Agreement]:
    """Agreement of every two people who share frames."""
    people = sorted({p for u in units for p in u.answers})
    found = {}
    for pair in combinations(people, 2):
        shared = [Unit(u.part, {p: u.answers[p] for p in pair}, u.ref) for u in units if set(pair) <= set(u.answers)]
        if shared:
            found[pair] = agreement(shared, draws, seed)
    return found


def part_weights(parts: Sequence[str], draws: int, seed: int) -> Floats:
    """(1 + draws, units) how often each unit counts: once in the first row, as drawn with its part in the others."""
    names, index = np.unique(np.asarray(parts, dtype=object).astype(str), return_inverse=True)
    weights = np.ones((1 + draws, len(parts)))
    if len(names):
        rng = np.random.default_rng(seed)
        weights[1:] = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)[:, index]
    return weights


def estimate(statistic: Callable[[Floats], Floats], weights: Floats, level: float = 0.95) -> Estimate:
    """The statistic of the first row of weights, its percentile interval from the others (B. Efron, 1979).

    Draws in which it is not defined are left out; when those are more than half, there is no interval.
    """
    if not weights.shape[1]:
        return Estimate(np.nan, np.nan, np.nan)
    values = statistic(weights)
    drawn = values[1:][np.isfinite(values[1:])]
    if 2 * len(drawn) < len(values) - 1 or not len(drawn) or not np.isfinite(values[0]):
        return Estimate(float(values[0]), np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values[0]), float(low), float(high))


def _kappa(counts: Floats, pairs: Floats | None, weights: Floats) -> Floats:
    return _fleiss(counts, weights) if pairs is None else _cohen(weights @ pairs, counts.shape[1])


def _cohen(cells: Floats, k: int) -> Floats:
    """(draws, k*k) counts of pairs of answers -> (draws,)."""
    table = cells.reshape(-1, k, k) / np.maximum(cells.sum(1), 1e-12)[:, None, None]
    chance = (table.sum(1) * table.sum(2)).sum(1)
    return _over_chance(np.trace(table, axis1=1, axis2=2), chance)


def _fleiss(counts: Floats, weights: Floats) -> Floats:
    """Of (units, categories) counts, each row of equally many answers: mean P_i against sum p_j^2 (J. Fleiss, 1971)."""
    n = counts.sum(1)
    each = ((counts**2).sum(1) - n) / (n * (n - 1))
    shares = weights @ counts
    shares = shares / np.maximum(shares.sum(1, keepdims=True), 1e-12)
    return _over_chance(weights @ each / np.maximum(weights.sum(1), 1e-12), (shares**2).sum(1))


def _alpha(counts: Floats, weights: Floats) -> Floats:
    """Nominal alpha = 1 - D_o / D_e of (units, categories) counts; units with one answer carry nothing.

    K. Krippendorff, Computing Krippendorff's alpha-reliability, 2011, section C (missing data).
    """
    n = counts.sum(1)
    counts, weights, n = counts[n >= 2], weights[:, n >= 2], n[n >= 2]
    if not len(n):
        return np.full(len(weights), np.nan)
    apart = weights @ ((n**2 - (counts**2).sum(1)) / (n - 1))
    totals = weights @ counts
    whole = totals.sum(1)
    expected = (whole**2 - (totals**2).sum(1)) / np.maximum(whole - 1, 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 1e-9, 1 - apart / expected, np.nan)


def _observed(counts: Floats, weights: Floats) -> Floats:
    n = counts.sum(1)
    alike = (counts * (counts - 1)).sum(1)
    out: Floats = weights @ alike / np.maximum(weights @ (n * (n - 1)), 1e-12)
    return out


def _specific(counts: Floats, k: int) -> float:
    chances = float((counts[:, k] * (counts.sum(1) - 1)).sum())
    return float((counts[:, k] * (counts[:, k] - 1)).sum()) / chances if chances else float("nan")


def _over_chance(observed: Floats, chance: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)


def _pairs(units: Sequence[Unit], people: Sequence[str], names: Sequence[str]) -> Floats:
    """(units, k*k): which cell of the two people's table each unit falls into."""
    table = np.zeros((len(units), len(names) ** 2))
    for row, unit in zip(table, units, strict=True):
        a, b = (names.index(unit.answers[p]) for p in people)
        row[a * len(names) + b] = 1
    return table
