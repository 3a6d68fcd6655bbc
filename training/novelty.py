"""How unlike its training pictures a picture is: a Mahalanobis distance on what the network computes anyway.

Of each channel the encoder hands on, at strides 4, 8 and 16, the mean over the picture. Their distance to the training
pictures' mean, in units of the training pictures' own spread (Lee et al. 2018, on one class: the defects seen are part
of what is known). The spread is Ledoit and Wolf's covariance (2004), which shrinks towards a sphere what few pictures
cannot show. Divided by the root of the number of features: 1 or less for most pictures like them.

Means alone did as well as means with root mean squares, and better than maxima or the decision's own layer, which was
taught to tell defects and nothing else (docs/training.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection.bundle import NoveltySpec
from inspection.errors import DatasetError
from inspection.types import Image
from training.network import SegmentAndDecide, Stages
from training.streaming import StreamNetwork

QUANTILE = 0.99
MOST = 1000
"""Training pictures that are looked at, taken evenly: five times as many as our network of 16 channels has features."""
BATCH = 8
Item = TypeVar("Item")


class Novelty(nn.Module):
    """Stages of a picture -> (N,), from 0 up. `mean` (D,), `whiten` (D, D): features minus mean, times this, have
    unit spread."""

    mean: Tensor
    whiten: Tensor

    def __init__(self, mean: NDArray[np.float64], whiten: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("whiten", torch.from_numpy(whiten.astype(np.float32)))

    def forward(self, stages: Stages) -> Tensor:
        return self.of(features(stages))

    def of(self, seen: Tensor) -> Tensor:
        """Features (N, D) -> (N,)."""
        apart = (seen - self.mean) @ self.whiten
        far: Tensor = torch.linalg.vector_norm(apart, dim=1) / math.sqrt(len(self.mean))
        return far


def features(stages: Stages) -> Tensor:
    """(N, D): the mean of every channel."""
    return torch.cat([stage.mean((2, 3)) for stage in stages], 1)


def evenly(samples: Sequence[Item]) -> list[Item]:
    """At most MOST of them, spread over all."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, MOST).astype(int))
    return [samples[k] for k in chosen]


def evenly_of_clips(clips: Sequence[Sequence[Item]]) -> list[Sequence[Item]]:
    """Whole clips, as a network with a memory sees them: every so-many-th, for about MOST frames."""
    return list(clips[:: max(1, round(sum(map(len, clips)) / MOST))])


def learn(network: SegmentAndDecide, runs: Iterable[Iterable[Image]]) -> Novelty:
    """The distance to these training pictures (H, W, 3) at the input's size, at least two. `runs`: the frames of each
    follow one another, for a network with a memory; to another one it makes no difference."""
    return fitted(np.concatenate([features(stages).double().numpy() for stages in _seen(network, runs)]))


def distances(network: SegmentAndDecide, novelty: Novelty, runs: Iterable[Iterable[Image]]) -> list[float]:
    """Of each picture (H, W, 3) at the input's size."""
    found: list[float] = []
    for stages in _seen(network, runs):
        found += novelty(stages).tolist()
    return found


@torch.no_grad()
def _seen(network: SegmentAndDecide, runs: Iterable[Iterable[Image]]) -> Iterator[Stages]:
    """A few pictures at a time: all of them would not fit into memory."""
    if not isinstance(network, StreamNetwork):
        waiting = chain.from_iterable(runs)
        while batch := list(islice(waiting, BATCH)):
            yield network.stages(network.see(torch.from_numpy(np.stack(batch))))
        return
    for run in runs:
        past: list[Tensor] | None = None
        for image in run:
            past = past or network.nothing(image.shape[1], image.shape[0])
            stages, past = network.look(torch.from_numpy(image[None]), past)
            yield stages


def fitted(known: NDArray[np.float64]) -> Novelty:
    """From features (N, D). Channels have scales of their own: each is brought to its own spread before the shrinking,
    which would take the largest for the truth."""
    from sklearn.covariance import ledoit_wolf

    if len(known) < 2:
        raise DatasetError("novelty", f"has {len(known)} training pictures to compare with", "import more")
    mean, spread = known.mean(0), known.std(0)
    # A channel that never changed says nothing of how much it may: as strange as the least of the others.
    spread = np.where(spread > 0, spread, spread[spread > 0].min(initial=1.0))
    covariance, _ = ledoit_wolf((known - mean) / spread, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(np.maximum(values, values.max() * 1e-9)) / spread[:, None]
    return Novelty(mean, whiten)


def spec_for(held_out: Sequence[float], fitted_on: int) -> NoveltySpec:
    """The threshold that QUANTILE of the validation pictures stay under; with fewer than 100, their largest."""
    place = math.ceil(QUANTILE * len(held_out)) - 1
    threshold = float(np.sort(np.asarray(held_out))[place])
    return NoveltySpec(
        threshold=round(max(threshold, 1e-3), 4), quantile=QUANTILE, fitted_on=fitted_on, held_out=len(held_out)
    )
