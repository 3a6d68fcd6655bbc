"""Grouped K-fold: every picture is judged once, by a model that saw nothing of its group; figures from all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspection.errors import ConfigError, DatasetError
from inspection.samples import Sample, Split
from training import paired_folds
from training.checkpoint import Ask
from training.dataset.snapshot import Snapshot, dealt
from training.evaluate import Figures, figures_of
from training.fit import Report, fit
from training.judging import JudgedPicture
from training.outcome import Judge, judged
from training.paired_folds import PairedFolds
from training.views import check_views


@dataclass(frozen=True, slots=True)
class Pooled:
    """Figures over all pictures, each scored out of its fold, and those pictures. `gained`: against another one, where
    one was named."""

    figures: Figures
    pictures: list[JudgedPicture]
    gained: PairedFolds | None


def deal(
    samples: Sequence[Sample], classes: Sequence[str], k: int, seed: int = 0, known: Mapping[str, int] | None = None
) -> list[int]:
    """A fold per sample, groups whole, each fold with its share of every class as far as groups allow.

    Groups of `known` into the fold it says. Of the others those with most pictures first, each into the fold where it
    brings the counts nearest to even.
    """
    known = known or {}
    groups: dict[str, list[int]] = {}
    for n, s in enumerate(samples):
        groups.setdefault(s.group, []).append(n)
    if k < 3 or len(groups) < k:
        raise ConfigError("-k", f"is {k} for {len(groups)} groups", "from 3 on, and no more than there are groups")
    kinds = np.array([[not s.labels, *(c in s.labels for c in classes)] for s in samples], float)
    weight = 1 / np.maximum(kinds.sum(0), 1)
    names = list(np.random.default_rng(seed).permutation(sorted(groups)))
    names.sort(key=lambda g: (g not in known, -len(groups[g])))
    load, fold = np.zeros((k, kinds.shape[1])), [0] * len(samples)
    for name in names:
        adds = kinds[groups[name]].sum(0)
        cost = (((load + adds) * weight) ** 2).sum(1) - ((load * weight) ** 2).sum(1)
        best = known.get(name, int(np.argmin(cost)))
        load[best] += adds
        for n in groups[name]:
            fold[n] = best
    return fold


def fold_snapshot(snapshot: Snapshot, fold: Sequence[int], test: int, k: int) -> Snapshot:
    """The snapshot with fold `test` as its test split and the next one for validation."""
    split: dict[int, Split] = {test: "test", (test + 1) % k: "val"}
    return dealt(snapshot, [split.get(f, "train") for f in fold])


def kfold(
    snapshot: Snapshot,
    out: Path,
    ask: Ask,
    k: int,
    report: Callable[[int], Report] = lambda _: lambda *_: None,
    views: int = 1,
    against: Path | None = None,
) -> Pooled:
    """Train and judge `k` runs in out/fold-1 ... ; a run that is there goes on, or is judged as it is. `against`: the
    folder of another one, with whose folds this one is dealt and compared."""
    check_views(views, ask)
    manifest = snapshot.manifest
    other = paired_folds.read(against) if against else []
    known = paired_folds.folds_of(other, k, snapshot.samples, against) if against else {}
    fold = deal(snapshot.samples, manifest.classes, k, ask.seed, known)
    pictures: list[JudgedPicture] = []
    of_fold: list[int] = []
    for test in range(k):
        data = fold_snapshot(snapshot, fold, test, k)
        if not any(s.labels for s in data.split("train")):
            raise DatasetError(snapshot.folder, f"leaves fold {test + 1} no defect to learn", "use fewer folds")
        run = out / f"fold-{test + 1}"
        fit(data, run, ask, report(test))
        pictures += judged(Judge(run, data, views).of("test"))
        of_fold += [test + 1] * (len(pictures) - len(of_fold))
    name = f"{k}-fold" if views == 1 else f"{k}-fold, {views} views"
    figures = figures_of(name, manifest.id, "pooled", pictures, manifest.label_book)
    lines = paired_folds.scored(zip(of_fold, pictures, strict=True), manifest.classes)
    paired_folds.write(out, lines)
    gained = paired_folds.compare(other, lines) if against else None
    figures.write(out / "figures.json")
    return Pooled(figures, pictures, gained)
