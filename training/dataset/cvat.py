"""Reads "CVAT for images 1.1": one XML of a task, with boxes, outlines, brushed masks and tags in px.

Pictures lie where their `name` says, from the XML's folder, there, in `images/` or in `images/<subset>/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from inspection.errors import DatasetError
from inspection.outline import Bits
from inspection.samples import Annotation
from training.dataset.beneath import OR_GOOD, Beneath
from training.dataset.drawn import Drawn, check_box, drawn_item, ellipse, polygon, size_as_said, turned_by
from training.dataset.item import SPLIT_NAMES, Item, Names, Target, group_of, read_bytes, read_xml, xml_root

SUFFIX = ".xml"
TAG = "tag"


def is_cvat(path: Path) -> bool:
    return xml_root(path) == "annotations"


def cvat_classes(path: Path, names: Names) -> tuple[str, ...]:
    """Sorted; a tag that is called good is none."""
    marks = [(mark.tag, mark.get("label", "")) for image in _images(path) for mark in image]
    return names.classes(sorted({label for tag, label in marks if not (tag == TAG and names.good(label))}), path)


def import_cvat(path: Path, target: Target) -> Iterator[Item]:
    """A picture that is listed and has neither shape nor tag is a good one; one that is not was labelled by nobody."""
    beneath = Beneath(path.parent)
    for entry in _images(path):
        name, subset = entry.get("name", ""), entry.get("subset", "")
        where = f"{path}: image {name!r}"
        places = (name, f"images/{name}", f"images/{subset}/{name}")
        named = next((place for place in places if (path.parent / place).is_file()), name)
        image = beneath.picture_of(path, named, Path(name).stem)
        data = read_bytes(image, path)
        size = size_as_said(data, image, _number(entry, "width", where), _number(entry, "height", where), path)
        shapes = [_mark(e, size, target, f"{where}, mark {n}") for n, e in enumerate(entry, 1) if e.tag != TAG]
        item = drawn_item(
            image,
            data,
            size,
            [mark for mark in shapes if mark],
            target,
            where,
            source="cvat",
            group=(Path(subset) / Path(name).parent / group_of(image)).as_posix(),
            split=SPLIT_NAMES.get(subset.lower()),
        )
        item = replace(item, unmarked=not len(entry) and not beneath.lies_with_good(image, target.names))
        yield _tagged(item, [e.get("label", "") for e in entry if e.tag == TAG], target, where)
    yield from beneath.unlabelled(target, "cvat", f"is not in {path}", f"export its task as well{OR_GOOD}")


def _images(path: Path) -> Iterator[ElementTree.Element]:
    root = read_xml(path)
    if root.find("track") is not None:
        raise DatasetError(path, "is CVAT's export for video", 'export "CVAT for images 1.1", with the images')
    yield from root.iter("image")


def _tagged(item: Item, tags: list[str], target: Target, where: str) -> Item:
    """The item with its tags, which say what a picture shows and not where."""
    said = [target.called(tag, where) for tag in tags if not target.names.good(tag)]
    drawn = item.labels or ()
    if not (elsewhere := [cls for cls in said if cls and cls not in drawn]):
        return item
    # An empty place would say that what nobody drew is not there.
    return replace(item, labels=tuple(dict.fromkeys([*drawn, *elsewhere])), mask=None, mask_is_boxes=False)


def _mark(element: ElementTree.Element, size: tuple[int, int], target: Target, where: str) -> Drawn | None:
    """None where the shape says that something is good."""
    if (cls := target.called(element.get("label", ""), where)) is None:
        return None
    match element.tag:
        case "box":
            left, top, right, bottom = (_number(element, side, where) for side in ("xtl", "ytl", "xbr", "ybr"))
            box = (left, top, right - left, bottom - top)
            check_box(box, size, where)
            if not (turned := _number(element, "rotation", where, 0)):
                return Drawn(Annotation(cls=cls, box_px=box))
            corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
            mark = Drawn.outline(cls, turned_by(corners, turned), size)
        case "ellipse":
            cx, cy, rx, ry = (_number(element, key, where) for key in ("cx", "cy", "rx", "ry"))
            mark = Drawn.outline(cls, ellipse(cx, cy, rx, ry, _number(element, "rotation", where, 0), where), size)
        case "polygon":
            mark = Drawn.outline(cls, polygon(_numbers(element, "points", where), where), size)
        case "mask":
            mark = _brushed(cls, element, size, where)
        case other:
            raise DatasetError(where, f"is a {other}, which has no area", "draw it as a box, polygon, ellipse or mask")
    if mark.bits is None or not mark.bits.any():
        raise DatasetError(where, "is an outline outside the picture", "draw it again, or remove it")
    return mark


def _brushed(cls: str, element: ElementTree.Element, size: tuple[int, int], where: str) -> Drawn:
    """Runs along the rows of a box, the first of what is not marked."""
    left, top, width, height = (int(_number(element, key, where)) for key in ("left", "top", "width", "height"))
    runs = np.array(_numbers(element, "rle", where), np.int64)
    inside = 0 <= left <= left + width <= size[1] and 0 <= top <= top + height <= size[0]
    if not inside or (runs < 0).any() or runs.sum() != width * height:
        raise DatasetError(where, f"has runs that do not fill {width}x{height} px in the picture", "export it again")
    bits: Bits = np.zeros(size, bool)
    bits[top : top + height, left : left + width] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(
        height, width
    )
    return Drawn(Annotation(cls=cls, box_px=(left, top, width, height)), bits)


def _number(element: ElementTree.Element, key: str, where: str, default: float | None = None) -> float:
    if default is not None and element.get(key) is None:
        return default
    found = _numbers(element, key, where)
    if len(found) != 1:
        raise DatasetError(where, f"has {len(found)} numbers as {key}", "export it again")
    return found[0]


def _numbers(element: ElementTree.Element, key: str, where: str) -> list[float]:
    said = element.get(key, "")
    try:
        found = [float(n) for n in said.replace(";", ",").split(",")]
    except ValueError as e:
        raise DatasetError(where, f"has {key} {said[:60]!r}", "export it again: numbers of px or degrees") from e
    if not all(abs(n) < 1e9 for n in found):  # a NaN is not below it either
        raise DatasetError(where, f"has {key} {said[:60]!r}", "export it again")
    return found
