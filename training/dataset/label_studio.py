"""Reads Label Studio's JSON export: choices, polygons, boxes and brushes of one image a task.

Coordinates are per cent of the picture. The newest annotation of a task counts that nobody cancelled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.errors import DatasetError
from inspection.exchange import GOOD, KEY
from inspection.label_book import LabelBook
from inspection.outline import Bits, fill, from_brush_rle
from inspection.samples import Annotation, BoxPx
from training.dataset.beneath import Beneath
from training.dataset.drawn import check_box, fill_boxes, polygon
from training.dataset.item import Item, Names, Target, decode, read_bytes
from training.dataset.lineage import read_beside, read_book_beside, with_lineage
from training.dataset.snapshot import first_error

UPLOADED = re.compile(r"^[0-9a-f]{8}-")
SHAPES = {"polygonlabels", "rectanglelabels", "brushlabels"}


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Result(_Loose):
    type: str
    value: dict[str, Any]
    meta: dict[str, Any] | None = None


class Annotated(_Loose):
    result: list[Result]
    was_cancelled: bool = False


class Task(_Loose):
    data: dict[str, Any]
    annotations: list[Annotated] = Field(default_factory=list)


def is_label_studio(path: Path) -> bool:
    """Whether a json file looks like tasks of Label Studio, without judging them."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, list) and bool(found) and isinstance(found[0], dict) and "data" in found[0]


def read_tasks(path: Path) -> list[Task]:
    try:
        found = json.loads(read_bytes(path))
        tasks = [Task.model_validate(task) for task in found]
    except (ValueError, TypeError) as e:
        what = first_error(e) if isinstance(e, ValidationError) else f"is no JSON list of tasks: {e}"
        raise DatasetError(path, what, "export from Label Studio as JSON, not JSON-MIN") from e
    if not tasks:
        raise DatasetError(path, "holds no task", "export again")
    return tasks


def label_studio_book(path: Path) -> LabelBook | None:
    """The rules our own export carries; None for anybody else's."""
    for task in read_tasks(path):
        own = task.data.get(KEY)
        if isinstance(own, dict) and "book" in own:
            return read_book_beside(own["book"], path)
    return None


def label_studio_classes(path: Path, names: Names) -> tuple[str, ...]:
    found = {
        name
        for task in read_tasks(path)
        for annotation in task.annotations
        for result in annotation.result
        for name in _names(result)
        if not _is_good(name)
    }
    return names.classes(sorted(found), path)


def import_label_studio(path: Path, target: Target) -> Iterator[Item]:
    """Tasks nobody annotated are left out: an empty list of annotations is no "good"."""
    below: dict[str, list[Path]] = {}
    for picture in Beneath(path.parent).pictures:
        below.setdefault(picture.name, []).append(picture)
    for number, task in enumerate(read_tasks(path), start=1):
        counted = [a for a in task.annotations if not a.was_cancelled]
        if counted:
            where = f"{path}: task {number}"
            yield _item(_picture(path, task, where, below), task, counted[-1].result, where, target)


def _item(file: Path, task: Task, results: list[Result], where: str, target: Target) -> Item:
    data = read_bytes(file, where)
    height, width = decode(data, file).shape[:2]
    chosen: list[str] | None = None
    annotations: list[Annotation] = []
    mask, outlined = np.zeros((height, width), np.uint8), False
    for result in results:
        if result.type == "choices":
            chosen = [*(chosen or []), *(n for n in _names(result) if not _is_good(n))]
        elif result.type in SHAPES:
            if not _names(result):
                raise DatasetError(where, f"has a {result.type} without a label", "label it, or remove it")
            classes = {target.called(name, where): name for name in _names(result)}
            if len(classes) > 1:
                raise DatasetError(
                    where,
                    f"has a {result.type} with the labels {', '.join(classes.values())}, and a place is of one class",
                    "label it as one of them, and draw it again for the other where both are true",
                )
            (cls,) = classes
            if cls is None:
                continue
            bits, box = _drawn(result, (height, width), where)
            if bits is not None:
                mask[bits], outlined = target.class_id(cls, where), True
            annotations.append(Annotation(cls=cls, box_px=box, length_mm=_length(result)))
        else:
            raise DatasetError(where, f"holds a result of type {result.type!r}", f"use choices, {', '.join(SHAPES)}")
    drawn = [a.cls for a in annotations]
    labels = drawn if chosen is None else [cls for c in chosen if (cls := target.called(c, where))]
    known = read_beside(task.data.get(KEY), where)
    boxed = not outlined and bool(annotations)
    if boxed:
        mask = fill_boxes(tuple(annotations), (height, width), target, where)
    elsewhere = set(labels) - set(drawn)
    item = Item(
        where=str(file),
        data=data,
        suffix=file.suffix,
        group=file.stem,
        # Where a class was chosen and nobody drew it, an empty place would say that it is not there.
        mask=None if elsewhere else mask,
        mask_is_boxes=boxed and not elsewhere,
        labels=tuple(dict.fromkeys(labels)),
        annotations=tuple(annotations),
        source="label-studio",
    )
    return with_lineage(item, known)


def _picture(path: Path, task: Task, where: str, below: dict[str, list[Path]]) -> Path:
    """The file a task's address means: a path below the json's folder, or Label Studio's `?d=` for local files; else
    the one of its name anywhere `below`, also without the eight digits that an upload puts in front.

    It is taken out of `below`: two uploads may have had one name."""
    named = next((v for k, v in task.data.items() if k != KEY and isinstance(v, str)), None)
    if named is None:
        raise DatasetError(where, "names no picture", 'write {"data": {"image": "images/a.png"}}')
    parts = urlsplit(named)
    inside = parse_qs(parts.query).get("d", [parts.path])[0].lstrip("/")
    folders = Path(inside).parts
    for at in range(len(folders)):
        file = path.parent.joinpath(*folders[at:])
        if ".." not in folders and file.is_file():
            return file
    for name in dict.fromkeys((folders[-1], UPLOADED.sub("", folders[-1]))) if folders else ():
        match below.get(name, []):
            case [one]:
                below[name] = []
                return one
            case [one, other, *_]:
                raise DatasetError(where, f"may be of {one} and of {other}", "move away what is not meant")
    raise DatasetError(path.parent / inside, f"is missing, which {where} names", "put the pictures beside the json")


def _is_good(name: str) -> bool:
    return name.strip().lower() == GOOD


def _names(result: Result) -> list[str]:
    found = result.value.get(result.type)
    return [str(name) for name in found] if isinstance(found, list) and found else []


def _drawn(result: Result, shape: tuple[int, int], where: str) -> tuple[Bits | None, BoxPx]:
    """(mask, box) of one result; a box that is not turned has no mask."""
    value, (height, width) = result.value, shape
    try:
        if result.type == "brushlabels":
            bits = from_brush_rle(value["rle"], shape)
        elif result.type == "polygonlabels":
            points = np.array(value["points"], np.float64) * (width / 100, height / 100)
            bits = fill(shape, [polygon(points.ravel().tolist(), where)])
        else:
            box = tuple(float(value[k]) * s / 100 for k, s in zip(_BOX, (width, height) * 2, strict=True))
            x, y, w, h = box
            check_box((x, y, w, h), shape, where)
            if not value.get("rotation"):
                return None, (x, y, w, h)
            bits = fill(shape, [_turned((x, y, w, h), math.radians(float(value["rotation"])))])
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        raise DatasetError(where, f"holds a {result.type} that does not read: {e}", "export it again as JSON") from e
    rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
    if not len(rows):
        raise DatasetError(where, f"holds a {result.type} outside the picture", "draw it again, or remove it")
    x, y = float(columns[0]), float(rows[0])
    return bits, (x, y, columns[-1] + 1 - x, rows[-1] + 1 - y)


_BOX = ("x", "y", "width", "height")


def _turned(box: BoxPx, angle: float) -> list[tuple[float, float]]:
    """The corners of a box turned around its top left corner, clockwise, as Label Studio turns."""
    x, y, w, h = box
    c, s = math.cos(angle), math.sin(angle)
    return [(x + dx * c - dy * s, y + dx * s + dy * c) for dx, dy in ((0, 0), (w, 0), (w, h), (0, h))]


def _length(result: Result) -> float | None:
    """`2.1 mm`, as our export notes it on the region."""
    for text in (result.meta or {}).get("text", []):
        number, _, unit = str(text).partition(" ")
        if unit == "mm" and number.replace(".", "", 1).isdigit():
            return float(number)
    return None
