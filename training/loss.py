"""What the network is trained to make small. Logits in, one number out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def segmentation(logits: Tensor, maps: Tensor, weights: Tensor) -> Tensor:
    """Focal (gamma 1) plus dice over (N, C, h, w). Cells of weight 0 count for nothing.

    Focal is divided by the defect cells, not by all cells: a frame holds 20,000 cells and a small pore is four of them.
    """
    p = torch.sigmoid(logits)
    miss = torch.where(maps > 0, 1 - p, p)
    focal = weights * miss * F.binary_cross_entropy_with_logits(logits, maps, reduction="none")
    known = (weights > 0).float()
    shown = maps * known
    per_defect = focal.sum() / (shown.sum() + 0.002 * known.sum() + 1)
    return per_defect + _dice(p * known, shown)


def presence(logits: Tensor, target: Tensor, unplaced: Tensor) -> Tensor:
    """Where a class is in the picture and nobody said where: its hottest cells must say so, as far as the label does.

    Multiple-instance learning (Maron, Lozano-Perez 1998) on the mean of the hottest thousandth of the cells, at least
    four: a single hottest cell learns one point of every defect. `logits` (N, C, h, w), `target`, `unplaced` (N, C).
    """
    cells = logits.flatten(2)
    hottest = cells.topk(max(4, cells.shape[2] // 1000), dim=2).values.mean(2)
    each = F.binary_cross_entropy_with_logits(hottest, target, reduction="none") * unplaced
    return each.sum() / (unplaced.sum() + 1e-6)


def boxes(logits: Tensor, maps: Tensor, boxed: Tensor) -> Tensor:
    """A box is touched on all four sides: dice of the map's shadows on both axes with the boxes' (BoxInst: Tian et al.
    2021). `logits`, `maps` (N, C, h, w), `boxed` (N, C).
    """
    p = torch.sigmoid(logits) * boxed[..., None, None]
    wanted = maps * boxed[..., None, None]
    dice = torch.zeros_like(boxed)
    for axis in (2, 3):
        a, b = p.amax(axis), wanted.amax(axis)
        dice = dice + 1 - (2 * (a * b).sum(2) + 1) / ((a * a).sum(2) + (b * b).sum(2) + 1)
    return (dice * boxed).sum() / (2 * boxed.sum() + 1e-6)


def _dice(p: Tensor, maps: Tensor) -> Tensor:
    """1 - 2|A n B| / (|A| + |B|) averaged over the (picture, class) pairs that hold a defect (Milletari et al.
    2016).
    """
    inside, both = (p * maps).sum((2, 3)), p.sum((2, 3)) + maps.sum((2, 3))
    dice = 1 - (2 * inside + 1) / (both + 1)
    holds = (maps.amax((2, 3)) > 0).float()
    return (dice * holds).sum() / (holds.sum() + 1e-6)


def decision(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target)


def shares(progress: float) -> tuple[float, float]:
    """Weights of segmentation and decision at `progress` 0..1: first learn where, then learn what counts."""
    return 1.0 - 0.7 * progress, 0.2 + 0.8 * progress
