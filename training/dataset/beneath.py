"""Pictures anywhere below a folder, for formats that do not prescribe where they lie."""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile
from pathlib import Path

from inspection.errors import DatasetError
from inspection.samples import Split
from training.dataset.item import SPLIT_NAMES, SUFFIXES, group_of

OR_GOOD = "; or lay the good ones into a folder called good, as a source of its own"


class Beneath:
    """The pictures in a folder and all inside it. Hidden ones hold what other programs keep for themselves."""

    def __init__(self, folder: Path, without: Collection[str] = ()) -> None:
        """`without`: names of folders that hold other pictures than the labelled ones."""
        if not folder.is_dir():
            raise DatasetError(folder, "is not a folder", "check the path")
        self.folder = folder
        inside = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        ways = ((p, p.relative_to(folder).parts) for p in inside)
        self.pictures = sorted(p for p, way in ways if not any(n[0] == "." or n in without for n in way))
        self._of_stem: dict[str, list[Path]] = {}
        for p in self.pictures:
            self._of_stem.setdefault(p.stem, []).append(p)
        self._unlabelled = set(self.pictures)

    def picture_of(self, label: Path, named: str = "") -> Path:
        """The picture of a label file: the one it names from where it lies, else the one of its name, of several the
        one that lies nearest."""
        if named and (there := label.parent / named.replace("\\", "/")) in self._unlabelled:
            found = [there]
        else:
            found = self._of_stem.get(label.stem, [])
            most = max((self._shared(p, label) for p in found), default=0)
            found = [p for p in found if self._shared(p, label) == most]
        if not found:
            raise DatasetError(
                label, f"has no picture called {label.stem} below {self.folder}", "bring it, or remove this"
            )
        if len(found) > 1:
            raise DatasetError(label, f"may be of {found[0]} and of {found[1]}", "give each picture a name of its own")
        self._unlabelled.discard(found[0])
        return found[0]

    def _shared(self, picture: Path, label: Path) -> int:
        """How many folders both lie in, from the top; train/images/ and train/annotations/ share one."""
        ways = [p.parent.relative_to(self.folder).parts for p in (picture, label)]
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ways, strict=False)))

    def check_all_found(self, what: str, fix: str) -> None:
        """Refuse pictures that no label file was of: nobody said that they are good."""
        if self._unlabelled:
            raise DatasetError(min(self._unlabelled), what, fix)

    def group_of(self, picture: Path) -> str:
        """Each picture is its own, by its way from the folder."""
        return (picture.parent.relative_to(self.folder) / group_of(picture)).as_posix()

    def split_of(self, file: Path) -> Split | None:
        """The part of the split a folder on its way is called after."""
        ways = file.parent.relative_to(self.folder).parts
        return next((SPLIT_NAMES[name.lower()] for name in ways if name.lower() in SPLIT_NAMES), None)
