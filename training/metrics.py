"""Figures of merit in plain numpy, each with its source. Scores: higher means more likely a defect. Labels: 0 or 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def average_precision(scores: Floats, labels: Bools) -> float:
    """Sum of (R_n - R_n-1) P_n over the steps of the curve; tied scores enter together. NaN without positives, and
    without negatives, where any order is perfect."""
    if not labels.any() or labels.all():
        return math.nan
    place = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(labels[place]), scores[place]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    hits, calls = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    return float(np.sum(np.diff(hits, prepend=0) * hits / calls) / hits[-1])


def auroc(scores: Floats, labels: Bools) -> float:
    """Probability that a positive outranks a negative, ties half (Mann, Whitney 1947). NaN when one is missing."""
    bad, good = int(labels.sum()), int((~labels).sum())
    if not bad or not good:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[labels].sum() - bad * (bad + 1) / 2) / (bad * good))


def recall_at_false_calls(scores: Floats, labels: Bools, rate: float = 0.01) -> float:
    """Share of positives above the lowest limit that at most `rate` of the negatives exceed. NaN as above."""
    bad, good = scores[labels], np.sort(scores[~labels])[::-1]
    if not len(bad) or not len(good):
        return math.nan
    return float((bad > good[math.floor(rate * len(good))]).mean())


def pixel_average_precision(heat: Sequence[NDArray[np.uint8]], masks: Sequence[Bools]) -> float:
    """Average precision over all pixels of uint8 maps: 256 levels are all there are, so histograms lose nothing."""
    hit, call = np.zeros(256), np.zeros(256)
    for h, m in zip(heat, masks, strict=True):
        hit += np.bincount(h[m].ravel(), minlength=256)
        call += np.bincount(h.ravel(), minlength=256)
    hits, calls = np.cumsum(hit[::-1]), np.cumsum(call[::-1])
    if not hits[-1]:
        return math.nan
    return float(np.sum(np.diff(hits, prepend=0) * hits / np.maximum(calls, 1)) / hits[-1])


def calibration_error(scores: Floats, labels: Bools, bins: int = 15) -> float:
    """Expected calibration error: mean |defective share - mean score| over bins of equally many pictures, weighted
    (K. Nguyen, B. O'Connor, 2015: equal mass, since most scores are near 0). NaN without pictures."""
    if not len(scores):
        return math.nan
    place = np.argsort(scores, kind="stable")
    parts = np.array_split(place, min(bins, len(scores)))
    return float(sum(abs(labels[p].mean() - scores[p].mean()) * len(p) for p in parts) / len(scores))


def calibration_by_chance(scores: Floats, bins: int = 15, draws: int = 200) -> Floats:
    """(draws,) calibration errors of labels drawn from the scores themselves: what a perfectly calibrated model shows
    with so few pictures. The error above is biased upwards by about their mean (R. Roelofs et al., 2022)."""
    rng = np.random.default_rng(0)
    return np.array([calibration_error(scores, rng.random(len(scores)) < scores, bins) for _ in range(draws)])


def augrc(confidence: Floats, wrong: Bools) -> float:
    """Area under the generalised risk-coverage curve (J. Traub et al., 2024): the mean, over all shares of pictures
    that are decided by the model alone, surest first, of the share that is decided wrongly. 0 is perfect, 0.5 of the
    error rate means that "unsure" says nothing. Ties are taken in their mean order."""
    n = len(wrong)
    if not n:
        return math.nan
    _, inverse, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    per_tie = np.bincount(inverse, weights=wrong.astype(float)) / counts
    decided = np.cumsum(np.concatenate([[0.0], np.repeat(per_tie, counts)])) / n
    return float(np.mean((decided[1:] + decided[:-1]) / 2))


def per_region_overlap(
    heat: Sequence[NDArray[np.uint8]], masks: Sequence[Bools], false_share: float = 0.3, levels: int = 64
) -> float:
    """PRO (P. Bergmann et al., 2020): the mean share of each connected region that is called, over the false-positive
    rates of pixels up to `false_share`, normalised to 1. Small regions count as much as large ones. NaN without any."""
    limits = np.unique(np.concatenate([m.ravel() for m in heat])) if heat else np.zeros(0)
    limits = np.quantile(limits, np.linspace(0, 1, levels)) if len(limits) > levels else limits
    regions = [one for h, m in zip(heat, masks, strict=True) for one in _regions(h, m)]
    sound = np.concatenate([h[~m] for h, m in zip(heat, masks, strict=True)]) if heat else np.zeros(0)
    if not regions or not len(sound):
        return math.nan
    rates = [1 - np.searchsorted(np.sort(values), limits) / len(values) for values in (sound, *regions)]
    false, overlap = rates[0][::-1], np.mean(rates[1:], axis=0)[::-1]
    x, y = np.concatenate([[0.0], false]), np.concatenate([[0.0], overlap])
    grid = np.linspace(0, false_share, 301)
    return float(np.interp(grid, x, y).mean())


def _regions(heat: NDArray[np.uint8], mask: Bools) -> list[NDArray[np.uint8]]:
    import cv2

    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [heat[np.asarray(labels) == k] for k in range(1, count)]


def group_draws(
    figure: Callable[[NDArray[np.int64]], float], groups: Sequence[str], rounds: int = 500, seed: int = 0
) -> Floats:
    """`figure(rows)` for `rounds` bootstrap draws of whole groups, those without a value left out."""
    names, of_row = np.unique(np.asarray(groups), return_inverse=True)
    rows = [np.flatnonzero(of_row == k) for k in range(len(names))]
    rng = np.random.default_rng(seed)
    drawn = [figure(np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])) for _ in range(rounds)]
    return np.array([v for v in drawn if not math.isnan(v)])


def group_interval(
    figure: Callable[[NDArray[np.int64]], float], groups: Sequence[str], rounds: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of `figure(rows)`, drawing whole groups: pictures of one part are not independent."""
    known = group_draws(figure, groups, rounds, seed)
    if not len(known):
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def groups_with(rows: Bools, groups: Sequence[str]) -> int:
    """How many groups have a picture among `rows`: pictures of one part are not so many trials."""
    return len({group for group, row in zip(groups, rows, strict=True) if row})


def at_most(k: int, n: int, confidence: float = 0.95) -> float:
    """Upper bound of a rate after k events in n trials (Clopper, Pearson 1934), by bisecting the binomial tail."""
    if n == 0 or k >= n:
        return 1.0
    low, high = k / n, 1.0
    for _ in range(60):
        p = (low + high) / 2
        tail = sum(math.exp(_log_binomial(n, j) + j * math.log(p) + (n - j) * math.log1p(-p)) for j in range(k + 1))
        low, high = (p, high) if tail > 1 - confidence else (low, p)
    return high


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
