"""Where a model is good and where it is not: by size of the defect, and by what is known of a picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inspection.types import Call
from training import metrics
from training.judging import JudgedPicture

PARTS = 3
LEAST = 8
"""Fewer pictures make no slice: a rate of so few says nothing."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Defective and good pictures of one kind and what the guard said. `recall` at 1 % false calls of the whole set
    for a size; `image_ap` for other kinds. NaN where it is not defined."""

    name: str
    defective: int
    caught: int
    missed: int
    unsure: int
    good: int
    false_stops: int
    recall: float
    image_ap: float


def by_size(pictures: Sequence[JudgedPicture], k: int) -> Iterator[Slice]:
    """Defective pictures of class `k` in PARTS parts of equal number by their longest region, each beside all good
    pictures: in mm those whose scale is known, in px where none is."""
    bad = sorted((p for p in pictures if p.target[k] and p.region_mm[k] > 0), key=lambda p: float(p.region_mm[k]))
    good = [p for p in pictures if not p.target[k]]
    scaled = [p for p in bad if p.sample.px_per_mm]
    bad, unit = (scaled, "mm") if scaled else (bad, "px")
    if len(bad) < LEAST:
        return
    for part in np.array_split(np.arange(len(bad)), PARTS):
        some = [bad[n] for n in part]
        name = f"{_length(some[0].region_mm[k])} to {_length(some[-1].region_mm[k])} {unit}"
        yield _slice(name, some, good, k)


def _length(value: float) -> str:
    """Two significant digits, all of them before the point."""
    return f"{value:.0f}" if value >= 9.5 else f"{value:.2g}"


def by_kind(pictures: Sequence[JudgedPicture]) -> Iterator[Slice]:
    """Pictures by source, by who labelled them, by size and by scale, where they differ in it."""
    kinds: dict[str, Callable[[JudgedPicture], str]] = {
        "source": lambda p: p.sample.source.partition("#")[0].partition(":")[0],
        "labelled by": lambda p: "+".join(p.sample.labelled_by),
        "picture": lambda p: f"{p.sample.width_px}x{p.sample.height_px}",
        "px/mm": lambda p: f"{p.sample.px_per_mm:g}" if p.sample.px_per_mm else "",
    }
    for kind, value in kinds.items():
        sizes = Counter(value(p) for p in pictures)
        named = [v for v, n in sizes.most_common() if v and n >= LEAST]
        if len(sizes) > 1:
            for v in named[:6]:
                some = [p for p in pictures if value(p) == v]
                bad, good = [p for p in some if p.target.any()], [p for p in some if not p.target.any()]
                yield _slice(f"{kind} {v}", bad, good, None)


def _slice(name: str, bad: Sequence[JudgedPicture], good: Sequence[JudgedPicture], k: int | None) -> Slice:
    """`k` None: any class, by the highest score."""

    def said(some: Sequence[JudgedPicture], call: Call) -> int:
        return sum(p.verdict is call for p in some)

    def score(p: JudgedPicture) -> float:
        return float(p.scores.max() if k is None else p.scores[k])

    scores = np.array([score(p) for p in (*bad, *good)])
    labels = np.arange(len(scores)) < len(bad)
    return Slice(
        name=name,
        defective=len(bad),
        caught=said(bad, Call.DEFECT),
        missed=said(bad, Call.PASS),
        unsure=said(bad, Call.UNCERTAIN),
        good=len(good),
        false_stops=said(good, Call.DEFECT),
        recall=metrics.recall_at_false_calls(scores, labels) if len(scores) else math.nan,
        image_ap=metrics.average_precision(scores, labels),
    )
