"""Reads pictures by the folder they lie in, and pictures with a mask of their name beside each.

good/a.png  crack/b.png                          a folder for each class, perhaps below train/, val/, test/
train/1.png  train/1_GT.png                      a mask beside each picture
part-7/1.jpg  part-7/1_label.bmp                 likewise; a folder is a part
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inspection.errors import DatasetError
from training.dataset.beneath import Beneath
from training.dataset.item import SPLIT_NAMES, Item, Names, Target, read_bytes
from training.dataset.pairs import masked_item, said_labels

MASK_ENDINGS = ("_gt", "_mask", "_label", "_seg")
"""Of a mask's name behind its picture's, in any case."""


# ── a folder for each class ─────────────────────────────────────────────────────────────────────────────────────


def is_class_folders(folder: Path) -> bool:
    """Whether one of the folders is called good; whoever has none says so with --format."""
    return any(Names().good(p.parent.name) for p in Beneath(folder).pictures)


def folder_classes(folder: Path, names: Names) -> tuple[str, ...]:
    kinds = {p.parent.name for p in Beneath(folder).pictures}
    return names.classes(sorted({label for kind in kinds for label in said_labels(kind, names)}), folder)


def import_folders(folder: Path, target: Target) -> Iterator[Item]:
    """The folder a picture lies in says what it shows, `pore+crack` both, and nothing says where."""
    beneath = Beneath(folder)
    for image in beneath.pictures:
        kind = image.parent
        if kind.name.lower() in SPLIT_NAMES:
            raise DatasetError(image, f"lies in {kind.name}/ itself", "lay it into the folder of its class there")
        said = [target.called(label, kind) for label in said_labels(kind.name, target.names)]
        yield Item(
            where=str(image),
            data=read_bytes(image),
            suffix=image.suffix,
            group=beneath.group_of(image),
            labels=tuple(dict.fromkeys(cls for cls in said if cls)),
            split=beneath.split_of(image),
            source="folders",
        )


# ── a mask beside each picture ──────────────────────────────────────────────────────────────────────────────────


def is_masks_beside(folder: Path) -> bool:
    return any(_is_mask(p) for p in Beneath(folder).pictures)


def import_beside(folder: Path, target: Target) -> Iterator[Item]:
    """A good picture has a mask of zeros. A folder that is no part of a split is a part: its pictures are one group."""
    beneath = Beneath(folder)
    masks = {_of(p): p for p in beneath.pictures if _is_mask(p)}
    for image in (p for p in beneath.pictures if not _is_mask(p)):
        if (mask := masks.pop(image.with_suffix(""), None)) is None:
            endings = ", ".join(image.stem + e for e in MASK_ENDINGS)
            raise DatasetError(image, f"has no mask beside it: {endings}", "a good picture has a mask of zeros")
        inside, split = image.parent.relative_to(folder), beneath.split_of(image)
        own = [name for name in inside.parts if name.lower() not in SPLIT_NAMES]
        group = inside.as_posix() if own else beneath.group_of(image)
        yield masked_item(image, mask, (), target, group=group, source="masks-beside", split=split)
    if masks:
        raise DatasetError(next(iter(masks.values())), "is a mask without a picture", "bring the picture, or remove it")


def _is_mask(path: Path) -> bool:
    return path.stem.lower().endswith(MASK_ENDINGS)


def _of(mask: Path) -> Path:
    return mask.with_name(mask.stem.rpartition("_")[0])
