"""What an export of ours says beside another format's own words: read back into an item.

Only what the format cannot say is taken from there; where a defect is and what it is called comes from the format's own
fields, so that what somebody changed in the other program holds.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.errors import DatasetError
from inspection.exchange import KEY
from inspection.exchange_folders import mask_id
from inspection.label_book import LabelBook
from inspection.samples import Annotation, ClassName, Split
from training.dataset.item import Item, Mask, Target, read_bytes
from training.dataset.snapshot import first_error


class Beside(BaseModel):
    """The object under `haltline`. `no_defects`: of YOLO, the lines of boxes that were drawn and are no defect."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    px_per_mm: float | None = Field(default=None, gt=0)
    group: str | None = Field(default=None, min_length=1)
    split: Split | None = None
    label_book: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+@\d+$")
    labelled_by: tuple[str, ...] = ()
    soft_labels: dict[ClassName, float] | None = None
    source: str = ""
    part: str = ""
    model: str = ""
    painted: bool = True
    labels: tuple[ClassName, ...] | None = None
    no_defects: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    mask_id: str = ""


def read_beside(found: Any, where: object) -> Beside | None:
    """None where there is nothing of ours."""
    if found is None:
        return None
    try:
        return Beside.model_validate(found)
    except ValidationError as e:
        raise DatasetError(where, f"haltline: {first_error(e)}", "export it again, or remove the key") from e


def with_lineage(item: Item, known: Beside | None) -> Item:
    """The item with part, split, rules and people as they were exported."""
    if known is None:
        return item
    nowhere = not known.painted and not item.mask_is_boxes
    return replace(
        item,
        group=known.group or item.group,
        split=known.split,
        px_per_mm=known.px_per_mm,
        label_book=known.label_book,
        labelled_by=known.labelled_by,
        soft_labels=known.soft_labels,
        source=known.source or item.source,
        part=known.part,
        model=known.model,
        mask=None if nowhere else item.mask,
    )


def read_file_beside(folder: Path) -> dict[str, Any]:
    """`haltline.json` of a folder we exported: `label_book` and `pictures`, by stem; empty where there is none."""
    path = folder / f"{KEY}.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(read_bytes(path))
    except ValueError as e:
        raise DatasetError(path, f"is no JSON: {e}", "export it again, or remove it") from e
    return found if isinstance(found, dict) else {}


def book_of_folder(folder: Path) -> LabelBook | None:
    """The rules our own export carries; None for anybody else's."""
    return read_book_beside(read_file_beside(folder).get("label_book"), folder / f"{KEY}.json")


def with_folder_lineage(item: Item, own: Any, folder: Path, target: Target) -> Item:
    """An item of a folder with masks as it was exported; labels and lengths only while its mask is the one written.

    A good picture of MVTec's has no mask there: its labels hold.
    """
    file = folder / f"{KEY}.json"
    known = read_beside(own, file)
    if known is None:
        return item
    item = with_lineage(item, known)
    if known.labels is None:
        return item
    where = f"{file}: {Path(item.where).name}"
    labels = tuple(dict.fromkeys(target.class_of(cls, where) for cls in known.labels))
    if item.mask is not None and known.mask_id not in _ids(item.mask, labels, target):
        return item
    return replace(
        item,
        labels=labels,
        annotations=tuple(a.model_copy(update={"cls": target.class_of(a.cls, where)}) for a in known.annotations),
    )


def _ids(mask: Mask, labels: tuple[str, ...], target: Target) -> set[str]:
    """What the mask may have been called when it was written: MVTec's masks say where and not which class, which the
    folder does, so that one of a single class counts as written while it is of the class that was."""
    drawn = {target.classes[k - 1] for k in np.unique(mask) if k}
    return {mask_id(mask)} | ({mask_id((mask > 0).astype(np.uint8))} if drawn == set(labels) else set())


def read_book_beside(found: Any, where: object) -> LabelBook | None:
    """The label book an export carries."""
    if found is None:
        return None
    try:
        return LabelBook.model_validate(found)
    except ValidationError as e:
        raise DatasetError(where, f"haltline.label_book: {first_error(e)}", "export it again") from e
