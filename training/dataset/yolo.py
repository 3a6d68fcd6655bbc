"""Reads YOLO text: a file of boxes and outlines beside each picture, in the layouts that ultralytics, Roboflow and
labelImg write.

    images/x.png, labels/x.txt                       with classes.txt or data.yaml beside
    images/train/x.png, labels/train/x.txt           likewise, and so for val and test
    train/images/x.png, train/labels/x.txt           likewise
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from inspection.errors import DatasetError
from inspection.exchange import KEY
from inspection.samples import Annotation, Split
from training.dataset.drawn import Drawn, check_box, drawn_item, polygon
from training.dataset.item import (
    SPLIT_NAMES,
    Item,
    Names,
    Target,
    decode,
    good_item,
    group_of,
    pictures_by_stem,
    read_bytes,
    read_text,
)
from training.dataset.lineage import Beside, read_beside, read_file_beside, with_lineage

CLASSES = "classes.txt"
CLASSES_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
SAME_BOX_PX = 0.5


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of pictures and the one of their labels; `name` is the split's folder, "" where there is none."""

    images: Path
    labels: Path
    name: str = ""

    @property
    def split(self) -> Split | None:
        return SPLIT_NAMES[self.name.lower()]


def is_yolo(folder: Path) -> bool:
    return (folder / CLASSES).is_file() or _yaml(folder) is not None


def yolo_names(folder: Path) -> tuple[str, ...]:
    """As they are called there, in the order of their numbers: of classes.txt, else of the `names` of data.yaml."""
    path = folder / CLASSES
    if not path.is_file() and (described := _yaml(folder)):
        return _yaml_names(described)
    names = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not names:
        raise DatasetError(path, "names no class", "write one class a line, in the order of their numbers")
    if "" in names:
        # Whether it counts is told nowhere, and the numbers of all names below depend on it.
        raise DatasetError(f"{path}:{names.index('') + 1}", "is blank, and names follow", "take it out, or name it")
    return tuple(names)


def yolo_classes(folder: Path, names: Names) -> tuple[str, ...]:
    return names.classes(yolo_names(folder), _named_in(folder))


def _named_in(folder: Path) -> Path:
    return folder / CLASSES if (folder / CLASSES).is_file() else _yaml(folder) or folder / CLASSES


def _yaml(folder: Path) -> Path | None:
    return next((folder / name for name in CLASSES_YAML if (folder / name).is_file()), None)


def _yaml_names(path: Path) -> tuple[str, ...]:
    """`names: [crack, pore]`, or `names: {0: crack, 1: pore}`."""
    fix = "write names: [crack, pore], in the order of their numbers"
    try:
        found = YAML(typ="safe").load(read_text(path))
    except YAMLError as e:
        at = getattr(e, "problem_mark", None)
        where = path if at is None else f"{path}:{at.line + 1}"
        raise DatasetError(where, f"is not YAML: {getattr(e, 'problem', None) or e}", fix) from e
    names = found.get("names") if isinstance(found, dict) else None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DatasetError(path, f"numbers its names {', '.join(str(n) for n in names)}", "number them from 0")
        names = [names[n] for n in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DatasetError(path, "names no class", fix)
    return tuple(str(name) for name in names)


def import_yolo(folder: Path, target: Target) -> Iterator[Item]:
    """A line is `class x y w h`, middle and size as shares of the picture, or `class x1 y1 x2 y2 ...`, an outline."""
    names, file = yolo_names(folder), folder / f"{KEY}.json"
    known = read_file_beside(folder).get("pictures", {})
    for part in _parts(folder):
        for image in pictures_by_stem(part.images).values():
            labels, group = part.labels / f"{image.stem}.txt", group_of(image, part.name)
            item = replace(yolo_item(image, labels, names, target, group), split=part.split)
            own = read_beside(known.get(image.stem), file)
            if own is not None:
                # A box is all the format has: a picture without one was looked at all over.
                item = with_lineage(item, own.model_copy(update={"painted": True}))
                item = _as_drawn(item, own, labels, file, names, target)
            yield item


def _parts(folder: Path) -> list[Part]:
    images, labels = folder / "images", folder / "labels"
    if images.is_dir():
        splits = [p for p in sorted(images.iterdir()) if p.is_dir() and p.name.lower() in SPLIT_NAMES]
        if splits and not any(p.is_file() for p in images.glob("[!.]*")):
            return [Part(p, labels / p.name, p.name) for p in splits]
        return [Part(images, labels)]
    parts = [Part(p / "images", p / "labels", p.name) for p in sorted(folder.iterdir()) if (p / "images").is_dir()]
    if not parts:
        raise DatasetError(
            folder, "has no images/, nor a train/images/", "lay pictures and labels out as docs/exchange.md says"
        )
    if odd := next((p for p in parts if p.name.lower() not in SPLIT_NAMES), None):
        raise DatasetError(odd.images, "lies in a folder that is no part of a split", "call it train, val or test")
    return parts


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
    passed = [mark.annotation for fields in lines if (mark := _shape(fields, size, names, target, where))]
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


def yolo_item(image: Path, labels: Path, names: tuple[str, ...], target: Target, group: str) -> Item:
    if not labels.exists():
        if target.unlabelled_good:
            return good_item(image, group, "yolo")
        fix = "a picture without a defect has an empty file; or --unlabelled-good where none is as good"
        raise DatasetError(labels, f"is missing for {image.name}", fix)
    data = read_bytes(image)
    height, width = decode(data, image).shape[:2]
    lines = [(n, line.split()) for n, line in enumerate(read_text(labels).splitlines(), 1) if line.strip()]
    said = [_shape(fields, (height, width), names, target, f"{labels}:{n}") for n, fields in lines]
    marks = [mark for mark in said if mark]
    return drawn_item(image, data, (height, width), marks, target, labels, source="yolo", group=group)


def _shape(
    fields: list[str], size: tuple[int, int], names: tuple[str, ...], target: Target, where: str
) -> Drawn | None:
    """A box, or an outline with the box around it; None where it says that something is good."""
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
    if (cls := target.called(names[number], where)) is None:
        return None
    height, width = size
    if len(values) == 4:
        x, y, w, h = values
        box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
        check_box(box, size, where)
        return Drawn(Annotation(cls=cls, box_px=box))
    return Drawn.outline(cls, polygon(values, where) * (width, height), size)
