"""What a run is shown, batch by batch: frames on their own, or clips in order.

Everything random follows from (seed, epoch, place), so a run that was killed goes on as if nothing had happened, and
several processes each draw their own share of a batch and none of the others'.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.augment import Variations, Window, vary
from training.checkpoint import RunConfig
from training.examples import Batch, Example, can_be_windowed, collate, order
from training.parallel import Team


@dataclass(frozen=True, slots=True)
class Share:
    """One process's part of a batch; `split` is False where the batch was too small and everybody does all of it."""

    batch: Batch
    split: bool


class Course(ABC):
    """Visits of one epoch, `per_step` of them a step."""

    windowed: bool
    """Whether windows of the pictures may be shown instead of whole ones."""

    def __init__(self, config: RunConfig, units: int, per_step: int) -> None:
        self.config, self.units, self.per_step = config, units, per_step
        self.steps_per_epoch = math.ceil(units / per_step)

    @abstractmethod
    def visits(self, epoch: int) -> NDArray[np.int64]: ...

    @abstractmethod
    def draw(self, visit: int, rng: np.random.Generator, window: Window | None) -> list[Example]: ...

    def batches(self, epoch: int, window: Window | None, skip: int = 0, team: Team | None = None) -> Iterator[Share]:
        """The epoch's batches from the `skip`-th on; the last may be smaller."""
        team, seed = team or Team(), self.config.ask.seed
        visits = self.visits(epoch)
        for start in range(skip * self.per_step, len(visits), self.per_step):
            places = list(enumerate(visits[start : start + self.per_step], start))
            split = team.size > 1 and len(places) % team.size == 0
            if split:
                each = len(places) // team.size
                places = places[team.rank * each : (team.rank + 1) * each]
            drawn = [self.draw(int(k), np.random.default_rng((seed, epoch, place)), window) for place, k in places]
            yield Share(self.together([e for part in drawn for e in part]), split)

    def together(self, examples: Sequence[Example]) -> Batch:
        return collate(examples, self.config.heat_stride)


def ahead(shares: Iterator[Share]) -> Iterator[Share]:
    """The same, each drawn while the one before is learnt from: drawing is a fifth of a step's time, on one core."""
    with ThreadPoolExecutor(1, "draw") as pool:
        coming = pool.submit(next, shares, None)
        while (share := coming.result()) is not None:
            coming = pool.submit(next, shares, None)
            yield share


class FrameCourse(Course):
    """Frames on their own, as many defective as good."""

    def __init__(self, config: RunConfig, examples: Sequence[Example]) -> None:
        super().__init__(config, len(examples), config.ask.batch)
        self.examples = examples
        self.windowed = can_be_windowed(examples)
        self.how = variations(config, examples)

    def visits(self, epoch: int) -> NDArray[np.int64]:
        return order(self.examples, np.random.default_rng((self.config.ask.seed, epoch)))

    def draw(self, visit: int, rng: np.random.Generator, window: Window | None) -> list[Example]:
        return [vary(self.examples[visit], rng, self.config.label_book, window, self.how)]


def variations(config: RunConfig, examples: Sequence[Example]) -> Variations:
    donors = tuple(e for e in examples if e.mask is not None and e.target.any()) if _synthetic(config) else ()
    return Variations(config.ask.augment, config.input.px_per_mm, donors)


def _synthetic(config: RunConfig) -> bool:
    return "synthetic" in config.ask.augment
