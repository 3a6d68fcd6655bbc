"""Reads pictures by the folder they lie in: good/a.png, crack/b.png, perhaps below train/, val/, test/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inspection.errors import DatasetError
from training.dataset.beneath import Beneath
from training.dataset.item import SPLIT_NAMES, Item, Names, Target, read_picture
from training.dataset.pairs import said_labels


def is_class_folders(folder: Path, names: Names) -> bool:
    """Whether one of the folders is called good; whoever has none says so with --format."""
    return any(names.good(p.parent.name) for p in Beneath(folder).pictures)


def folder_classes(folder: Path, names: Names) -> tuple[str, ...]:
    kinds = {p.parent.name for p in Beneath(folder).pictures}
    return names.classes(sorted({label for kind in kinds for label in said_labels(kind, names)}), folder)


def import_folders(folder: Path, target: Target) -> Iterator[Item]:
    """The folder a picture lies in says what it shows, `pore+crack` both, and nothing says where."""
    beneath = Beneath(folder)
    for image in beneath.pictures:
        kind = image.parent
        if kind.name.lower() in SPLIT_NAMES:
            raise DatasetError(image, f"lies in {kind.name}/ itself", "lay it into the folder of its class there")
        if beneath.lies_with_good(image, target.names) and not target.names.good(kind.name):
            # good/day1/ beside crack/day1/: day1 is no class.
            where = "/".join(beneath.way(image))
            raise DatasetError(
                image, f"lies in {where}, and {kind.name} is not good", "lay it into the folder of its class itself"
            )
        said = [target.called(label, kind) for label in said_labels(kind.name, target.names)]
        yield Item(
            where=str(image),
            data=read_picture(image),
            suffix=image.suffix,
            group=beneath.group_of(image),
            labels=tuple(dict.fromkeys(cls for cls in said if cls)),
            split=beneath.split_of(image),
            source="folders",
        )
