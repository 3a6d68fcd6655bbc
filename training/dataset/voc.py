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
from training.dataset.beneath import OR_GOOD, Beneath, files_below
from training.dataset.drawn import Drawn, check_box, drawn_item, size_as_said
from training.dataset.item import Item, Names, Target, read_bytes, read_xml, xml_root

SUFFIX = ".xml"
MASKS = ("SegmentationClass", "SegmentationObject")
"""Folders of pictures in colours that stand for classes, in some sets, as well as the boxes."""
SIDES = ("xmin", "ymin", "xmax", "ymax")


def is_voc(folder: Path) -> bool:
    first = next(iter(_files(folder)), None)
    return first is not None and xml_root(first) == "annotation"


def voc_classes(folder: Path, names: Names) -> tuple[str, ...]:
    """Sorted, for nothing here numbers them."""
    found = {_text(o, "name", file) for file in _files(folder) for o in read_xml(file).iter("object")}
    return names.classes(sorted(found), folder)


def import_voc(folder: Path, target: Target) -> Iterator[Item]:
    """A picture without a defect has a file without an `object`; one without a file was labelled by nobody."""
    beneath = Beneath(folder, without=MASKS)
    for file in _files(folder):
        image = beneath.picture_of(file)
        data, root = read_bytes(image, file), read_xml(file)
        size = size_as_said(data, image, _side(root, "width", file), _side(root, "height", file), file)
        said = [_mark(o, size, target, f"{file}: object {n}") for n, o in enumerate(root.iter("object"), 1)]
        marks = [mark for mark in said if mark]
        group, split = beneath.group_of(image), beneath.split_of(file)
        yield drawn_item(image, data, size, marks, target, file, source="voc", group=group, split=split)
    unsaid = f"has no {SUFFIX} file", f"a good picture has one without an object{OR_GOOD}"
    yield from beneath.unlabelled(target, "voc", *unsaid)


def _files(folder: Path) -> list[Path]:
    return files_below(folder, SUFFIX)


def _text(element: ElementTree.Element, name: str, where: object) -> str:
    found = (element.findtext(name) or "").strip()
    if not found:
        raise DatasetError(where, f"has an object without {name}", "export it again")
    return found


def _side(root: ElementTree.Element, side: str, file: Path) -> float | None:
    said = root.findtext(f"size/{side}")
    try:
        return float(said) if said else None
    except ValueError as e:
        raise DatasetError(file, f"has the {side} {said!r}", "write it in px, or 0 where it is not known") from e


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
