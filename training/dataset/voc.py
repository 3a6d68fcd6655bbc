"""Reads Pascal VOC: an XML file of boxes for each picture, as labelImg, Roboflow and many public sets write it.

The files lie beside their pictures or in a folder of their own (`Annotations/` and `JPEGImages/`), perhaps below
train/, val/ and test/; a picture is found by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from inspection.errors import DatasetError
from inspection.samples import Annotation
from training.dataset.beneath import OR_GOOD, Beneath
from training.dataset.drawn import Drawn, check_box, drawn_item
from training.dataset.item import Item, Names, Target, decode, read_bytes

SUFFIX = ".xml"
MASKS = ("SegmentationClass", "SegmentationObject")
"""Folders of pictures in colours that stand for classes, in some sets, as well as the boxes."""
SIDES = ("xmin", "ymin", "xmax", "ymax")


def is_voc(folder: Path) -> bool:
    first = next(iter(sorted(folder.rglob(f"*{SUFFIX}"))), None)
    try:
        return first is not None and ElementTree.parse(first).getroot().tag == "annotation"
    except (OSError, ElementTree.ParseError):
        return False


def voc_classes(folder: Path, names: Names) -> tuple[str, ...]:
    """Sorted, for nothing here numbers them."""
    found = {_text(o, "name", file) for file in _files(folder) for o in _read(file).iter("object")}
    return names.classes(sorted(found), folder)


def import_voc(folder: Path, target: Target) -> Iterator[Item]:
    """A picture without a defect has a file without an `object`; one without a file was labelled by nobody."""
    beneath = Beneath(folder, without=MASKS)
    for file in _files(folder):
        image = beneath.picture_of(file)
        data, root = read_bytes(image, file), _read(file)
        height, width = decode(data, image).shape[:2]
        _check_size(root, (width, height), image, file)
        said = [_mark(o, (height, width), target, f"{file}: object {n}") for n, o in enumerate(root.iter("object"), 1)]
        marks = [mark for mark in said if mark]
        group, split = beneath.group_of(image), beneath.split_of(file)
        yield drawn_item(image, data, (height, width), marks, target, file, source="voc", group=group, split=split)
    beneath.check_all_found(f"has no {SUFFIX} file", f"a good picture has one without an object{OR_GOOD}")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SUFFIX}"))


def _read(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(read_bytes(file))
    except ElementTree.ParseError as e:
        raise DatasetError(f"{file}:{e.position[0]}", f"is no XML: {e}", "export it again") from e


def _text(element: ElementTree.Element, name: str, where: object) -> str:
    found = (element.findtext(name) or "").strip()
    if not found:
        raise DatasetError(where, f"has an object without {name}", "export it again")
    return found


def _check_size(root: ElementTree.Element, size: tuple[int, int], image: Path, file: Path) -> None:
    """Some programs write 0 where they do not know it."""
    said = tuple(int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    if all(said) and said != size:
        raise DatasetError(
            image,
            f"is {size[0]}x{size[1]} px, and {file} says {said[0]}x{said[1]}",
            "bring the picture the boxes were drawn on, or export it again",
        )


def _mark(element: ElementTree.Element, size: tuple[int, int], target: Target, where: str) -> Drawn | None:
    """None where the box says that something is good."""
    cls = target.called(_text(element, "name", where), where)
    try:
        left, top, right, bottom = (float(_text(element, f"bndbox/{side}", where)) for side in SIDES)
    except ValueError as e:
        raise DatasetError(where, f"holds a box that does not read: {e}", f"write {', '.join(SIDES)} in px") from e
    box = (left, top, right - left, bottom - top)
    check_box(box, size, where)
    return None if cls is None else Drawn(Annotation(cls=cls, box_px=box))
