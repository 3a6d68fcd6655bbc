"""Reads COCO json. Boxes become annotations and a filled-box mask that is marked as such, polygons and run lengths real
outlines. Where a picture has a box without one, its whole mask is marked as boxes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.errors import DatasetError
from inspection.exchange import KEY
from inspection.label_book import LabelBook
from inspection.outline import Bits, fill, from_coco_counts
from inspection.samples import Annotation
from training.dataset.drawn import fill_boxes, polygon, size_as_said
from training.dataset.item import SPLIT_NAMES, Item, Names, Target, group_of, read_bytes
from training.dataset.lineage import read_beside, read_book_beside, with_lineage
from training.dataset.snapshot import first_error


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class CocoImage(_Loose):
    id: int
    file_name: str
    width: float | None = None
    height: float | None = None
    haltline: dict[str, Any] | None = None


class CocoBox(_Loose):
    id: int | None = None
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float] | None = None
    segmentation: list[list[float]] | dict[str, Any] | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)


class CocoCategory(_Loose):
    id: int
    name: str
    supercategory: str | None = None


class Coco(_Loose):
    images: list[CocoImage] = Field(min_length=1)
    annotations: list[CocoBox]
    categories: list[CocoCategory] = Field(min_length=1)
    info: dict[str, Any] = Field(default_factory=dict)


def read_coco(path: Path) -> Coco:
    try:
        return Coco.model_validate_json(read_bytes(path))
    except ValidationError as e:
        raise DatasetError(path, first_error(e), "export COCO with images, annotations and categories") from e


def coco_files(path: Path) -> dict[Path, str]:
    """The json itself, or those of a folder -> "", or the name of the part of the split each is for.

    Roboflow leaves one in each of train/, valid/ and test/; others call them `annotations/instances_train2017.json`.
    """
    if path.is_file():
        return {path: ""}
    splits = (p for p in sorted(path.iterdir()) if p.is_dir() and p.name.lower() in SPLIT_NAMES)
    places = (path, path / "annotations", *splits)
    found = [file for place in places for file in sorted(place.glob("*.json")) if is_coco(file)]
    if len(found) == 1:
        return {found[0]: ""}
    parts = {file: _part(file) for file in found}
    if not found or not all(parts.values()):
        raise DatasetError(
            path,
            f"holds {len(found)} COCO files, and not each says what part of a split it is for",
            "name the one to import",
        )
    return parts


def _part(file: Path) -> str:
    """train of `train/_annotations.coco.json` and of `instances_train2017.json`."""
    words = (file.parent.name, *re.split(r"[\W\d_]+", file.stem))
    return next((word.lower() for word in words if word.lower() in SPLIT_NAMES), "")


def coco_book(path: Path) -> LabelBook | None:
    """The rules our own export carries; None for anybody else's."""
    file = next(iter(coco_files(path)))
    own = read_coco(file).info.get(KEY)
    return read_book_beside(own.get("label_book"), file) if isinstance(own, dict) else None


def coco_classes(path: Path, names: Names) -> tuple[str, ...]:
    """In the order of their numbers, less those that only stand over others, as Roboflow writes one for the project."""
    found: dict[str, None] = {}
    for file in coco_files(path):
        coco = read_coco(file)
        above = {c.supercategory for c in coco.categories if c.supercategory != c.name}
        used = {box.category_id for box in coco.annotations}
        called = sorted(_categories(coco, file).items())
        found |= dict.fromkeys(name for number, name in called if number in used or name not in above)
    return names.classes(found, path)


def _categories(coco: Coco, path: Path) -> dict[int, str]:
    """Names by their ids. An id of two classes is refused: the last would take the annotations of both."""
    found: dict[int, CocoCategory] = {}
    for category in coco.categories:
        first = found.setdefault(category.id, category)
        if first.name.strip().lower() != category.name.strip().lower():
            raise DatasetError(
                path,
                f"gives the categories {first.name!r} and {category.name!r} the same id {category.id}",
                "number them anew: nobody can say which one an annotation is of",
            )
    return {number: c.name for number, c in found.items()}


def import_coco(path: Path, target: Target) -> Iterator[Item]:
    """`path`: a json, or a folder with one for each part of a split."""
    for file, part in coco_files(path).items():
        for item in _import_file(file, target, part):
            yield item if item.split else replace(item, split=SPLIT_NAMES[part])


def _import_file(path: Path, target: Target, part: str) -> Iterator[Item]:
    """Pictures lie where `file_name` says, from the json's folder or the one above, there or in `images/`, or in the
    folder the json is named for: `annotations/instances_train2017.json` has its pictures in `train2017/`."""
    coco = read_coco(path)
    names = _categories(coco, path)
    files: dict[int, str] = {}
    for image in coco.images:
        if image.id in files:
            raise DatasetError(
                path,
                f"gives {files[image.id]} and {image.file_name} the same id {image.id}",
                "number the images anew: nobody can say which one an annotation is of",
            )
        files[image.id] = image.file_name
    of_image: dict[int, list[CocoBox]] = {i: [] for i in files}
    for place, box in enumerate(coco.annotations):
        if box.image_id not in of_image:
            raise DatasetError(
                path, f"{_annotation(place, box)} names image {box.image_id}, which is not listed", "export it again"
            )
        if box.category_id not in names:
            raise DatasetError(
                path,
                f"{_annotation(place, box)} names category {box.category_id}, which is not listed",
                f"use one of {', '.join(str(c) for c in names)}",
            )
        of_image[box.image_id].append(box)
    for image in coco.images:
        file = _coco_picture(path, image.file_name)
        data = read_bytes(file, path)
        size = size_as_said(data, file, image.width, image.height, path)
        item = _coco_item(path, file, data, size, of_image[image.id], names, target)
        untold = not of_image[image.id] and image.haltline is None
        unmarked = untold and not target.names.lies_with_good(Path(image.file_name).parent.parts)
        item = replace(item, group=group_of(file, part), unmarked=unmarked)
        yield with_lineage(item, read_beside(image.haltline, path))


def _annotation(place: int, box: CocoBox) -> str:
    return f"annotation {place if box.id is None else f'with id {box.id}'}"


def _coco_picture(path: Path, name: str) -> Path:
    here, above = path.parent, path.parent.parent
    places = (here, here / "images", above, above / "images", above / path.stem.rpartition("_")[2])
    return next((place / name for place in places if (place / name).is_file()), here / name)


def _coco_item(
    path: Path,
    file: Path,
    data: bytes,
    size: tuple[int, int],
    boxes: list[CocoBox],
    names: dict[int, str],
    target: Target,
) -> Item:
    annotations, mask, only_boxes = [], np.zeros(size, np.uint8), False
    labels: list[str] = []
    for place, box in enumerate(boxes):
        where = f"{path}: {_annotation(place, box)} of {file.name}"
        if (cls := target.called(names[box.category_id], path)) is None:
            continue
        if box.segmentation:
            mask[_outlined(box.segmentation, size, where)] = target.class_id(cls, file)
        elif box.bbox:
            only_boxes = True
            mask = np.maximum(mask, fill_boxes((Annotation(cls=cls, box_px=box.bbox),), size, target, where))
        else:
            raise DatasetError(file, f"has a {cls} without box or outline in its COCO file", "draw it, or remove it")
        length = box.attributes.get("length_mm")
        annotations.append(Annotation(cls=cls, box_px=box.bbox, length_mm=length if _is_length(length) else None))
        # A region may be drawn and be no defect: a scratch under the limit.
        labels += [cls] if box.attributes.get("defect", True) else []
    return Item(
        where=str(file),
        data=data,
        suffix=file.suffix,
        group=file.stem,
        mask=mask,
        mask_is_boxes=only_boxes,
        labels=tuple(dict.fromkeys(labels)),
        annotations=tuple(annotations),
        source="coco",
    )


def _outlined(outline: list[list[float]] | dict[str, Any], size: tuple[int, int], where: object) -> Bits:
    """Polygons, or run lengths as a list or as pycocotools packs them."""
    if isinstance(outline, list):
        bits = fill(size, [polygon(p, where) for p in outline])
        if not bits.any():
            raise DatasetError(where, "is an outline outside the picture", "draw it again, or remove it")
        return bits
    try:
        return from_coco_counts(outline["counts"], size)
    except (KeyError, TypeError, ValueError) as e:
        raise DatasetError(where, f"has run lengths that do not fit the picture: {e}", "export it again") from e


def _is_length(found: object) -> bool:
    return isinstance(found, int | float) and found >= 0


def is_coco(path: Path) -> bool:
    """Whether a json file looks like COCO, without judging it."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"images", "annotations"} <= set(found)
