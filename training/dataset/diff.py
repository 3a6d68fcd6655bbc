"""What changed between two snapshots, picture by picture. `haltline dataset diff A B`.

A picture is the same when its bytes are. Where the part, the split, the labels or the mask of a picture differ, that is
named; the overlap of two masks is their intersection over their union, of each class and of the worst class.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from inspection.errors import DatasetError
from inspection.samples import Sample
from training.dataset.item import Mask, decode_mask, read_bytes
from training.dataset.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Relabelled:
    """One picture whose classes differ. `rules`: label-book version before and after."""

    image: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    rules: tuple[str, str]
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Redrawn:
    """One picture whose mask differs: per class the intersection over union, 1 where it stayed, 0 where it is new."""

    image: str
    iou: dict[str, float]

    @property
    def worst(self) -> float:
        return min(self.iou.values(), default=0.0)


@dataclass(slots=True)
class Diff:
    """`moved`: (image, split before, split after). `rules`: pictures with equal labels under another version."""

    a: str
    b: str
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    relabelled: list[Relabelled] = field(default_factory=list)
    moved: list[tuple[str, str, str]] = field(default_factory=list)
    regrouped: list[tuple[str, str, str]] = field(default_factory=list)
    redrawn: list[Redrawn] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    same: int = 0

    @property
    def changed(self) -> bool:
        return bool(
            self.added or self.removed or self.relabelled or self.moved or self.regrouped or self.redrawn or self.rules
        )


def diff(a: Snapshot, b: Snapshot) -> Diff:
    """From `a` to `b`. DatasetError when they are of different tasks; their classes may differ."""
    if a.manifest.task != b.manifest.task:
        raise DatasetError(b.folder, f"is for {b.manifest.task}, {a.folder} for {a.manifest.task}", "compare one task")
    old, new = {s.image_sha256: s for s in a.samples}, {s.image_sha256: s for s in b.samples}
    found = Diff(a.manifest.id, b.manifest.id)
    found.added = sorted(new[k].image for k in new.keys() - old.keys())
    found.removed = sorted(old[k].image for k in old.keys() - new.keys())
    for key in sorted(old.keys() & new.keys()):
        found.same += not _compare(found, a, b, old[key], new[key])
    found.redrawn.sort(key=lambda r: (r.worst, r.image))
    return found


def _compare(found: Diff, a: Snapshot, b: Snapshot, before: Sample, after: Sample) -> bool:
    """Whether anything differs; what does is put down."""
    rules = (before.label_book or "", after.label_book or "")
    size = len(found.relabelled) + len(found.moved) + len(found.regrouped) + len(found.redrawn) + len(found.rules)
    if set(before.labels) != set(after.labels):
        found.relabelled.append(Relabelled(after.image, before.labels, after.labels, rules, after.labelled_by))
    elif rules[0] != rules[1]:
        found.rules.append(after.image)
    if before.split != after.split:
        found.moved.append((after.image, before.split or "", after.split or ""))
    if before.group != after.group:
        found.regrouped.append((after.image, before.group, after.group))
    if before.mask_sha256 != after.mask_sha256:
        iou = _iou(_mask(a, before), _mask(b, after), a.manifest.classes, b.manifest.classes)
        if iou:
            found.redrawn.append(Redrawn(after.image, iou))
    now = len(found.relabelled) + len(found.moved) + len(found.regrouped) + len(found.redrawn) + len(found.rules)
    return now > size


def _mask(snapshot: Snapshot, sample: Sample) -> Mask:
    if not sample.mask:
        return np.zeros((sample.height_px, sample.width_px), np.uint8)
    path = snapshot.folder / sample.mask
    return decode_mask(read_bytes(path), path)


def _iou(before: Mask, after: Mask, old: tuple[str, ...], new: tuple[str, ...]) -> dict[str, float]:
    """Of every class that either mask shows. Masks number their classes each in its own order."""
    found = {}
    for cls in dict.fromkeys((*old, *new)):
        one = before == old.index(cls) + 1 if cls in old else np.zeros(before.shape, bool)
        two = after == new.index(cls) + 1 if cls in new else np.zeros(after.shape, bool)
        if union := int((one | two).sum()):
            found[cls] = round(int((one & two).sum()) / union, 4)
    return found
