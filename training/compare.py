"""Is the new model better? Two models on the same pictures: a paired bootstrap over groups, negative flips, must-catch.

Promote when the lower 95 % bound of the image AP difference is at least -0.005, at most 0.5 % of the pictures flip from
right to wrong, and no picture that must be caught is newly missed. Pairing takes out what both find hard: the interval
of the difference is far narrower than the difference of two intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspection.errors import ConfigError, DatasetError
from inspection.escape import beta_cdf
from inspection.types import Call
from training.dataset.item import read_text
from training.dataset.snapshot import Snapshot
from training.judging import JudgedPicture
from training.metrics import average_precision, group_draws

LEAST_AP_GAIN = -0.005
MOST_FLIPS = 0.005


@dataclass(frozen=True, slots=True)
class ClassChange:
    """Image AP of both; `gain` new less old; `low` and `high` are its 95 % bounds, one-sided
    each, by a paired bootstrap over groups."""

    cls: str
    old_ap: float
    new_ap: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`negative_flips`: pictures the old model called rightly and the new one wrongly; `positive_flips` the other way.

    `p_value`: exact two-sided McNemar test of the flips. `newly_missed`: must-catch pictures that the new model passes
    and the old one did not. `reasons`: why it is not promoted; empty when it is.
    """

    old: str
    new: str
    pictures: int
    groups: int
    classes: tuple[ClassChange, ...]
    negative_flips: int
    positive_flips: int
    p_value: float
    must_catch: int
    newly_missed: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def promote(self) -> bool:
        return not self.reasons


def compare(
    names: tuple[str, str],
    old: Sequence[JudgedPicture],
    new: Sequence[JudgedPicture],
    classes: Sequence[str],
    must_catch: frozenset[str] | None = None,
) -> Comparison:
    """Old and new model, judged on the same pictures in the same order. `must_catch` names pictures by their image or
    group; None: every defective picture."""
    if [p.sample.image for p in old] != [p.sample.image for p in new]:
        raise ConfigError("--against", "was judged on other pictures", "judge both on one split of one snapshot")
    changes = tuple(_change(k, cls, old, new) for k, cls in enumerate(classes))
    worse = [_right(a) and not _right(b) for a, b in zip(old, new, strict=True)]
    better = [_right(b) and not _right(a) for a, b in zip(old, new, strict=True)]
    wanted = [bool(p.target.any()) and _named(p, must_catch) for p in old]
    missed = tuple(
        b.sample.image
        for a, b, must in zip(old, new, wanted, strict=True)
        if must and b.verdict is Call.PASS and a.verdict is not Call.PASS
    )
    made = Comparison(
        old=names[0],
        new=names[1],
        pictures=len(old),
        groups=len({p.sample.group for p in old}),
        classes=changes,
        negative_flips=sum(worse),
        positive_flips=sum(better),
        p_value=mcnemar(sum(worse), sum(better)),
        must_catch=sum(wanted),
        newly_missed=missed,
        reasons=(),
    )
    return replace(made, reasons=tuple(_reasons(made)))


def _reasons(c: Comparison) -> list[str]:
    reasons = [
        f"image AP of {x.cls} may have fallen by {-x.low:.4f} (lower 95 % bound; at most {-LEAST_AP_GAIN:g})"
        for x in c.classes
        if x.low < LEAST_AP_GAIN
    ]
    if c.negative_flips > MOST_FLIPS * c.pictures:
        share = c.negative_flips / c.pictures
        reasons.append(f"{c.negative_flips} right calls became wrong ({share:.2%}, at most {MOST_FLIPS:.2%})")
    if c.newly_missed:
        reasons.append(f"{len(c.newly_missed)} of {c.must_catch} pictures that must be caught are newly passed")
    unknown = [x.cls for x in c.classes if not (math.isfinite(x.gain) and math.isfinite(x.low))]
    if unknown:
        reasons.append(f"{', '.join(unknown)}: not both defective and good pictures, so nothing is known of it")
    return reasons


def _change(k: int, cls: str, old: Sequence[JudgedPicture], new: Sequence[JudgedPicture]) -> ClassChange:
    labels = np.array([p.target[k] for p in old])
    a, b = (np.array([p.scores[k] for p in some]) for some in (old, new))

    def gain(rows: NDArray[np.int64]) -> float:
        return average_precision(b[rows], labels[rows]) - average_precision(a[rows], labels[rows])

    drawn = group_draws(gain, [p.sample.group for p in old], rounds=1000)
    low, high = (float(v) for v in np.percentile(drawn, [5, 95])) if len(drawn) else (math.nan, math.nan)
    every = np.arange(len(labels))
    return ClassChange(cls, average_precision(a, labels), average_precision(b, labels), gain(every), low, high)


def _right(p: JudgedPicture) -> bool:
    """Unsure is right for neither kind: somebody has to look."""
    return p.verdict is (Call.DEFECT if p.target.any() else Call.PASS)


def _named(p: JudgedPicture, wanted: frozenset[str] | None) -> bool:
    return wanted is None or bool(wanted & {p.sample.image, Path(p.sample.image).name, p.sample.group})


def mcnemar(worse: int, better: int) -> float:
    """Exact two-sided test that flips go both ways alike (Q. McNemar, 1947): binomial with one half."""
    n, k = worse + better, max(worse, better)
    return 1.0 if n == 0 or worse == better else min(1.0, 2 * beta_cdf(0.5, k, n - k + 1))


def read_must_catch(path: Path, data: Snapshot, split: str) -> frozenset[str]:
    """One image or group a line; # begins a remark. A name that is nowhere in `data` would guard nothing."""
    lines = enumerate((line.partition("#")[0].strip() for line in read_text(path).splitlines()), 1)
    names = {name: line for line, name in lines if name}
    if not names:
        raise DatasetError(path, "names no picture", "write one image or group a line")
    known = {name for s in data.samples for name in (s.image, Path(s.image).name, s.group)}
    for name, line in names.items():
        if name not in known:
            raise DatasetError(
                f"{path}:{line}",
                f"names {name!r}, which {data.folder} does not hold",
                "write an image as in its samples.jsonl, or a group",
            )
    judged = {name for s in data.split(split) for name in (s.image, Path(s.image).name, s.group)}
    if not judged & set(names):
        raise DatasetError(path, f"names no picture of the {split} split", "name one, or judge on another --split")
    return frozenset(names)
