"""Two ways to train on the same pictures, judged in the same folds: what `kfold` wrote, and what a second one gained.

Groups differ more than ways do: by its fold alone the image AP of one recipe was 0.52 to 0.93. So the second deals its
groups as the first did, and both are drawn in pairs. All classes count as one: ways may differ in what they call them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from inspection.errors import DatasetError
from inspection.samples import Sample
from inspection.types import Call
from training.checkpoint import write_atomically
from training.compare import mcnemar
from training.dataset.crops import parent_of
from training.dataset.item import read_text
from training.judging import SEVERITY, JudgedPicture
from training.metrics import Bools, Floats, average_precision, group_interval, recall_at_false_calls

FILE = "out-of-fold.jsonl"


class Scored(BaseModel):
    """A line of the file: one picture or crop and what the model said that saw nothing of its group. `picture`: the
    beginning of the SHA-256 of the picture, of a crop's whole one; `fold` from 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    picture: str
    group: str
    fold: int
    labels: tuple[str, ...]
    scores: dict[str, float]
    verdict: Call


@dataclass(frozen=True, slots=True)
class Gain:
    """New less old, with the 95 % interval of a bootstrap over groups in pairs."""

    old: float
    new: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.old:.3f} -> {self.new:.3f}, {self.new - self.old:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True, slots=True)
class PairedFolds:
    """Over whole pictures that both judged, all classes as one. `became_right` and `became_wrong` count calls, of which
    a person's is neither; `p_value`: McNemar's exact test that these come alike. `only_one`: pictures left out."""

    pictures: int
    groups: int
    only_one: int
    image_ap: Gain
    recall_at_1pc: Gain
    became_right: int
    became_wrong: int
    p_value: float


def picture_of(sample: Sample) -> str:
    """The same for one picture in whichever snapshot it lies, cut or whole."""
    return parent_of(sample.source).rpartition("#")[2] or sample.image_sha256[:16]


def scored(pictures: Iterable[tuple[int, JudgedPicture]], classes: Sequence[str]) -> list[Scored]:
    """`pictures`: each with its fold from 1."""
    return [
        Scored(
            image=p.sample.image,
            picture=picture_of(p.sample),
            group=p.sample.group,
            fold=fold,
            labels=p.sample.labels,
            scores={c: round(float(s), 6) for c, s in zip(classes, p.scores, strict=True)},
            verdict=p.verdict,
        )
        for fold, p in pictures
    ]


def write(folder: Path, lines: Iterable[Scored]) -> None:
    write_atomically(folder / FILE, "".join(f"{line.model_dump_json()}\n" for line in lines).encode())


def read(folder: Path) -> list[Scored]:
    path, lines = folder / FILE, []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            lines.append(Scored.model_validate_json(line))
        except ValidationError as e:
            wrong = e.errors()[0]
            raise DatasetError(
                f"{path}:{number}",
                f"is no line of a kfold: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}",
                "run that kfold again, which takes its finished runs as they are",
            ) from None
    return lines


def folds_of(judged: Sequence[Scored], k: int, samples: Iterable[Sample], folder: Path) -> dict[str, int]:
    """Of each group that shows a picture judged there, the fold, from 0; DatasetError where it lies in several."""
    if (had := max((s.fold for s in judged), default=0)) != k:
        raise DatasetError(folder / FILE, f"has {had} folds, not {k}", f"give -k {had}")
    fold = {s.picture: s.fold - 1 for s in judged}
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for sample in samples:
        if (at := fold.get(picture_of(sample))) is not None:
            found[sample.group].setdefault(at, sample.image)
    if not found:
        raise DatasetError(folder / FILE, "shows no picture of this snapshot", "name a kfold of the same pictures")
    for group, shown in found.items():
        if len(shown) > 1:
            raise DatasetError(
                folder / FILE,
                f"has pictures of one group, {group}, in several folds: {', '.join(shown.values())}",
                "import both snapshots with the same groups",
            )
    return {group: next(iter(shown)) for group, shown in found.items()}


def compare(old: Iterable[Scored], new: Iterable[Scored]) -> PairedFolds:
    """What is a defect and which group a picture is of is as the new one has it."""
    before, after = _whole(old), _whole(new)
    both = sorted(before.keys() & after.keys())
    a, b = [before[name] for name in both], [after[name] for name in both]
    groups, bad = [p.group for p in b], np.array([p.defective for p in b])
    wanted = [Call.DEFECT if p.defective else Call.PASS for p in b]
    was, is_now = (np.array([p.verdict is w for p, w in zip(some, wanted, strict=True)]) for some in (a, b))
    first, second = (np.array([p.score for p in some]) for some in (a, b))

    def gain(figure: Callable[[Floats, Bools], float]) -> Gain:
        def difference(rows: NDArray[np.int64]) -> float:
            return figure(second[rows], bad[rows]) - figure(first[rows], bad[rows])

        return Gain(figure(first, bad), figure(second, bad), *group_interval(difference, groups, rounds=1000))

    worse, better = int((was & ~is_now).sum()), int((~was & is_now).sum())
    return PairedFolds(
        pictures=len(both),
        groups=len(set(groups)),
        only_one=len(before.keys() ^ after.keys()),
        image_ap=gain(average_precision),
        recall_at_1pc=gain(recall_at_false_calls),
        became_right=better,
        became_wrong=worse,
        p_value=mcnemar(worse, better),
    )


@dataclass(frozen=True, slots=True)
class _Whole:
    group: str
    defective: bool
    score: float
    verdict: Call


def _whole(lines: Iterable[Scored]) -> dict[str, _Whole]:
    """Crops of one picture as one, as `judging.whole_pictures` has it."""
    of: dict[str, list[Scored]] = defaultdict(list)
    for line in lines:
        of[line.picture].append(line)
    return {
        name: _Whole(
            parts[0].group,
            any(p.labels for p in parts),
            max(max(p.scores.values()) for p in parts),
            max((p.verdict for p in parts), key=SEVERITY.index),
        )
        for name, parts in of.items()
    }
