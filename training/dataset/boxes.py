"""Reads boxes: COCO json and YOLO text. Boxes become annotations and a filled-box mask that is marked as such.

A polygon of COCO becomes a real outline. Where a picture has a box without one, its whole mask is marked as boxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.errors import DatasetError
from inspection.exchange import KEY
from inspection.label_book import LabelBook
from inspection.outline import Bits, fill, from_coco_counts
from inspection.samples import Annotation
from training.dataset.item import (
    Item,
    Target,
    check_box,
    class_name,
    decode,
    fill_boxes,
    pictures_by_stem,
    read_bytes,
    read_text,
)
from training.dataset.lineage import Beside, read_beside, read_book_beside, read_file_beside, with_lineage
from training.dataset.snapshot import first_error

SAME_BOX_PX = 0.5

# ── COCO ────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def coco_book(path: Path) -> LabelBook | None:
    """The rules our own export carries; None for anybody else's."""
    own = read_coco(path).info.get(KEY)
    return read_book_beside(own.get("label_book"), path) if isinstance(own, dict) else None


def coco_classes(path: Path) -> tuple[str, ...]:
    return tuple(name for _, name in sorted(_categories(read_coco(path), path).items()))


def _categories(coco: Coco, path: Path) -> dict[int, str]:
    """Class names by their ids. An id of two classes is refused: the last would take the annotations of both."""
    found: dict[int, CocoCategory] = {}
    for category in coco.categories:
        first = found.setdefault(category.id, category)
        if class_name(first.name, path) != class_name(category.name, path):
            raise DatasetError(
                path,
                f"gives the categories {first.name!r} and {category.name!r} the same id {category.id}",
                "number them anew: nobody can say which one an annotation is of",
            )
    return {number: class_name(c.name, path) for number, c in found.items()}


def import_coco(path: Path, target: Target) -> Iterator[Item]:
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
        height, width = decode(data, file).shape[:2]
        if (image.width or width, image.height or height) != (width, height):  # some write null or 0 for unknown
            raise DatasetError(
                file,
                f"is {width}x{height} px, and {path} says {image.width or width:g}x{image.height or height:g}",
                "bring the picture the labels were drawn on, or export it again",
            )
        item = _coco_item(path, file, data, (height, width), of_image[image.id], names, target)
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
        cls, where = target.class_of(names[box.category_id], file), f"{path}: {_annotation(place, box)} of {file.name}"
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


def polygon(numbers: Sequence[float], where: object) -> NDArray[np.float64]:
    """x y x y ... in px -> (N, 2)."""
    points = np.array(numbers, np.float64)
    if len(points) < 6 or len(points) % 2:
        raise DatasetError(where, f"has an outline of {len(points)} numbers", "write x and y of three corners or more")
    if not (np.abs(points) < 1e6).all():  # a NaN is not below it either
        raise DatasetError(where, "has an outline with a corner that is nowhere", "export it again")
    return points.reshape(-1, 2)


def _is_length(found: object) -> bool:
    return isinstance(found, int | float) and found >= 0


# ── YOLO ────────────────────────────────────────────────────────────────────────────────────────────────────────


def yolo_classes(folder: Path) -> tuple[str, ...]:
    path = folder / "classes.txt"
    names = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not names:
        raise DatasetError(path, "names no class", "write one class a line, in the order of their numbers")
    if "" in names:
        # Whether it counts is told nowhere, and the numbers of all names below depend on it.
        raise DatasetError(f"{path}:{names.index('') + 1}", "is blank, and names follow", "take it out, or name it")
    return tuple(class_name(name, path) for name in names)


def import_yolo(folder: Path, target: Target) -> Iterator[Item]:
    """images/, labels/ with `class x y w h` (middle and size, as shares of the picture) or `class x1 y1 x2 y2 ...` for
    an outline, classes.txt."""
    names, file = yolo_classes(folder), folder / f"{KEY}.json"
    known = read_file_beside(folder).get("pictures", {})
    for image in pictures_by_stem(folder / "images").values():
        labels = folder / "labels" / f"{image.stem}.txt"
        item = yolo_item(image, labels, names, target)
        own = read_beside(known.get(image.stem), file)
        if own is not None:
            # A box is all the format has: a picture without one was looked at all over.
            item = with_lineage(item, own.model_copy(update={"painted": True}))
            item = _as_drawn(item, own, labels, file, names, target)
        yield item


def _as_drawn(item: Item, own: Beside, file: Path, beside: Path, names: tuple[str, ...], target: Target) -> Item:
    """The item with what is drawn in the label file, less the boxes that were no defect when they were exported. Where
    that is another label than the export's, somebody mended the file since: it counts, and it is told."""
    if own.labels is None:
        return item
    where = f"{beside}: {Path(item.where).name}"
    was = {target.class_of(cls, where) for cls in own.labels}
    assert item.mask is not None
    size = item.mask.shape[0], item.mask.shape[1]
    lines = [line.split() for line in own.no_defects if line.strip()]
    passed = [_yolo_shape(fields, size, names, target, where)[0] for fields in lines]
    drawn = [a.cls for a in item.annotations if not any(_same_box(a, other) for other in passed)]
    labels = tuple(dict.fromkeys(drawn))
    if set(labels) == was:
        return replace(item, labels=labels)
    said, now = ("+".join(c for c in target.classes if c in some) or "good" for some in (was, set(labels)))
    doubt = f"is {said} in {beside} and {now} by the boxes in {file}, which count"
    return replace(item, labels=labels, soft_labels=None, doubt=doubt)


def _same_box(a: Annotation, b: Annotation) -> bool:
    """Within what a program's rounding moves a box."""
    assert a.box_px is not None
    assert b.box_px is not None
    return a.cls == b.cls and max(abs(x - y) for x, y in zip(a.box_px, b.box_px, strict=True)) < SAME_BOX_PX


def yolo_item(image: Path, labels: Path, names: tuple[str, ...], target: Target, group: str | None = None) -> Item:
    if not labels.exists():
        raise DatasetError(labels, f"is missing for {image.name}", "a picture without a defect has an empty file")
    data = read_bytes(image)
    height, width = decode(data, image).shape[:2]
    lines = [(n, line.split()) for n, line in enumerate(read_text(labels).splitlines(), 1) if line.strip()]
    shapes = [_yolo_shape(fields, (height, width), names, target, f"{labels}:{n}") for n, fields in lines]
    boxes, outlines = [a for a, bits in shapes if bits is None], [(a, bits) for a, bits in shapes if bits is not None]
    mask = fill_boxes(tuple(boxes), (height, width), target, labels)
    for a, bits in outlines:
        mask[bits] = target.class_id(a.cls, labels)
    annotations = tuple(a for a, _ in shapes)
    return Item(
        where=str(image),
        data=data,
        suffix=image.suffix,
        group=group or image.stem,
        mask=mask,
        mask_is_boxes=bool(boxes),
        labels=tuple(dict.fromkeys(a.cls for a in annotations)),
        annotations=annotations,
        source="yolo",
    )


def _yolo_shape(
    fields: list[str], size: tuple[int, int], names: tuple[str, ...], target: Target, where: str
) -> tuple[Annotation, Bits | None]:
    """A box, or an outline with the box around it. `size`: height and width."""
    write = "write: class x y width height, or class x1 y1 x2 y2 x3 y3 ... for an outline; no confidence"
    try:
        number, values = int(fields[0]), [float(v) for v in fields[1:]]
    except ValueError as e:
        raise DatasetError(where, f"is {' '.join(fields)[:80]!r}", write) from e
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise DatasetError(where, f"holds {len(values)} numbers behind the class", write)
    if not 0 <= number < len(names):
        raise DatasetError(where, f"names class {number}, classes.txt has {len(names)}", "add it to classes.txt")
    if not all(0 <= v <= 1 for v in values):
        raise DatasetError(
            where, f"holds a box outside the picture: {' '.join(fields[1:])[:80]}", "values are shares, 0 to 1"
        )
    cls, (height, width) = target.class_of(names[number], where), size
    if len(values) == 4:
        x, y, w, h = values
        box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
        check_box(box, size, where)
        return Annotation(cls=cls, box_px=box), None
    points = polygon(values, where) * (width, height)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    around = (float(left), float(top), float(right - left), float(bottom - top))
    return Annotation(cls=cls, box_px=around), fill(size, [points])


def is_coco(path: Path) -> bool:
    """Whether a json file looks like COCO, without judging it."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"images", "annotations"} <= set(found)
