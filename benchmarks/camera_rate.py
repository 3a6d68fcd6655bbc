"""How often an unharmed camera would be called unfit in 24 hours, from far fewer frames than 24 hours have.

Counting alone cannot say: no false call in n frames only bounds the rate by 3 / n at 95 %. So the distance to the
limits is extrapolated. Of each block of frames the largest nearness to a limit (1 = at it) is kept; block maxima
follow a Gumbel law where the tail is exponential; the fitted law says how often a block reaches 1. Its upper bound
comes from a bootstrap over blocks. Reaching a limit is not yet a false call, which must last: so this errs upwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from inspection.fitness import Comparison, Fitness
from inspection.look import Look, look_at
from inspection.reference_view import ReferenceView
from inspection.types import Image

BLOCK = 300
"""Frames: longer than every average, so that neighbouring maxima are nearly independent."""
FRAMES_24_H = 24 * 3600 * 30
RESAMPLES = 500
EULER = 0.5772156649


@dataclass(frozen=True, slots=True)
class FalseRate:
    frames: int
    called: int
    """Frames called unfit."""
    worst: float
    """Largest nearness seen."""
    in_24_h: float
    in_24_h_upper: float
    """Expected false calls in 24 h, and the upper end of its 95 % interval."""


def false_rate(view: ReferenceView, images: Iterable[Image], usual: Look) -> FalseRate:
    fitness, called, count, maxima = Fitness(reference=view), 0, 0, [0.0]
    for image in images:
        called += bool(fitness.check(image))
        count += 1
        against = fitness.against
        if isinstance(against, Comparison):
            maxima[-1] = max(maxima[-1], against.nearness(usual))
        if count % BLOCK == 0:
            maxima.append(0.0)
    blocks = np.array(maxima[1:-1] if len(maxima) > 3 else maxima)  # the first is still settling, the last is cut
    rng = np.random.default_rng(0)
    resampled = [_in_24_h(rng.choice(blocks, len(blocks))) for _ in range(RESAMPLES)]
    upper = float(np.quantile(resampled, 0.975))
    return FalseRate(count, called, float(blocks.max()), _in_24_h(blocks), upper)


def usual_look(images: Iterable[Image]) -> Look:
    looks = [look_at(image) for image in images]
    middle = {name: float(np.median([getattr(look, name) for look in looks])) for name in Look.__slots__[:-1]}
    return Look(**middle, thumb=looks[0].thumb)


def _in_24_h(maxima: np.ndarray) -> float:
    """Gumbel by its moments: P(block reaches 1) times the blocks of a day."""
    scale = max(1e-4, float(maxima.std(ddof=1)) * math.sqrt(6) / math.pi)
    place = float(maxima.mean()) - EULER * scale
    return -math.expm1(-math.exp(-(1 - place) / scale)) * FRAMES_24_H / BLOCK
