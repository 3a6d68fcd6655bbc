"""Two makings of one model must say the same: torch and its graph, the graph and its int8 twin.

Held against each other on the golden frames and on 500 random ones: validation pictures shifted, turned, relit and
noised anew, since a difference shows where a picture lies near a limit, and few pictures do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inspection.policy import Policy, judge
from inspection.types import Call, Image

RANDOM_FRAMES = 500


class Answer(NamedTuple):
    """What a model says of an input-sized picture: scores (C,), heat (C, h, w), the novelty if it has one."""

    scores: NDArray[np.float32]
    heat: NDArray[np.uint8]
    novelty: float | None = None


Says = Callable[[Image], Answer]


@dataclass(frozen=True, slots=True)
class Parity:
    """Over `frames`: largest difference of a score and of a heat value (of 255), and how many calls differ. `novelty`:
    its largest difference, as a share of it where it is above 1."""

    frames: int
    score: float
    heat: int
    calls: int
    novelty: float = 0.0


def random_frames(pictures: Sequence[Image], count: int = RANDOM_FRAMES, seed: int = 0) -> Iterator[Image]:
    """`count` frames of the pictures' size: most are a picture under another light, some are flat or pure noise."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        picture = pictures[int(rng.integers(len(pictures)))]
        if k % 25 == 0:
            yield np.full_like(picture, int(rng.integers(256)))
            continue
        if k % 25 == 1:
            yield rng.integers(0, 256, picture.shape, np.uint8)
            continue
        shift = (int(rng.integers(-picture.shape[0] // 4, picture.shape[0] // 4 + 1)), int(rng.integers(-40, 41)))
        moved = np.roll(picture[:, :: int(rng.choice([-1, 1]))], shift, (0, 1))
        noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0, 6))
        yield np.clip(moved * np.float32(rng.uniform(0.6, 1.5)) + noise, 0, 255).astype(np.uint8)


def held_against(
    one: Says, other: Says, frames: Iterable[Image], classes: Sequence[str], policies: tuple[Policy, Policy]
) -> Parity:
    """Both are shown every frame, in order. `policies` are theirs: an int8 twin answers by limits of its own."""
    count, score, heat, calls, novelty = 0, 0.0, 0, 0, 0.0
    for frame in frames:
        (a, heat_a, new_a), (b, heat_b, new_b) = one(frame), other(frame)
        score = _larger(score, float(np.abs(a - b).max()))
        if new_a is not None and new_b is not None:
            novelty = _larger(novelty, abs(new_a - new_b) / max(1.0, new_b))
        heat = max(heat, int(np.abs(heat_a.astype(int) - heat_b.astype(int)).max()))
        calls += call_of(a, classes, policies[0]) is not call_of(b, classes, policies[1])
        count += 1
    return Parity(count, score, heat, calls, novelty)


def _larger(known: float, new: float) -> float:
    return known if new <= known else new  # a NaN must win


def call_of(scores: NDArray[np.float32], classes: Sequence[str], policy: Policy) -> Call:
    named = dict(zip(classes, (float(s) for s in scores), strict=True))
    return judge(named, (), policy).call
