"""Day one: good parts only. What is far from every good patch seen so far is anomalous.

    features of the backbone at strides 8 and 16 -> 3x3 mean -> half whitened, few dimensions -> distance to a memory

Patches and their nearest neighbour in a memory are PatchCore's (Roth et al. 2022). Whitening by the good patches'
covariance, which makes the distance Mahalanobis's (Rippel et al. 2021), lets a memory of a few hundred in a few dozen
dimensions do the work of tens of thousands in hundreds; done by half it leaves the directions in which good parts vary
most their say, and found more than whole or none (docs/training.md). The search is then one 1x1 convolution:
|x - m|^2 = |x|^2 - 2 x m + |m|^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from inspection.errors import DatasetError
from training.calibrate import Platt, fit_platt
from training.network import SegmentAndDecide

STRIDE = 8
DIMENSIONS = 64
PATCHES = 512  # in the memory
CANDIDATES = 40_000  # patches the memory is chosen from
NEIGHBOURS = 9  # patches that a point touches, since each is a 3x3 mean
LEAST_GOOD, LEAST_HELD_OUT = 8, 5
HI_RATE, LO_RATE = 0.01, 0.10
"""Of good parts: how many may be called a defect, and how many may be at least uncertain."""
SCORE_HI, SCORE_LO = 0.6, 0.3


class PatchMemory(nn.Module):
    """Squared distance of every patch to its nearest good one, (N, H / 8, W / 8), from pictures (N, H, W, 3) uint8."""

    def __init__(self, encoder: SegmentAndDecide, mean: Tensor, whiten: Tensor, memory: Tensor) -> None:
        """`mean` (F,), `whiten` (D, F), `memory` (M, D)."""
        super().__init__()
        self.encoder = encoder.eval()
        self.register_buffer("project", whiten[:, :, None, None])
        self.register_buffer("shift", -whiten @ mean)
        self.register_buffer("twice", -2 * memory[:, :, None, None])
        self.register_buffer("norms", (memory * memory).sum(1))

    def forward(self, image: Tensor) -> Tensor:
        x = F.conv2d(patches(self.encoder, image), self.get_buffer("project"), self.get_buffer("shift"))
        to_memory = F.conv2d(x, self.get_buffer("twice"), self.get_buffer("norms"))
        nearest = to_memory.amin(1) + (x * x).sum(1)
        return torch.clamp(nearest, min=0.0)


def patches(encoder: SegmentAndDecide, image: Tensor) -> Tensor:
    """(N, H, W, 3) -> (N, F, H / 8, W / 8): each patch with its neighbours, the coarser stride beside the finer."""
    found = encoder.stages(encoder.see(image))
    fine = F.avg_pool2d(found.s8, 3, 1, 1, count_include_pad=False)
    coarse = F.avg_pool2d(found.s16, 3, 1, 1, count_include_pad=False)
    coarse = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.cat([fine, coarse], 1)


class AnomalyGraph(nn.Module):
    """What is exported: the bundle's contract for one class. Score: the strangest patches; heat: every patch."""

    def __init__(self, memory: PatchMemory, calibration: Platt) -> None:
        super().__init__()
        self.memory, self.calibration = memory, calibration

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        squared = self.memory(image)
        heat = self.calibrated(logit(squared))[:, None]
        return self.calibrated(logit(strangest(squared)))[:, None], (heat * 255).round().to(torch.uint8)

    def calibrated(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits * self.calibration.scale + self.calibration.bias)


def strangest(squared: Tensor) -> Tensor:
    """Of squared distances (N, h, w): (N,) the mean of each picture's NEIGHBOURS largest. One alone may be noise."""
    cells = squared.flatten(1)
    return cells.topk(min(NEIGHBOURS, cells.shape[1]), dim=1).values.mean(1)


def logit(squared: Tensor) -> Tensor:
    """Distances of good patches are about log-normal: on this scale a limit means the same everywhere."""
    return 0.5 * torch.log(squared + 1e-6)


@torch.no_grad()
def learn(encoder: SegmentAndDecide, pictures: Sequence[NDArray[np.uint8]], seed: int = 0) -> PatchMemory:
    """The memory of good parts, `pictures` (H, W, 3) at the input's size. DatasetError when there are too few."""
    if len(pictures) < LEAST_GOOD:
        raise DatasetError(
            "good parts", f"{len(pictures)} pictures are too few", f"import {LEAST_GOOD} good ones for training or more"
        )
    rng = torch.Generator().manual_seed(seed)
    encoder.eval()
    each = max(1, CANDIDATES // len(pictures))
    rows = []
    for found in features(encoder, pictures):
        flat = found.flatten(2)
        chosen = torch.randperm(flat.shape[2], generator=rng)[:each]
        rows.append(flat[:, :, chosen].transpose(1, 2).reshape(-1, flat.shape[1]))
    candidates = torch.cat(rows).double()
    mean, whiten = whitening(candidates, DIMENSIONS)
    projected = ((candidates - mean) @ whiten.T).float()
    return PatchMemory(encoder, mean.float(), whiten.float(), coreset(projected, PATCHES, rng))


def whitening(rows: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """(mean (F,), map (D, F)) onto the `dimensions` strongest directions of `rows` (N, F), each divided by the square
    root of its deviation: half of a whitening.

    Directions are shrunk towards their mean variance by a hundredth: what hardly varies must not dominate.
    """
    mean = rows.mean(0)
    centred = rows - mean
    covariance = centred.T @ centred / max(1, len(rows) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    values = values + 0.01 * values.mean()
    keep = torch.argsort(values, descending=True)[:dimensions]
    return mean, (vectors[:, keep] / values[keep] ** 0.25).T


def coreset(rows: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """`count` of the rows (N, D), each the farthest from those before it (greedy k-centre, Sener, Savarese 2018)."""
    if len(rows) <= count:
        return rows
    chosen = [int(torch.randint(len(rows), (1,), generator=rng))]
    nearest = ((rows - rows[chosen[0]]) ** 2).sum(1)
    for _ in range(count - 1):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, ((rows - rows[chosen[-1]]) ** 2).sum(1))
    return rows[chosen]


@torch.no_grad()
def features(encoder: SegmentAndDecide, pictures: Sequence[NDArray[np.uint8]]) -> Iterator[Tensor]:
    for picture in pictures:
        yield patches(encoder, torch.from_numpy(picture[None]))


@torch.no_grad()
def how_strange(memory: PatchMemory, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """(N,) the logit of each picture's strangest patches."""
    found = [float(logit(strangest(memory(torch.from_numpy(p[None]))))) for p in pictures]
    return np.array(found, np.float64)


@dataclass(frozen=True, slots=True)
class Limits:
    """What held-out good parts say: the calibration, lo and hi, and the false-call rate that many can promise.

    `promised` is the expectation of a good part's rate above hi (split conformal: rank k of n leaves (n + 1 - k) /
    (n + 1)). `defects`: how many held-out defective pictures took part; 0 on day one.
    """

    calibration: Platt
    lo: float
    hi: float
    good: int
    defects: int
    promised: float


def limits(good: NDArray[np.float64], bad: NDArray[np.float64]) -> Limits:
    """From the logits of held-out good pictures, and of defective ones as soon as there are some."""
    if len(good) < LEAST_HELD_OUT:
        raise DatasetError(
            "good parts", f"{len(good)} held-out ones are too few for a limit", "import more, or raise --val"
        )
    ranked = np.sort(good)
    k = min(len(ranked), math.ceil((len(ranked) + 1) * (1 - HI_RATE)))
    z_hi, z_lo = float(ranked[k - 1]), float(np.quantile(ranked, 1 - LO_RATE))
    if len(bad):
        z = np.concatenate([good, bad])
        calibration = fit_platt(z, np.repeat([0.0, 1.0], [len(good), len(bad)]))
    else:
        # No defect has been seen: the score is no probability, and says so by where the good parts lie.
        spread = max(z_hi - z_lo, 0.02)
        scale = (math.log(SCORE_HI / (1 - SCORE_HI)) - math.log(SCORE_LO / (1 - SCORE_LO))) / spread
        calibration = Platt(scale, math.log(SCORE_HI / (1 - SCORE_HI)) - scale * z_hi)
    lo, hi = (float(calibration(np.array([z]))[0]) for z in (z_lo, z_hi))
    promised = (len(good) + 1 - k) / (len(good) + 1)
    return Limits(calibration, round(min(lo, hi), 4), round(hi, 4), len(good), len(bad), promised)
