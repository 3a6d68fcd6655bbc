"""What a bundle does on pictures it never saw: what it catches, misses, stops for nothing and is unsure of."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspection.errors import DatasetError
from inspection.label_book import LabelBook
from inspection.types import Call
from training import metrics
from training.checkpoint import write_atomically
from training.dataset.snapshot import Snapshot
from training.judging import JudgedPicture, judge_pictures, whole_pictures
from training.served import Served
from training.slices import Slice, by_kind, by_size

ANY = "any of them"
"""The row of several classes taken as one: what a line stops for, whatever it is called."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % interval over groups; NaN, and said as a dash, where nothing is known."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        return f"{self.value:.3f}" if math.isnan(self.low) else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class ClassFigures:
    cls: str
    defective: int
    good: int
    image_ap: Figure
    auroc: Figure
    recall_at_1pc: Figure
    pixel_ap: float
    length_error_mm: float
    length_bias_mm: float
    lengths: int
    pro: float = math.nan
    calibration_error: float = math.nan
    calibration_by_chance: float = math.nan
    by_size: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """`caught`, `missed`, `unsure` are defective pictures by verdict; `false_stops` and `good_unsure` are good ones.
    `miss_rate_below`, `stop_rate_below`: with 95 % confidence, of parts (groups) any of whose pictures went wrong.

    `augrc`: what being unsure is worth, `metrics.augrc` of the highest score. `slices`: pictures by kind. `any_class`:
    all classes as one, by the highest score; None where there is but one. `whole`: where pictures are crops, of those
    they were cut from, which is what passes the camera.
    """

    bundle: str
    snapshot: str
    split: str
    classes: tuple[ClassFigures, ...]
    pictures: int
    groups: int
    defective: int
    caught: int
    missed: int
    unsure: int
    good: int
    false_stops: int
    good_unsure: int
    uncertain_share: float
    ms_p50: float
    ms_p99: float
    miss_rate_below: float = 1.0
    stop_rate_below: float = 1.0
    stream: dict[str, float] = field(default_factory=dict)
    augrc: float = math.nan
    slices: tuple[Slice, ...] = ()
    any_class: ClassFigures | None = None
    whole: Figures | None = None

    @property
    def rows(self) -> tuple[ClassFigures, ...]:
        """What a table of classes shows."""
        return self.classes if self.any_class is None else (*self.classes, self.any_class)

    def false_stops_per_hour(self, parts_per_hour: float) -> float:
        """Good parts stopped in an hour, where so many parts pass the camera and nearly all are good."""
        return parts_per_hour * self.false_stops / self.good if self.good else math.nan

    def write(self, path: Path) -> None:
        text = json.dumps(_finite(asdict(self)), indent=2)
        write_atomically(path, (text + "\n").encode())


def evaluate(served: Served, snapshot: Snapshot, split: str = "test") -> tuple[Figures, list[JudgedPicture]]:
    samples, book = snapshot.split(split), snapshot.manifest.label_book
    if not samples:
        raise DatasetError(snapshot.folder, f"has no {split} pictures", "import with a larger --val or --test")
    if served.manifest.classes != snapshot.manifest.classes:
        raise DatasetError(
            snapshot.folder,
            f"has the classes {list(snapshot.manifest.classes)}, {served.manifest.id} {list(served.manifest.classes)}",
            "evaluate on a snapshot of the model's own task",
        )
    pictures = list(judge_pictures(served, snapshot.folder, samples, book))
    return figures_of(served.manifest.id, snapshot.manifest.id, split, pictures, book), pictures


def figures_of(bundle: str, snapshot: str, split: str, pictures: Sequence[JudgedPicture], book: LabelBook) -> Figures:
    found = _figures_of(bundle, snapshot, split, pictures, book)
    if len(whole := whole_pictures(pictures)) == len(pictures):
        return found
    return replace(found, whole=_figures_of(f"{bundle}, whole pictures", snapshot, split, whole, book))


def _figures_of(bundle: str, snapshot: str, split: str, pictures: Sequence[JudgedPicture], book: LabelBook) -> Figures:
    bad = [p for p in pictures if p.target.any()]
    good = [p for p in pictures if not p.target.any()]
    ms = np.array([p.ms for p in pictures])

    def said(some: Sequence[JudgedPicture], call: Call) -> int:
        return sum(p.verdict is call for p in some)

    def below(some: Sequence[JudgedPicture], call: Call) -> float:
        parts = [p.sample.group for p in some]
        wrong = np.array([p.verdict is call for p in some], bool)
        return metrics.at_most(metrics.groups_with(wrong, parts), len(set(parts)))

    return Figures(
        bundle=bundle,
        snapshot=snapshot,
        split=split,
        classes=tuple(_class_figures(k, cls, pictures) for k, cls in enumerate(book.classes)),
        pictures=len(pictures),
        groups=len({p.sample.group for p in pictures}),
        defective=len(bad),
        caught=said(bad, Call.DEFECT),
        missed=said(bad, Call.PASS),
        unsure=said(bad, Call.UNCERTAIN),
        good=len(good),
        false_stops=said(good, Call.DEFECT),
        good_unsure=said(good, Call.UNCERTAIN),
        miss_rate_below=below(bad, Call.PASS),
        stop_rate_below=below(good, Call.DEFECT),
        uncertain_share=said(pictures, Call.UNCERTAIN) / len(pictures),
        ms_p50=float(np.percentile(ms, 50)),
        ms_p99=float(np.percentile(ms, 99)),
        augrc=_augrc(pictures),
        slices=tuple(by_kind(pictures)),
        any_class=_class_figures(0, ANY, [_as_one_class(p) for p in pictures]) if len(book.classes) > 1 else None,
    )


def _as_one_class(p: JudgedPicture) -> JudgedPicture:
    return replace(
        p,
        target=p.target.max(keepdims=True),
        scores=p.scores.max(keepdims=True),
        heat=p.heat.max(0, keepdims=True),
        cells=p.cells.max(0, keepdims=True) if p.cells is not None else None,
        region_mm=p.region_mm.max(keepdims=True),
        found_mm=p.found_mm.max(keepdims=True),
    )


def _augrc(pictures: Sequence[JudgedPicture]) -> float:
    """By the highest score of a picture against one half: how far from it is how sure, on which side is the call."""
    top = np.array([p.scores.max() for p in pictures])
    wrong = (top >= 0.5) != np.array([p.target.any() for p in pictures])
    return metrics.augrc(np.abs(top - 0.5), wrong)


def _class_figures(k: int, cls: str, pictures: Sequence[JudgedPicture]) -> ClassFigures:
    scores = np.array([p.scores[k] for p in pictures])
    labels = np.array([p.target[k] for p in pictures])
    groups = [p.sample.group for p in pictures]

    def over_groups(figure: Callable[[NDArray[np.float64], NDArray[np.bool_]], float]) -> Figure:
        def of_rows(rows: NDArray[np.int64]) -> float:
            return figure(scores[rows], labels[rows])

        return Figure(figure(scores, labels), *metrics.group_interval(of_rows, groups))

    outlined = [p for p in pictures if p.cells is not None]
    errors = np.array([p.found_mm[k] - p.region_mm[k] for p in outlined if p.target[k] and p.found_mm[k] > 0])
    heat, cells = [p.heat[k] for p in outlined], [p.cells[k] for p in outlined if p.cells is not None]
    return ClassFigures(
        cls=cls,
        defective=int(labels.sum()),
        good=int((~labels).sum()),
        image_ap=over_groups(metrics.average_precision),
        auroc=over_groups(metrics.auroc),
        recall_at_1pc=over_groups(metrics.recall_at_false_calls),
        pixel_ap=metrics.pixel_average_precision(heat, cells),
        pro=metrics.per_region_overlap(heat, cells),
        calibration_error=metrics.calibration_error(scores, labels),
        calibration_by_chance=float(metrics.calibration_by_chance(scores).mean()),
        by_size=tuple(by_size(pictures, k)),
        length_error_mm=float(np.abs(errors).mean()) if len(errors) else math.nan,
        length_bias_mm=float(errors.mean()) if len(errors) else math.nan,
        lengths=len(errors),
    )


def _finite(value: object) -> object:
    """NaN is no JSON: null says that there was nothing to measure."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
