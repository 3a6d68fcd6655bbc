"""Reads LabelMe: a JSON file beside each picture, with polygons, rectangles and circles in px."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.errors import DatasetError
from inspection.samples import Annotation
from training.dataset.beneath import OR_GOOD, Beneath, files_below
from training.dataset.drawn import Drawn, check_box, drawn_item, ellipse, polygon, size_as_said
from training.dataset.item import Item, Names, Target, read_bytes
from training.dataset.snapshot import first_error

SUFFIX = ".json"


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Shape(_Loose):
    label: str
    points: list[tuple[float, float]]
    kind: str = Field(default="polygon", alias="shape_type")


class File(_Loose):
    shapes: list[Shape]
    image_path: str = Field(alias="imagePath")
    width: int | None = Field(default=None, alias="imageWidth")
    height: int | None = Field(default=None, alias="imageHeight")


def is_labelme(folder: Path) -> bool:
    first = next(iter(_files(folder)), None)
    try:
        found: Any = json.loads(first.read_bytes()) if first else None
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"shapes", "imagePath"} <= set(found)


def labelme_classes(folder: Path, names: Names) -> tuple[str, ...]:
    """Sorted, for nothing here numbers them."""
    found = {shape.label for file in _files(folder) for shape in _read(file).shapes}
    return names.classes(sorted(found), folder)


def import_labelme(folder: Path, target: Target) -> Iterator[Item]:
    """A picture without a defect has a file without shapes; one without a file was labelled by nobody."""
    beneath = Beneath(folder)
    for file in _files(folder):
        said = _read(file)
        image = beneath.picture_of(file, said.image_path)
        data = read_bytes(image, file)
        size = size_as_said(data, image, said.width, said.height, file)
        shapes = [_mark(s, size, target, f"{file}: shape {n}") for n, s in enumerate(said.shapes, 1)]
        marks = [mark for mark in shapes if mark]
        group, split = beneath.group_of(image), beneath.split_of(file)
        yield drawn_item(image, data, size, marks, target, file, source="labelme", group=group, split=split)
    unsaid = f"has no {SUFFIX} file", f"a good picture has one without shapes{OR_GOOD}"
    yield from beneath.unlabelled(target, "labelme", *unsaid)


def _files(folder: Path) -> list[Path]:
    return files_below(folder, SUFFIX)


def _read(file: Path) -> File:
    try:
        return File.model_validate_json(read_bytes(file))
    except ValidationError as e:
        raise DatasetError(file, first_error(e), "save it with LabelMe, one file a picture") from e


def _mark(shape: Shape, size: tuple[int, int], target: Target, where: str) -> Drawn | None:
    """None where the shape says that something is good."""
    if (cls := target.called(shape.label, where)) is None:
        return None
    points = np.array(shape.points, np.float64)
    match shape.kind:
        case "rectangle" if len(points) in (2, 4):
            (left, top), (right, bottom) = points.min(0), points.max(0)
            box = (float(left), float(top), float(right - left), float(bottom - top))
            check_box(box, size, where)
            return Drawn(Annotation(cls=cls, box_px=box))
        case "circle" if len(points) == 2:
            return _outline(cls, _circle(shape.points, where), size, where)
        case "polygon":
            return _outline(cls, polygon(points.ravel().tolist(), where), size, where)
    raise DatasetError(
        where,
        f"is a {shape.kind} of {len(points)} points, which has no area",
        "draw it as a polygon, a rectangle or a circle",
    )


def _outline(cls: str, points: NDArray[np.float64], size: tuple[int, int], where: str) -> Drawn:
    mark = Drawn.outline(cls, points, size)
    if mark.bits is None or not mark.bits.any():
        raise DatasetError(where, "is an outline outside the picture", "draw it again, or remove it")
    return mark


def _circle(points: list[tuple[float, float]], where: str) -> NDArray[np.float64]:
    """From its middle and a point on it."""
    (x, y), on_it = points
    radius = math.dist((x, y), on_it)
    return ellipse(x, y, radius, radius, 0, where)
