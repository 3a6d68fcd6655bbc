"""What changed between two snapshots, picture by picture. `haltline dataset diff A B`.

A picture is the same when its bytes are. Where the part, the split, the labels or the mask of a picture differ, that is
named, and whatever else its sample says; the overlap of two masks is their intersection over their union, of each class
and of the worst class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inspection.errors import DatasetError
from inspection.samples import Sample
from training.dataset.item import Mask, decode_mask, read_bytes
from training.dataset.snapshot import BOXES_SUFFIX, Snapshot

NAMED_APART = {"image", "image_sha256", "mask", "mask_sha256", "labels", "split", "group", "label_book"}
"""Fields of a sample that have a list of their own in a `Diff`; the others share one."""


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


@dataclass(frozen=True, slots=True)
class Other:
    """One picture of which something else differs: field -> (before, after), as samples.jsonl writes it."""

    image: str
    changes: dict[str, tuple[Any, Any]]


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
    other: list[Other] = field(default_factory=list)
    same: int = 0

    @property
    def changes(self) -> int:
        """How many lines there are about pictures that are in both."""
        kinds = (self.relabelled, self.moved, self.regrouped, self.redrawn, self.rules, self.other)
        return sum(len(kind) for kind in kinds)

    @property
    def changed(self) -> bool:
        return bool(self.added or self.removed or self.changes)


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
    size = found.changes
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
    if changes := _other(before, after):
        found.other.append(Other(after.image, changes))
    return found.changes > size


def _other(before: Sample, after: Sample) -> dict[str, tuple[Any, Any]]:
    old, new = (s.model_dump(mode="json") for s in (before, after))
    # An empty part or model is not dumped, see `Sample`.
    changes = {k: (old.get(k), new.get(k)) for k in dict.fromkeys((*old, *new)) if k not in NAMED_APART}
    if _alike(before, after):
        del changes["annotations"]
    # An empty mask says that it was looked at all over, none that nobody said where.
    changes["mask"] = (_kind(before), _kind(after))
    return {k: (a, b) for k, (a, b) in changes.items() if a != b}


def _alike(before: Sample, after: Sample) -> bool:
    """Whether the annotations are the same; boxes that went through shares of the picture come back rounded."""
    old, new = ([(x.cls, x.length_mm, x.box_px is None) for x in s.annotations] for s in (before, after))
    boxes = zip(before.annotations, after.annotations, strict=False)
    return old == new and all(np.allclose(x.box_px or (), y.box_px or (), rtol=0, atol=0.01) for x, y in boxes)


def _kind(sample: Sample) -> str:
    if sample.mask is None:
        return "none"
    return "boxes" if sample.mask.endswith(BOXES_SUFFIX) else "outlines"


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
