"""Items of one or more sources -> one snapshot: checked, split by group, written whole or not at all."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import cv2

from inspection.errors import DatasetError
from inspection.samples import Sample, Split
from inspection.types import Image
from training.dataset import rule
from training.dataset.clip_source import place_of
from training.dataset.item import Item, Mask, Target, check_mask, decode
from training.dataset.leaks import Leaks, look, tied
from training.dataset.snapshot import (
    BOXES_SUFFIX,
    SAMPLES,
    SNAPSHOT_FILE,
    LeakNote,
    SnapshotManifest,
    check_groups,
    count,
    read_snapshot,
    snapshot_id,
)
from training.dataset.whole import whole

SEEDS_TRIED = 200


@dataclass(frozen=True, slots=True)
class Shares:
    """What part of the groups goes to validation and to test; `seed` deals them out differently."""

    val: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise DatasetError("--val and --test", f"are {self.val} and {self.test}", "their sum must be below 1")

    def of(self, group: str) -> Split:
        """A hash rather than a shuffle: pictures added later never move a group across the split."""
        digest = hashlib.sha256(f"{self.seed}:{group}".encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        return "test" if place < self.test else "val" if place < self.test + self.val else "train"


def uneven(samples: Sequence[Sample], shares: Shares) -> str:
    """In words, when groups of unequal size gave validation or test less than half or more than twice of the pictures
    asked for, with the seed that comes nearest; empty when they did not, or when the split came with the pictures."""
    sizes = Counter(s.group for s in samples)
    if any(s.split != shares.of(s.group) for s in samples):
        return ""

    def got(dealt: Shares) -> dict[str, float]:
        found = dict.fromkeys(("val", "test"), 0.0)
        for group, size in sizes.items():
            if (split := dealt.of(group)) != "train":
                found[split] += size / len(samples)
        return found

    asked, now = {"val": shares.val, "test": shares.test}, got(shares)
    if all(share == 0 or share / 2 <= now[split] <= 2 * share for split, share in asked.items()):
        return ""
    tried = {seed: got(replace(shares, seed=seed)) for seed in range(SEEDS_TRIED)}

    def off(seed: int) -> tuple[bool, float]:
        """Worst of all is a part with nothing in it: of three pictures 0 % are nearer to 15 % than a third is."""
        dealt = tried[seed]
        empty = any(share and not dealt[split] for split, share in asked.items())
        return empty, max(abs(dealt[split] - share) for split, share in asked.items())

    best = min(tried, key=off)
    largest, size = sizes.most_common(1)[0]
    cause = f"groups differ in size, {largest!r} has {size} of {len(samples)} pictures"
    if size == 1:
        cause = f"with {len(samples)} pictures chance decides"
    better = f"--seed {best} gives {tried[best]['val']:.0%} and {tried[best]['test']:.0%}"
    if off(best)[0]:
        better = "no seed tried gives both some: import more"
    return (
        f"validation got {now['val']:.0%} and test {now['test']:.0%} of the pictures, asked were {shares.val:.0%} and "
        f"{shares.test:.0%}: {cause}. {better}"
    )


class Looking(Enum):
    """What is done about pictures of one scene in several groups: their groups become one (a split that came with the
    pictures and crosses them is refused); all stays as it is and the snapshot says so; nobody looks.

    Groups that hold the very same picture become one without looking, unless all is to stay as it is."""

    JOIN = "join"
    FORCE = "force"
    SKIP = "skip"


def build(
    items: Iterable[Item],
    out: Path,
    target: Target,
    shares: Shares,
    sources: tuple[str, ...],
    looking: Looking = Looking.JOIN,
) -> SnapshotManifest:
    """Write a snapshot of `items` to `out`, which must not exist. Raises DatasetError and leaves nothing behind."""
    with whole(
        out, DatasetError(out, "exists already, and a snapshot never changes", "choose another name")
    ) as partial:
        for name in ("images", "masks"):
            (partial / name).mkdir()
        entries = _Entries(partial, target)
        for item in items:
            entries.add(item)
        if not entries.samples:
            raise DatasetError(", ".join(sources), "holds no picture", "check the path and --format")
        samples = entries.samples
        if looking is not Looking.FORCE:
            samples = _with_groups(samples, tied([s.group for s in samples], entries.ties), entries.where)
        found = None if looking is Looking.SKIP else look(partial, samples, within_groups=False)
        if found and looking is Looking.JOIN:
            samples = _with_groups(samples, found.proposed, entries.where)
        samples = _with_splits(samples, entries.where, shares, as_they_come=looking is Looking.FORCE)
        note = _note(found, entries.samples, samples, forced=looking is Looking.FORCE) if found else None
        manifest = _write_manifest(partial, samples, target, shares.seed, sources, entries.duplicates, note)
        read_snapshot(partial)
    return manifest


class _Entries:
    """Samples as they are checked and stored one by one; `where` names each image's source in errors, `ties` are pairs
    of groups that hold the same picture."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder, self.target = folder, target
        self.samples: list[Sample] = []
        self.where: dict[str, str] = {}
        self.duplicates = 0
        self.ties: list[tuple[str, str]] = []
        self._by_pixels: dict[str, int] = {}

    def add(self, item: Item) -> None:
        # Before the rule is applied: it measures in mm, and labels by another scale than the stored one would not hold.
        item = replace(item, px_per_mm=item.px_per_mm or self.target.px_per_mm)
        image = decode(item.data, item.where)
        if item.mask is not None:
            check_mask(item.mask, image, len(self.target.classes), item.where)
        labels = self._labels(item)
        # Hashed by pixels: the same picture saved twice, as PNG and as PNG with other compression, is still one.
        pixels = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        if (place := self._by_pixels.get(pixels)) is not None:
            twin = self.samples[place]
            self._check_twin(item, labels, twin)
            self.samples[place] = self._with_twin(twin, item, labels)
            if (image != image[0, 0]).any():  # one colour all over is no scene: crops of many parts may be that
                self.ties.append((twin.group, item.group))
            self.duplicates += 1
            return
        sample = self._store(item, labels, image)
        self._by_pixels[pixels] = len(self.samples)
        self.where[sample.image] = item.where
        self.samples.append(sample)

    def _labels(self, item: Item) -> tuple[str, ...]:
        """The item's labels in class order. Labels made under another version of the book follow from the mask."""
        stale = item.label_book not in (None, self.target.book.id)
        if item.labels is None or (stale and item.mask is not None and item.px_per_mm):
            if item.mask is None:
                raise DatasetError(item.where, "has neither labels nor a mask", "label it, or leave it out")
            return rule.labels_under(self.target.book, item.mask, item.px_per_mm)
        if stale:
            raise DatasetError(
                item.where,
                f"was labelled under {item.label_book}, the snapshot's rules are {self.target.book.id}",
                "label it again, or give it a mask and --px-per-mm so that the rule can be applied",
            )
        # Mapped, never filtered: a label that got lost here would make a defect a good picture.
        mapped = {self.target.class_of(cls, item.where) for cls in item.labels}
        labels = tuple(cls for cls in self.target.classes if cls in mapped)
        for cls in labels:
            if item.mask is not None and not (item.mask == self.target.class_id(cls, item.where)).any():
                raise DatasetError(item.where, f"is labelled {cls}, but its mask shows none", "mend label or mask")
        return labels

    def _check_twin(self, item: Item, labels: tuple[str, ...], twin: Sample) -> None:
        if labels != twin.labels:
            raise DatasetError(
                item.where,
                f"is the same picture as {self.where[twin.image]}, labelled {_said(labels)} here and "
                f"{_said(twin.labels)} there",
                "settle the label, then import again",
            )
        if item.split and twin.split and item.split != twin.split:
            raise DatasetError(
                item.where,
                f"is the same picture as {self.where[twin.image]}, for {item.split} here and for {twin.split} there",
                "leave one of them out, or deal the groups out anew with --resplit",
            )
        outline = None if item.mask_is_boxes else item.mask
        if labels and outline is not None and _is_outline(twin.mask) and _encoded(outline)[1] != twin.mask_sha256:
            raise DatasetError(
                item.where,
                f"is the same picture as {self.where[twin.image]}, and its defect is outlined otherwise there",
                "leave one of them out",
            )

    def _with_twin(self, twin: Sample, item: Item, labels: tuple[str, ...]) -> Sample:
        """The sample that stays, with what only the other one knows: for what it is, its scale, where its defect is."""
        if item.split and not twin.split:
            self.where[twin.image] += f" (also {item.where})"  # an error about the split must lead to who said it
        known: dict[str, Any] = {"split": twin.split or item.split, "px_per_mm": twin.px_per_mm or item.px_per_mm}
        if twin.mask is None and item.mask is not None:
            known["mask"], known["mask_sha256"] = self._store_mask(item.mask, item.mask_is_boxes)
            known["annotations"] = tuple(a for a in item.annotations if a.cls in labels) or twin.annotations
        return twin.model_copy(update=known)

    def _store(self, item: Item, labels: tuple[str, ...], image: Image) -> Sample:
        digest = hashlib.sha256(item.data).hexdigest()
        name = f"images/{digest}{item.suffix.lower()}"
        (self.folder / name).write_bytes(item.data)
        mask_name, mask_digest = self._store_mask(item.mask, item.mask_is_boxes)
        return Sample(
            image=name,
            image_sha256=digest,
            width_px=image.shape[1],
            height_px=image.shape[0],
            mask=mask_name,
            mask_sha256=mask_digest,
            px_per_mm=item.px_per_mm,
            labels=labels,
            annotations=tuple(a for a in item.annotations if a.cls in labels),
            group=item.group,
            split=item.split,
            label_book=self.target.book.id,
            labelled_by=item.labelled_by,
            soft_labels=self._soft_labels(item, labels),
            source=item.source,
            part=item.part,
            model=item.model,
        )

    def _soft_labels(self, item: Item, labels: tuple[str, ...]) -> dict[str, float] | None:
        """The item's, while they answer what its labels answer: labels that follow from a mask under newer rules do
        not, nor do those of several classes that are merged into one."""
        known = set(item.soft_labels or ()) <= set(self.target.classes)
        return item.soft_labels if known and set(labels) == set(item.labels or ()) else None

    def _store_mask(self, mask: Mask | None, is_boxes: bool) -> tuple[str | None, str | None]:
        if mask is None:
            return None, None
        data, digest = _encoded(mask)
        name = f"masks/{digest}{BOXES_SUFFIX if is_boxes else '.png'}"
        (self.folder / name).write_bytes(data)
        return name, digest


def _encoded(mask: Mask) -> tuple[bytes, str]:
    """The mask as PNG, and the hash of that."""
    data = cv2.imencode(".png", mask)[1].tobytes()
    return data, hashlib.sha256(data).hexdigest()


def _is_outline(mask: str | None) -> bool:
    return mask is not None and not mask.endswith(BOXES_SUFFIX)


def _with_groups(samples: list[Sample], groups: Sequence[str], where: dict[str, str]) -> list[Sample]:
    """Every sample in its group of `groups`. DatasetError where the splits they came with lie across one."""
    came_with: dict[str, Sample] = {}
    for s, group in zip(samples, groups, strict=True):
        first = came_with.setdefault(group, s) if s.split else None
        if first is not None and first.split != s.split and first.group != s.group:
            raise DatasetError(
                where[s.image],
                f"is for {s.split} and shows the same scene as {where[first.image]}, which is for {first.split}",
                "deal the groups out anew with --resplit, or keep this with --force-split: the snapshot will say so",
            )
    return [s.model_copy(update={"group": group}) for s, group in zip(samples, groups, strict=True)]


def _note(found: Leaks, given: list[Sample], samples: list[Sample], *, forced: bool) -> LeakNote:
    """`given`: the samples in the groups they came in."""
    split = {s.image: s.split for s in samples}
    of = [split[s.image] for s in found.samples]
    return LeakNote(
        pairs=len(found.across),
        joined=len({s.group for s in given}) - len({s.group for s in samples}),
        crossing=sum(of[p.a] != of[p.b] for p in found.across),
        forced=forced,
    )


def _with_splits(samples: list[Sample], where: dict[str, str], shares: Shares, *, as_they_come: bool) -> list[Sample]:
    """Every sample with its split: the one it came with, else its group's, else dealt out by the group's hash.

    What the sources keep nothing for is taken out of their train, by the same hash: most public sets come for train and
    test, and limits are chosen on val. `as_they_come`: it is not, for who forces a split gets that one.
    """
    given: dict[str, Sample] = {}
    for s in samples:
        first = given.setdefault(s.group, s) if s.split else None
        if first is not None and first.split != s.split:
            raise DatasetError(
                where[s.image],
                f"group {s.group!r} is in {s.split} here and in {first.split} in {where[first.image]}",
                "give all pictures of one part the same split, or none and let the import choose",
            )
    came = {s.split for s in given.values()}

    def split_of(group: str) -> Split:
        dealt, said = shares.of(group), given[group].split if group in given else None
        return said if said and (as_they_come or said != "train" or dealt in came) else dealt

    split = {s.group: split_of(s.group) for s in samples}
    done = [s.model_copy(update={"split": split[s.group]}) for s in samples]
    check_groups(done, SAMPLES)
    return sorted(done, key=lambda s: s.image)


def _write_manifest(
    folder: Path,
    samples: list[Sample],
    target: Target,
    seed: int,
    sources: tuple[str, ...],
    duplicates: int,
    leaks: LeakNote | None,
) -> SnapshotManifest:
    data = "".join(s.model_dump_json() + "\n" for s in samples).encode()
    (folder / SAMPLES).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    manifest = SnapshotManifest(
        id=snapshot_id(target.task, target.book, digest),
        created_utc=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        task=target.task,
        classes=target.classes,
        label_book=target.book,
        counts=count(samples, target.classes),
        sources=sources,
        made_by=tuple(sorted({_kind(s.source) for s in samples})),
        duplicates_dropped=duplicates,
        leaks=leaks,
        seed=seed,
        samples_sha256=digest,
    )
    (folder / SNAPSHOT_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _kind(source: str) -> str:
    """`rendered:seed=7` -> `rendered:`, also of a drawn clip's frame; a source that says nothing is unknown."""
    place = place_of(source)
    if place and re.fullmatch(r"rendered-\d+", place.clip):
        return "rendered:"
    head, colon, _ = source.partition(":")
    return (head.partition("#")[0] + colon) or "unknown"


def _said(labels: tuple[str, ...]) -> str:
    return "+".join(labels) or "good"
