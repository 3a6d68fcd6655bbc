"""No leak: pictures of one scene on both sides of a split make any model look better than it is.

`look` finds such pictures by their pixels alone and proposes groups. `claims` says what a split that ignores them would
have claimed, measured with a stand-in that costs seconds: a picture is called what its most alike training picture is.
It is a proxy and no model of ours; what it gains by a leak, a network gains too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.samples import Sample
from training.dataset.alike import Grey, Pair, alike, joined, thumbnails
from training.dataset.item import decode, read_bytes
from training.dataset.snapshot import Snapshot
from training.metrics import average_precision

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Leaks:
    """What was found among the samples of a snapshot. `proposed` is one group name per sample.

    `across`: pairs whose two pictures the given groups keep apart. `crossing`: pairs that lie in two splits.
    """

    samples: tuple[Sample, ...]
    pairs: tuple[Pair, ...]
    proposed: tuple[str, ...]

    @property
    def across(self) -> list[Pair]:
        return [p for p in self.pairs if self.samples[p.a].group != self.samples[p.b].group]

    @property
    def crossing(self) -> list[Pair]:
        return [p for p in self.pairs if self.samples[p.a].split != self.samples[p.b].split]

    @property
    def bursts(self) -> int:
        """Proposed groups of two pictures or more."""
        return sum(size > 1 for size in Counter(self.proposed).values())

    def spoilt(self) -> tuple[int, int]:
        """(test pictures that show what a training picture shows, test pictures)."""
        trained = {g for g, s in zip(self.proposed, self.samples, strict=True) if s.split == "train"}
        test = [g for g, s in zip(self.proposed, self.samples, strict=True) if s.split == "test"]
        return sum(g in trained for g in test), len(test)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Found groups against given ones, by pairs of pictures. `precision` of the found, `recall` of the given pairs;
    `exact` of the `given` groups were found with exactly their pictures."""

    precision: float
    recall: float
    exact: int
    given: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Image AP of the nearest-neighbour proxy for one class, in FOLDS folds pooled, by how the folds were drawn."""

    cls: str
    defective: int
    by_picture: float
    by_given_group: float
    by_proposed_group: float


def look(folder: Path, samples: Sequence[Sample], *, within_groups: bool = True) -> Leaks:
    """Look for pictures of one scene among `samples`, by pixels alone; without `within_groups` only across groups."""
    groups = [s.group for s in samples]
    pairs = alike(len(samples), reader(folder, samples), None if within_groups else groups)
    links = [(p.a, p.b) for p in pairs]
    if not within_groups:
        links += given_links(groups)
    roots = joined(len(samples), links)
    return Leaks(tuple(samples), tuple(pairs), tuple(_names(roots, groups)))


def reader(folder: Path, samples: Sequence[Sample]) -> Callable[[int], Grey]:
    def picture(k: int) -> Grey:
        path = folder / samples[k].image
        return np.asarray(cv2.cvtColor(decode(read_bytes(path), path), cv2.COLOR_BGR2GRAY), np.uint8)

    return picture


def given_links(groups: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs that chain each given group together."""
    first: dict[str, int] = {}
    return [(first.setdefault(group, k), k) for k, group in enumerate(groups)]


def tied(groups: Sequence[str], ties: Sequence[tuple[str, str]]) -> list[str]:
    """The groups' names when those of a tie are one: all are called after the first of them in the alphabet."""
    names = sorted({*groups, *(name for tie in ties for name in tie)})
    place = {name: k for k, name in enumerate(names)}
    roots = joined(len(names), [(place[a], place[b]) for a, b in ties])
    return [names[roots[place[group]]] for group in groups]


def _names(roots: Sequence[int], groups: Sequence[str]) -> list[str]:
    """A proposed group is called after the first of its given ones in the alphabet, and not after the commonest: splits
    are dealt by name, and one more picture of a scene must not move it. Where two would have one name, a number is
    added."""
    first: dict[int, str] = {}
    for root, group in zip(roots, groups, strict=True):
        first[root] = min(first.get(root, group), group)
    names: dict[int, str] = {}
    taken: Counter[str] = Counter()
    for root, name in first.items():
        taken[name] += 1
        names[root] = name if taken[name] == 1 else f"{name}~{taken[name]}"
    return [names[root] for root in roots]


def agreement(proposed: Sequence[str], given: Sequence[str]) -> Agreement:
    def pairs(sizes: Counter[str] | Counter[tuple[str, str]]) -> int:
        return sum(n * (n - 1) // 2 for n in sizes.values())

    both = Counter(zip(proposed, given, strict=True))
    found, wanted, common = pairs(Counter(proposed)), pairs(Counter(given)), pairs(both)
    exact = sum(n == Counter(proposed)[p] == Counter(given)[g] for (p, g), n in both.items())
    return Agreement(common / found if found else 1.0, common / wanted if wanted else 1.0, exact, len(set(given)))


def claims(snapshot: Snapshot, leaks: Leaks, seed: int = 0) -> list[Claim]:
    """What the proxy claims per class when folds are drawn by picture, by the given and by the proposed groups."""
    near = nearness(snapshot.folder, leaks.samples)
    singles = [str(k) for k in range(len(leaks.samples))]
    given = [s.group for s in leaks.samples]
    done = []
    for cls in snapshot.manifest.classes:
        labels = np.array([cls in s.labels for s in leaks.samples])
        if 0 < labels.sum() < len(labels):
            ap = [proxy_ap(near, labels, groups, seed) for groups in (singles, given, leaks.proposed)]
            done.append(Claim(cls, int(labels.sum()), *ap))
    return done


def nearness(folder: Path, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """(N, N) likeness of thumbnails, moved by up to 2 px."""
    return thumbnails(len(samples), reader(folder, samples))


def proxy_ap(near: NDArray[np.float32], labels: NDArray[np.bool_], groups: Sequence[str], seed: int = 0) -> float:
    """Image AP of the nearest-neighbour proxy, FOLDS folds by `groups`, pooled.

    A picture's score is how alike its nearest defective training picture is, less how alike its nearest other one is.
    """
    names, of_row = np.unique(np.asarray(groups), return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[of_row] % FOLDS
    scores = np.zeros(len(labels))
    for k in range(FOLDS):
        test, bad, good = fold == k, (fold != k) & labels, (fold != k) & ~labels
        if test.any() and bad.any() and good.any():
            scores[test] = near[np.ix_(test, bad)].max(1) - near[np.ix_(test, good)].max(1)
    return average_precision(scores, labels)
