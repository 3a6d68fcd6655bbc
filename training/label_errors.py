"""Which labels are probably wrong: confident learning on predictions of models that never saw the picture.

C. Northcutt, L. Jiang, I. Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, by
cleanlab: t_j is the mean predicted probability of class j over what is labelled j; a picture labelled i that the model
gives class j with t_j or more counts in C_ij. Off the diagonal, C says how many labels are wrong ("prune by noise
rate": the counted ones alone miss every third); so many are suspected, those the model believes least. The paper takes
the widest margins of each cell of C by itself: on magnet tiles those held 117 of 161 planted errors, these hold 133
(docs/blind-labels.md). Each class of defect is a question of its own here (is it there or not), because a picture may
show several.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEWEST = 5
"""Fewer pictures with, or without, a class carry no threshold: its labels are not judged."""


@dataclass(frozen=True, slots=True)
class ImageErrors:
    """(N, C): `quality` of each label, 0 surely wrong to 1 surely right, and whether it is suspected. NaN and False for
    classes that too few pictures have."""

    quality: Floats
    suspected: Bools


def image_errors(present: Bools, chance: Floats) -> ImageErrors:
    """`present` (N, C): what the labels say. `chance` (N, C): out-of-fold probabilities."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    quality, suspected = np.full(present.shape, np.nan), np.zeros(present.shape, bool)
    for k in range(present.shape[1]):
        labels = present[:, k].astype(int)
        if min(labels.sum(), len(labels) - labels.sum()) < FEWEST:
            continue
        probabilities = np.stack([1 - chance[:, k], chance[:, k]], 1)
        quality[:, k] = get_label_quality_scores(labels, probabilities, method="self_confidence")
        wrong = int(find_label_issues(labels, probabilities, filter_by="prune_by_noise_rate", n_jobs=1).sum())
        suspected[np.argsort(quality[:, k], kind="stable")[:wrong], k] = True
    return ImageErrors(quality, suspected)


def mask_quality(masks: NDArray[np.uint8], chance: Floats) -> Floats:
    """(N,) quality of each outline, 0 wrong to 1 right: the soft minimum over its cells (V. Lad, J. Mueller 2023,
    "Estimating label quality and errors in semantic segmentation data via any model").

    `masks` (N, h, w): 0 sound, k the k-th class. `chance` (N, C, h, w): out-of-fold probabilities of each class.
    """
    from cleanlab.segmentation.rank import get_label_quality_scores

    sound = np.prod(1 - chance, axis=1, keepdims=True)
    odds = np.concatenate([sound, chance], axis=1)
    odds = odds / odds.sum(1, keepdims=True)
    scores, _ = get_label_quality_scores(masks.astype(int), odds, n_jobs=1, verbose=False)
    return np.asarray(scores, np.float64)


def share_found(order: NDArray[np.intp], planted: Bools, top: float) -> float:
    """Of the planted errors, the share among the first `top` of the ranking."""
    first = order[: round(top * len(order))]
    return float(planted[first].sum() / max(1, planted.sum()))
