"""Reads pictures with a mask each, wherever below one folder the masks lie.

train/1.png             train/1_GT.png                  beside its picture, by the ending of its name
part-7/1.jpg            part-7/1_label.bmp              likewise; such a folder is a part
crack/Imgs/1.jpg        crack/Imgs/1.png                beside a JPEG, of the same name
Class1/Train/1.png      Class1/Train/Label/1_label.png  in a folder called after what it holds
test/ko/1.png           ground_truth/ko/1.png           likewise
test/ko/1.png           ground_truth/ko/1/0.png, 1.png  a mask for each of its defects, as in 1_mask1.png, 1_mask2.png

Folders mean nothing but `good` and its like, and what --rename says: `--rename ko=crack`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from inspection.errors import DatasetError
from training.dataset.beneath import Beneath
from training.dataset.item import JPEG_SUFFIXES, SPLIT_NAMES, Item, Names, Target, good_item
from training.dataset.pairs import GOOD_MASK, masked_item

ENDINGS = ("_gt", "_mask", "_label", "_seg")
"""Of a mask's name behind its picture's, in any case."""
FOLDERS = re.compile(r"((train|val|test)_)?(gt|ground_?truth|lab|labels?|masks?)(_images)?", re.IGNORECASE)
NUMBERED = re.compile(r"(.+)_mask\d+", re.IGNORECASE)
"""One of several masks of a picture."""
PNG = ".png"
SOURCE = "masks-beside"


def is_masks_beside(folder: Path, _names: Names) -> bool:
    return bool(_masks(Beneath(folder)))


def masks_classes(folder: Path, names: Names) -> tuple[str, ...]:
    """What --rename calls the folders that hold pictures; where it says nothing of any, they show one class."""
    beneath = Beneath(folder)
    said = {name for image in beneath.pictures for name in beneath.way(image) if names.renames(name)}
    return names.classes(sorted(said), folder) or ("defect",)


def import_masks(folder: Path, target: Target) -> Iterator[Item]:
    """A good picture has a mask of zeros, or lies in a folder called good. A folder of pictures and masks that has a
    number in its name, and is no part of a split nor what --rename names, is a part: its pictures are one group."""
    beneath = Beneath(folder)
    found = _masks(beneath)
    beneath.leave_out(found)
    masks_of: dict[Path, list[Path]] = {}
    for mask in found:
        image = beneath.picture_of(mask, stem=_stem_of(mask, beneath))
        if not _in_folder_of_masks(mask, beneath) and image.parent != mask.parent:
            raise DatasetError(mask, f"has no picture called {image.stem} beside it", "bring it, or remove this")
        others = masks_of.setdefault(image, [])
        if others and not all(_is_one_of_several(m, beneath) for m in (*others, mask)):
            raise DatasetError(mask, f"is a second mask of {image}, beside {others[0]}", "keep the one that counts")
        others.append(mask)
    named = any(_classes_of(image, target, beneath) for image in beneath.pictures)
    beside = {mask.parent for mask in found if _ends_as_one(mask) and not _in_folder_of_masks(mask, beneath)}
    parts = {folder for folder in beside if len(beside) > 1 and _is_part(folder.name, target.names)}
    for image in beneath.pictures:
        said, good = _classes_of(image, target, beneath), beneath.lies_with_good(image, target.names)
        if named and not said and not good:
            where = "/".join(beneath.way(image)) or "no folder"
            raise DatasetError(image, f"lies in {where}, which --rename does not name", "say what it holds too")
        group = "/".join(beneath.way(image)) if image.parent in parts else beneath.group_of(image)
        split = beneath.split_of(image)
        if masks := masks_of.get(image):
            item = masked_item(image, masks, said, target, group, SOURCE, split, in_folder=True)
            if good and item.mask is not None and item.mask.any():
                raise DatasetError(image, f"lies with the good ones, and {masks[0]} shows a defect", "mend either")
            yield item
        elif good or target.unlabelled_good:
            yield good_item(image, group, SOURCE, split)
        else:
            fix = f"{GOOD_MASK}, or lies in good/ or where --rename FOLDER=good says; move away what nobody judged"
            raise DatasetError(image, "has no mask that is called after it", fix)


def _classes_of(image: Path, target: Target, beneath: Beneath) -> tuple[str, ...]:
    """What --rename says of the folders it lies in."""
    names = (name for name in beneath.way(image) if target.names.renames(name))
    return tuple(dict.fromkeys(cls for name in names if (cls := target.called(name, image))))


def _masks(beneath: Beneath) -> list[Path]:
    jpegs = {p.with_suffix("") for p in beneath.pictures if p.suffix.lower() in JPEG_SUFFIXES}
    return [
        p
        for p in beneath.pictures
        if _ends_as_one(p)
        or _in_folder_of_masks(p, beneath)
        or (p.suffix.lower() == PNG and p.with_suffix("") in jpegs)
    ]


def _is_part(folder: str, names: Names) -> bool:
    return any(c.isdigit() for c in folder) and not (
        folder.lower() in SPLIT_NAMES or names.renames(folder) or names.good(folder)
    )


def _ends_as_one(file: Path) -> bool:
    return file.stem.lower().endswith(ENDINGS) or NUMBERED.fullmatch(file.stem) is not None


def _in_folder_of_masks(file: Path, beneath: Beneath) -> bool:
    return any(FOLDERS.fullmatch(name) for name in beneath.way(file))


def _is_one_of_several(mask: Path, beneath: Beneath) -> bool:
    return NUMBERED.fullmatch(mask.stem) is not None or _in_folder_of_its_picture(mask, beneath)


def _in_folder_of_its_picture(mask: Path, beneath: Beneath) -> bool:
    """Whether a folder of its picture's name holds it, in a folder of masks."""
    *above, folder = beneath.way(mask) or ("",)
    return folder not in beneath.folders and any(FOLDERS.fullmatch(name) for name in above)


def _stem_of(mask: Path, beneath: Beneath) -> str:
    """What its picture is called."""
    if _in_folder_of_its_picture(mask, beneath):
        return mask.parent.name
    return mask.stem.rpartition("_")[0] if _ends_as_one(mask) else mask.stem
