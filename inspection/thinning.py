"""How many neighbouring frames say as much as one: the `thin` of a sequential test, from a recording of good parts.

Frames of one camera are alike, so a sum over them swings more widely than the same number of independent ones: its
variance is larger by a factor, the inflation. Dividing each frame's evidence by it gives the sum the swing, and so
the rate of false halts, that independent frames would have. Estimated from blocks (H. Künsch, 1989): the variance of
a block's sum against that of single frames, for longer and longer blocks, with a bootstrap over blocks for its error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_BLOCKS = 50
"""Fewer blocks than this say nothing about a variance."""


@dataclass(frozen=True, slots=True)
class Inflation:
    """`upper`: what to use as `thin`, the upper end of a one-sided 95 % bootstrap interval, at least 1."""

    factor: float
    upper: float
    block_frames: int
    frames: int


def inflation(nats: ArrayLike, draws: int = 400, seed: int = 0) -> Inflation:
    """From what each frame of one camera added to the evidence, in order, while nothing was wrong.

    The block length is the one that shows the most: too short a block hides what lasts longer than it does. At least
    a thousand frames; ValueError for fewer, or when they do not differ.
    """
    values = np.asarray(nats, np.float64)
    if values.size < 20 * MIN_BLOCKS or values.std() == 0:
        raise ValueError(f"{values.size} frames that differ are too few: record at least {20 * MIN_BLOCKS}")
    best, best_blocks, length = 0.0, values[:, None], 1
    while values.size // length >= MIN_BLOCKS:
        blocks = values[: values.size // length * length].reshape(-1, length)
        factor = _factor(blocks.sum(1), length, float(values.var()))
        if factor > best:
            best, best_blocks = factor, blocks
        length *= 2
    rng = np.random.default_rng(seed)
    sums, size = best_blocks.sum(1), best_blocks.shape[1]
    picks = rng.integers(0, len(sums), (draws, len(sums)))
    upper = float(np.quantile([_factor(sums[pick], size, float(values.var())) for pick in picks], 0.95))
    return Inflation(best, max(1.0, best, upper), size, values.size)


def _factor(sums: NDArray[np.float64], length: int, variance: float) -> float:
    return float(sums.var(ddof=1)) / (length * variance)


def prior_of(scores: ArrayLike, clip: float = math.inf) -> float:
    """The smallest `prior` at which good frames with these scores have E[e^min(l, clip)] <= 1.

    It is the share of defect frames their calibration implies; any larger one keeps the promise too.
    """
    p = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    log_odds = np.log(p / (1 - p))
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float(np.mean(np.exp(np.minimum(log_odds - middle, clip))))
        low, high = (middle, high) if mean > 1 else (low, middle)
    return 1 / (1 + math.exp(-high))
