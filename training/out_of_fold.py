"""Predictions of models that never saw the picture: K trainings, each without one fold of the groups.

Frames of one part look alike, so a fold is made of whole groups: a model that saw a part's other frame would repeat
the very label that is in question. No line waits for these models, so each looks at a picture from four sides: of
planted errors on magnet tiles the first tenth of the list held 85 % instead of 79.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inspection.errors import DatasetError
from inspection.samples import Sample
from inspection.suspects import SuspectLine
from training.checkpoint import Ask
from training.dataset.snapshot import BOXES_SUFFIX, Snapshot, dealt
from training.examples import load
from training.fit import fit
from training.label_errors import Floats, image_errors, mask_quality
from training.trained import predict, trained
from training.views import MOST

WORST_MASKS = 0.10
"""Of the outlines, the share that is listed: unlike a picture's label, an outline is never simply wrong or right."""
Report = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class Predictions:
    """In the order of `samples`: `chance` (N, C); `maps` (N, C, h, w) and `masks` (N, h, w) at the heat map's stride;
    `outlined` (N,): whether the sample has a painted outline."""

    samples: tuple[Sample, ...]
    chance: Floats
    maps: Floats
    masks: NDArray[np.uint8]
    outlined: NDArray[np.bool_]


def folds_of(samples: Sequence[Sample], count: int) -> NDArray[np.intp]:
    """(N,) the fold of each sample: groups are dealt out in turn, class by class, so that each fold has of each."""
    of_group: dict[str, set[str]] = {}
    for s in samples:
        of_group.setdefault(s.group, set()).update(s.labels)
    if len(of_group) < count:
        raise DatasetError("--folds", f"{count} folds of {len(of_group)} groups", "ask for fewer folds")
    kinds: dict[str, list[str]] = {}
    for group, labels in of_group.items():
        kinds.setdefault("+".join(sorted(labels)), []).append(group)
    dealt = [g for kind in sorted(kinds) for g in sorted(kinds[kind], key=_digest)]
    fold = {group: n % count for n, group in enumerate(dealt)}
    return np.array([fold[s.group] for s in samples])


def out_of_fold(snapshot: Snapshot, work: Path, ask: Ask, folds: int, report: Report = lambda *_: None) -> Predictions:
    """Train `folds` models in `work` and let each judge what it did not see. A run that was stopped goes on."""
    samples, fold = snapshot.samples, folds_of(snapshot.samples, folds)
    parts = []
    for k in range(folds):
        run = work / f"fold-{k}"
        # With an id of its own: a run of other folds, which may have seen what it is to judge, does not go on.
        config = fit(dealt(snapshot, ["test" if f == k else "train" for f in fold]), run, ask, report)
        _, network = trained(run)
        held = [s for s, f in zip(samples, fold, strict=True) if f == k]
        examples = [load(snapshot.folder, s, config.input, config.label_book) for s in held]
        scores, maps = predict(network, [e.image for e in examples], views=MOST)
        masks = [_cells(e.mask, maps.shape[2:]) for e in examples]
        parts.append((torch.sigmoid(scores).numpy(), maps.numpy(), np.stack(masks)))
    back = np.argsort(np.concatenate([np.flatnonzero(fold == k) for k in range(folds)]))
    chance, heat, cells = (np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True))
    outlined = np.array([s.mask is not None and not s.mask.endswith(BOXES_SUFFIX) for s in samples])
    return Predictions(samples, chance.astype(np.float64), heat.astype(np.float64), cells, outlined)


def suspects(found: Predictions, classes: tuple[str, ...], snapshot_id: str) -> list[SuspectLine]:
    """Labels and outlines in doubt, the worst first."""
    present = np.array([[c in s.labels for c in classes] for s in found.samples])
    errors = image_errors(present, found.chance)
    lines = [
        _line(found.samples[n], classes[k], "image", snapshot_id, found.chance[n, k], errors.quality[n, k])
        for n, k in np.argwhere(errors.suspected)
    ]
    # Only where label and model agree that there is something: else the label itself is what is in question.
    places = np.flatnonzero(found.outlined & found.masks.any((1, 2)) & ~errors.suspected.any(1))
    if len(places):
        quality = mask_quality(found.masks[places], found.maps[places])
        for n in np.argsort(quality, kind="stable")[: max(1, round(WORST_MASKS * len(places)))]:
            at = places[n]
            k = int(np.bincount(found.masks[at].ravel(), minlength=len(classes) + 1)[1:].argmax())
            lines.append(_line(found.samples[at], classes[k], "mask", snapshot_id, found.chance[at, k], quality[n]))
    return sorted(lines, key=lambda line: (line.quality, line.source))


def _line(sample: Sample, cls: str, kind: str, snapshot_id: str, chance: float, quality: float) -> SuspectLine:
    return SuspectLine.model_validate(
        {
            "source": sample.source, "image": sample.image, "cls": cls, "kind": kind, "labels": sample.labels,
            "label_book": sample.label_book or "", "snapshot": snapshot_id, "p": round(float(chance), 4),
            "quality": round(float(quality), 6),
        }
    )  # fmt: skip


def _cells(mask: NDArray[np.uint8] | None, size: Sequence[int]) -> NDArray[np.uint8]:
    """(H, W) -> `size`, the heat map's: a cell is of the class that covers most of it, where any does."""
    height, width = int(size[0]), int(size[1])
    if mask is None:
        return np.zeros((height, width), np.uint8)
    cells = np.zeros((height, width), np.uint8)
    cover = np.zeros((height, width), np.float32)
    for k in np.unique(mask[mask > 0]):
        share = cv2.resize((mask == k).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        more = share > np.maximum(cover, 0.25)
        cells[more], cover[more] = k, share[more]
    return cells


def _digest(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
