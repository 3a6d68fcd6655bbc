"""Reads outlines as runs of pixels in a CSV, as Kaggle's competitions write them (Severstal's steel among them).

ImageId,ClassId,EncodedPixels     or, joined by _, ImageId_ClassId,EncodedPixels
0002cc93b.jpg,1,29102 12 29346 24

A run is its first pixel and its length; pixels count from 1, down the columns. A row without runs says that there is
none of its class. The pictures lie anywhere below the CSV's folder; folders that hold none it names are another's, but
for one called good.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inspection.errors import DatasetError
from training.dataset.beneath import OR_GOOD, Beneath
from training.dataset.item import Item, Mask, Names, Target, decode, good_item, read_bytes, read_text

IMAGE, CLASS, RUNS, JOINED = "ImageId", "ClassId", "EncodedPixels", "ImageId_ClassId"
SOURCE = "rle"


@dataclass(frozen=True, slots=True)
class Row:
    """`where` is the file and the line. `runs` may be empty."""

    where: str
    image: str
    cls: str
    runs: str


def is_rle(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            named = file.readline(1000)
    except OSError:
        return False
    return RUNS in named and (IMAGE in named)


def rle_classes(path: Path, names: Names) -> tuple[str, ...]:
    """Sorted by what they are called there; a number k is `defect_k`, where --rename k=NAME says nothing else."""
    said = sorted({row.cls for row in _rows(path) if row.runs}, key=lambda cls: (len(cls), cls))
    return names.classes((_named(cls, names) for cls in said), path)


def import_rle(path: Path, target: Target) -> Iterator[Item]:
    rows: dict[str, list[Row]] = {}
    for row in _rows(path):
        rows.setdefault(row.image, []).append(row)
    beneath = Beneath(path.parent)
    of_name: dict[str, list[Path]] = {}
    for picture in beneath.pictures:
        of_name.setdefault(picture.name, []).append(picture)
    found: dict[Path, list[Row]] = {}
    for name, of_image in rows.items():
        match of_name.get(name, []):
            case [image]:
                found[image] = of_image
            case []:
                raise DatasetError(of_image[0].where, f"names {name}, which is nowhere below {path.parent}", "bring it")
            case [one, other, *_]:
                raise DatasetError(of_image[0].where, f"may be of {one} and of {other}", "move away what is not meant")
    theirs = {image.parent for image in found}
    for image in beneath.pictures:
        good = beneath.lies_with_good(image, target.names)
        if image.parent not in theirs and not good:
            continue
        group, split = beneath.group_of(image), beneath.split_of(image)
        if image in found:
            yield replace(_item(image, found[image], target, group), split=split)
        elif target.unlabelled_good or good:
            yield good_item(image, group, SOURCE, split)
        else:
            raise DatasetError(image, f"has no row in {path}", f"write one for it without {RUNS}{OR_GOOD}")


def _item(image: Path, rows: list[Row], target: Target, group: str) -> Item:
    data = read_bytes(image, rows[0].where)
    mask = np.zeros(decode(data, image).shape[:2], np.uint8)
    for row in rows:
        cls = target.called(_named(row.cls, target.names), row.where) if row.runs else None
        if cls:
            _fill(mask, row, target.class_id(cls, row.where))
    return Item(str(image), data, image.suffix, group, mask=mask, source=SOURCE)


def _fill(mask: Mask, row: Row, value: int) -> None:
    """Mark the row's runs in `mask`, (H, W)."""
    fix = f"write pairs of a first pixel, from 1, and a length, within the {mask.size} px of the picture"
    try:
        numbers = np.array([int(n) for n in row.runs.split()], np.int64)
    except (ValueError, OverflowError) as e:
        raise DatasetError(row.where, f"has the runs {row.runs[:60]!r}", fix) from e
    if len(numbers) % 2:
        raise DatasetError(row.where, f"has {len(numbers)} numbers", fix)
    down = np.zeros(mask.size, bool)
    for first, length in numbers.reshape(-1, 2):
        if first < 1 or length < 1 or first - 1 + length > mask.size:
            raise DatasetError(row.where, f"has the run {first} {length}", fix)
        down[first - 1 : first - 1 + length] = True
    mask[down.reshape(mask.shape[::-1]).T] = value


def _named(cls: str, names: Names) -> str:
    return f"defect_{cls}" if cls.isdecimal() and not names.renames(cls) else cls


def _rows(path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(read_text(path)))
    columns = reader.fieldnames or ()
    joined = JOINED in columns
    if missing := [name for name in ((JOINED,) if joined else (IMAGE, CLASS)) + (RUNS,) if name not in columns]:
        raise DatasetError(f"{path}:1", f"has no column {missing[0]!r}", f"columns are {IMAGE}, {CLASS}, {RUNS}")
    for row in reader:
        where = f"{path}:{reader.line_num}"
        image, cls = (row[JOINED] or "").rpartition("_")[::2] if joined else (row[IMAGE], row[CLASS])
        if not image or not cls or row[RUNS] is None:
            raise DatasetError(where, "names no picture or no class", f"fill in {IMAGE} and {CLASS}, or drop the row")
        yield Row(where, image.strip(), cls.strip(), row[RUNS].strip())
