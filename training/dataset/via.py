"""Reads the JSON of VIA, the VGG Image Annotator: its annotations of version 1 or 2, or a whole project, in px.

Pictures lie below the JSON's folder. A folder may hold a JSON in each of train/ and val/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from inspection.errors import DatasetError
from inspection.samples import Annotation
from training.dataset.beneath import OR_GOOD, Beneath
from training.dataset.drawn import Drawn, check_box, drawn_item, ellipse, polygon, size_as_said
from training.dataset.item import SPLIT_NAMES, Item, Names, Target, read_bytes

PROJECT = "_via_img_metadata"
LISTED = {"filename", "regions"}
CLASS_KEYS = ("class", "label", "type", "defect", "name")
"""Of several attributes the one that says what a region is."""
UNNAMED = "defect"


def is_via(path: Path) -> bool:
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    listed = found.get(PROJECT, found) if isinstance(found, dict) else None
    first = next(iter(listed.values()), None) if isinstance(listed, dict) else None
    return isinstance(first, dict) and set(first) >= LISTED


def via_files(path: Path) -> list[Path]:
    """The JSON itself, or those in a folder or in the parts of a split right below."""
    if path.is_file():
        return [path]
    parts = [p for p in sorted(path.iterdir()) if p.is_dir() and p.name.lower() in SPLIT_NAMES]
    return [file for folder in (path, *parts) for file in sorted(folder.glob("*.json")) if is_via(file)]


def via_classes(path: Path, names: Names) -> tuple[str, ...]:
    """Sorted, for nothing here numbers them."""
    regions = [
        (r, where) for file in via_files(path) for entry, where in _entries(file) for r in _regions(entry, where)
    ]
    return names.classes(sorted({_label(region, where) for region, where in regions}), path)


def import_via(path: Path, target: Target) -> Iterator[Item]:
    """A picture that is listed without a region is a good one; one that is not was labelled by nobody."""
    for file in via_files(path):
        beneath = Beneath(file.parent)
        part = file.parent.name if file.parent != path and path.is_dir() else ""
        for entry, where in _entries(file):
            name = str(entry["filename"]).replace("\\", "/")
            image = beneath.picture_of(file, name, Path(name).stem)
            data = read_bytes(image, file)
            size = size_as_said(data, image, None, None, file)
            regions = _regions(entry, where)
            marks = [_mark(r, size, target, f"{where}, region {n}") for n, r in enumerate(regions, 1)]
            group, split = (Path(part) / beneath.group_of(image)).as_posix(), SPLIT_NAMES[part.lower()]
            drawn = [mark for mark in marks if mark]
            item = drawn_item(image, data, size, drawn, target, where, source="via", group=group, split=split)
            yield replace(item, unmarked=not regions and not beneath.lies_with_good(image, target.names))
        yield from beneath.unlabelled(target, "via", f"is not in {file}", f"list it there without a region{OR_GOOD}")


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        found = json.loads(read_bytes(path))
        listed = list(found.get(PROJECT, found).values())
    except (ValueError, AttributeError) as e:
        raise DatasetError(
            path, f"is no JSON of VIA: {e}", "export it again: Annotation, Export Annotations (as json)"
        ) from e
    for entry in listed:
        if not (isinstance(entry, dict) and set(entry) >= LISTED):
            raise DatasetError(path, f"lists {str(entry)[:60]}, without a filename or regions", "export it again")
        yield entry, f"{path}: {entry['filename']}"


def _regions(entry: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Version 1 numbers them, version 2 lists them."""
    found = entry["regions"]
    listed = list(found.values()) if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(r, dict) and _is_region(r) for r in listed):
        raise DatasetError(where, "has regions without a shape", "export it again")
    return listed


def _is_region(region: dict[str, Any]) -> bool:
    return all(isinstance(region.get(key), dict) for key in ("shape_attributes", "region_attributes"))


def _label(region: dict[str, Any], where: str) -> str:
    """What its attribute says. DatasetError where several may: nobody can say which one is the class."""
    said: dict[str, str] = {}
    for key, value in region["region_attributes"].items():
        # A checkbox is {"crack": true}; an empty cell was not filled in.
        words = [name for name, on in value.items() if on] if isinstance(value, dict) else [str(value)]
        if len(words) > 1:
            raise DatasetError(
                where, f"has a region of {key} {'+'.join(words)}", "a place is of one class: draw it twice"
            )
        if words and words[0].strip():
            said[key] = words[0]
    called = [key for name in CLASS_KEYS for key in said if key.strip().lower() == name]
    if len(said) > 1 and not called:
        raise DatasetError(where, f"has a region with {' and '.join(said)}", "call the one that is its class: class")
    return said[called[0]] if called else next(iter(said.values()), UNNAMED)


def _mark(region: dict[str, Any], size: tuple[int, int], target: Target, where: str) -> Drawn | None:
    """None where the region says that something is good."""
    if (cls := target.called(_label(region, where), where)) is None:
        return None
    shape = region["shape_attributes"]
    try:
        match shape.get("name"):
            case "rect":
                x, y, w, h = (float(shape[key]) for key in ("x", "y", "width", "height"))
                check_box((x, y, w, h), size, where)
                return Drawn(Annotation(cls=cls, box_px=(x, y, w, h)))
            case "circle":
                cx, cy, r = (float(shape[key]) for key in ("cx", "cy", "r"))
                around = ellipse(cx, cy, r, r, 0, where)
            case "ellipse":
                cx, cy, rx, ry = (float(shape[key]) for key in ("cx", "cy", "rx", "ry"))
                around = ellipse(cx, cy, rx, ry, math.degrees(float(shape.get("theta", 0))), where)
            case "polygon":
                corners = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
                around = polygon([float(v) for corner in corners for v in corner], where)
            case other:
                raise DatasetError(where, f"is a {other}, which has no area", "draw it as a polygon, rect or circle")
    except (KeyError, TypeError, ValueError) as e:
        raise DatasetError(where, f"does not read: {e}", "export it again") from e
    mark = Drawn.outline(cls, around, size)
    if mark.bits is None or not mark.bits.any():
        raise DatasetError(where, "is an outline outside the picture", "draw it again, or remove it")
    return mark
