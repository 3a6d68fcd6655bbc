"""Reads a project of Supervisely: meta.json, and in each data set a JSON of bitmaps, polygons, rectangles and tags.

ds0/img/x.jpg
ds0/ann/x.jpg.json

A data set that is called train or the like is a part of the split, and so is what a tag of a picture that is called so
says.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.errors import DatasetError
from inspection.outline import Bits
from inspection.samples import Annotation, Split
from training.dataset.beneath import OR_GOOD
from training.dataset.drawn import Drawn, check_box, drawn_item, polygon, size_as_said
from training.dataset.item import SPLIT_NAMES, Item, Names, Target, good_item, group_of, pictures, read_bytes
from training.dataset.snapshot import first_error

META, SOURCE = "meta.json", "supervisely"


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Class(_Loose):
    title: str


class Meta(_Loose):
    classes: list[Class]


class Tag(_Loose):
    name: str


class Points(_Loose):
    exterior: list[tuple[float, float]]
    interior: list[list[tuple[float, float]]] = Field(default_factory=list)


class Bitmap(_Loose):
    """`data`: base64 of zlib of a PNG. `origin`: its left top corner in the picture."""

    data: str
    origin: tuple[int, int]


class Object(_Loose):
    title: str = Field(alias="classTitle")
    kind: str = Field(alias="geometryType")
    points: Points | None = None
    bitmap: Bitmap | None = None


class Size(_Loose):
    height: int
    width: int


class File(_Loose):
    size: Size
    tags: list[Tag] = Field(default_factory=list)
    objects: list[Object]


def is_supervisely(folder: Path) -> bool:
    try:
        found: Any = json.loads((folder / META).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and isinstance(found.get("classes"), list) and bool(_data_sets(folder))


def supervisely_classes(folder: Path, names: Names) -> tuple[str, ...]:
    """Those that are used, in the order of meta.json; of tags sorted, behind them."""
    titles = [c.title for c in _meta(folder).classes]
    files = [_read(file) for data_set in _data_sets(folder) for file in sorted((data_set / "ann").glob("[!.]*.json"))]
    drawn = {o.title for file in files for o in file.objects}
    tagged = {tag for file in files for tag in _classes_of(file, titles, names)}
    return names.classes([*(t for t in titles if t in drawn), *sorted(drawn - {*titles}), *sorted(tagged)], folder)


def import_supervisely(folder: Path, target: Target) -> Iterator[Item]:
    """A picture without a defect has a file without objects, as one that nobody looked at has, or a tag good."""
    titles = [c.title for c in _meta(folder).classes]
    for data_set in _data_sets(folder):
        files = {file.name: file for file in sorted((data_set / "ann").glob("[!.]*.json"))}
        for image in pictures(data_set / "img"):
            group, split = f"{data_set.name}/{group_of(image)}", SPLIT_NAMES.get(data_set.name.lower())
            good = target.names.good(data_set.name)
            file = files.pop(f"{image.name}.json", None) or files.pop(f"{image.stem}.json", None)
            if file:
                yield _item(image, file, titles, target, group, split=split, good=good)
            elif good or target.unlabelled_good:
                yield good_item(image, group, SOURCE, split)
            else:
                raise DatasetError(image, f"has no {image.name}.json in {data_set / 'ann'}", f"export it too{OR_GOOD}")
        if left := next(iter(files.values()), None):
            raise DatasetError(left, f"has no picture of its name in {data_set / 'img'}", "bring it, or remove this")


def _item(
    image: Path, file: Path, titles: list[str], target: Target, group: str, *, split: Split | None, good: bool
) -> Item:
    said, data = _read(file), read_bytes(image)
    size = size_as_said(data, image, said.size.width, said.size.height, file)
    shapes = [_mark(o, size, target, f"{file}: object {n}") for n, o in enumerate(said.objects, 1)]
    tags = [tag.name for tag in said.tags]
    split = next((SPLIT_NAMES[tag.lower()] for tag in tags if tag and tag.lower() in SPLIT_NAMES), split)
    marks = [mark for mark in shapes if mark]
    item = drawn_item(image, data, size, marks, target, file, source=SOURCE, group=group, split=split)
    tagged = [cls for tag in _classes_of(said, titles, target.names) if (cls := target.called(tag, file))]
    if elsewhere := [cls for cls in tagged if cls not in (item.labels or ())]:
        # An empty place would say that what nobody drew is not there.
        labels = tuple(dict.fromkeys([*(item.labels or ()), *elsewhere]))
        return replace(item, labels=labels, mask=None, mask_is_boxes=False)
    good = good or any(target.names.good(tag) for tag in tags)
    untold = [t for t in tags if t.lower() not in SPLIT_NAMES and not target.names.renames(t)]
    if said.objects or tagged or good or not untold:
        return replace(item, unmarked=not said.objects and not good)
    fix = f"taken as good; a tag is a class with --rename {f'{untold[0]}=NAME'!r}"
    return replace(item, doubt=f"is tagged {untold[0]!r}, which is no class, and has no object: {fix}")


def _classes_of(file: File, titles: list[str], names: Names) -> list[str]:
    """A picture's tags that say what it shows and not where: those called like a class, or that --rename names; all of
    a project that has no class."""
    other = (t.name for t in file.tags if t.name.lower() not in SPLIT_NAMES and not names.good(t.name))
    return [tag for tag in other if not titles or tag in titles or names.renames(tag)]


def _data_sets(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("[!.]*") if (p / "ann").is_dir() and (p / "img").is_dir())


def _meta(folder: Path) -> Meta:
    try:
        return Meta.model_validate_json(read_bytes(folder / META))
    except ValidationError as e:
        raise DatasetError(folder / META, first_error(e), "export the project in Supervisely's own format") from e


def _read(file: Path) -> File:
    try:
        return File.model_validate_json(read_bytes(file))
    except ValidationError as e:
        raise DatasetError(file, first_error(e), "export the project in Supervisely's own format") from e


def _mark(drawn: Object, size: tuple[int, int], target: Target, where: str) -> Drawn | None:
    """None where the object says that something is good. Corners are pixels, which belong to what they bound."""
    if (cls := target.called(drawn.title, where)) is None:
        return None
    match drawn:
        case Object(kind="rectangle", points=Points() as points) if len(points.exterior) == 2:
            (left, top), (right, bottom) = np.array(points.exterior).min(0), np.array(points.exterior).max(0)
            box = (float(left), float(top), float(right - left + 1), float(bottom - top + 1))
            check_box(box, size, where)
            return Drawn(Annotation(cls=cls, box_px=box))
        case Object(kind="polygon", points=Points() as points):
            bits = _filled(points, size, where)
        case Object(kind="bitmap", bitmap=Bitmap() as bitmap):
            bits = _painted(bitmap, size, where)
        case _:
            fix = "draw it as a mask, a polygon or a rectangle"
            raise DatasetError(where, f"is a {drawn.kind} that has no area", fix)
    if not bits.any():
        raise DatasetError(where, "is an outline outside the picture", "draw it again, or remove it")
    x, y, width, height = cv2.boundingRect(bits.astype(np.uint8))
    return Drawn(Annotation(cls=cls, box_px=(x, y, width, height)), bits)


def _filled(points: Points, size: tuple[int, int], where: str) -> Bits:
    """As Supervisely fills it: with its rim."""
    rings = [polygon(np.ravel(ring).tolist(), where) for ring in (points.exterior, *points.interior)]
    filled = np.zeros(size, np.uint8)
    cv2.fillPoly(filled, [np.round(ring).astype(np.int32) for ring in rings], [1])
    return filled > 0


def _painted(bitmap: Bitmap, size: tuple[int, int], where: str) -> Bits:
    """What is not transparent, or where the PNG knows no transparency not black."""
    fix = "export the project again"
    try:
        encoded = np.frombuffer(zlib.decompress(base64.b64decode(bitmap.data, validate=True)), np.uint8)
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    except (binascii.Error, zlib.error, cv2.error) as e:
        raise DatasetError(where, f"has a bitmap that does not read: {e}", fix) from e
    if pixels is None:
        raise DatasetError(where, "has a bitmap that is no PNG", fix)
    inside = (pixels if pixels.ndim == 2 else pixels[..., -1] if pixels.shape[2] == 4 else pixels.max(2)) > 0
    (left, top), (height, width) = bitmap.origin, inside.shape
    if not (0 <= left <= left + width <= size[1] and 0 <= top <= top + height <= size[0]):
        raise DatasetError(where, f"has a bitmap of {width}x{height} px at {left}, {top}, outside the picture", fix)
    bits: Bits = np.zeros(size, bool)
    bits[top : top + height, left : left + width] = inside
    return bits
