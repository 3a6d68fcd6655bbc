"""Pictures anywhere below a folder, for formats that do not prescribe where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from inspection.errors import DatasetError
from inspection.samples import Split
from training.dataset.item import SPLIT_NAMES, SUFFIXES, Item, Names, Target, good_item, group_of

OR_GOOD = (
    "; or lay the good ones into a folder called good, or name it, --rename FOLDER=good; or --unlabelled-good where "
    "all without one are good; move away what nobody looked at"
)


def files_below(folder: Path, *suffixes: str) -> list[Path]:
    """The files with one of these endings, in any case, in a folder and all inside it. Hidden ones are what other
    programs keep for themselves, such as the `._a.xml` that a Mac packs."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    return sorted(p for p in found if not any(name[0] == "." for name in p.relative_to(folder).parts))


class Beneath:
    """The pictures in a folder and all inside it."""

    def __init__(self, folder: Path, without: Collection[str] = ()) -> None:
        """`without`: names of folders that hold other pictures than the labelled ones."""
        if not folder.is_dir():
            raise DatasetError(folder, "is not a folder", "check the path")
        self.folder = folder
        self.pictures = [p for p in files_below(folder, *SUFFIXES) if not set(self.way(p)) & set(without)]
        self._of_stem: dict[str, list[Path]] = {}
        for p in self.pictures:
            self._of_stem.setdefault(p.stem, []).append(p)
        self._unlabelled = set(self.pictures)
        self.folders = self._named()

    def leave_out(self, files: Iterable[Path]) -> None:
        """These are no pictures, but masks of some."""
        gone = set(files)
        self.pictures = [p for p in self.pictures if p not in gone]
        self._of_stem = {stem: [p for p in found if p not in gone] for stem, found in self._of_stem.items()}
        self._unlabelled -= gone
        self.folders = self._named()

    def _named(self) -> set[str]:
        """What the folders are called that pictures lie in, near or far."""
        return {name for folder in {p.parent for p in self.pictures} for name in folder.relative_to(self.folder).parts}

    def picture_of(self, label: Path, named: str = "", stem: str = "") -> Path:
        """The picture of a label file: the one it names from where it lies, else the one of its name (`stem`, where it
        is not the file's own), of several the one that lies nearest."""
        stem = stem or label.stem
        if named and (there := label.parent / named.replace("\\", "/")) in self._unlabelled:
            found = [there]
        else:
            # 3.xml in train/ is of no 3.png in test/, though it be the only one left: names count from 1 in each.
            apart = self.folders & set(self.way(label))
            found = [p for p in self._of_stem.get(stem, []) if apart <= set(self.way(p))]
            most = max((self._shared(p, label) for p in found), default=(0, 0))
            found = [p for p in found if self._shared(p, label) == most]
        if not found:
            raise DatasetError(label, f"has no picture called {stem} below {self.folder}", "bring it, or remove this")
        if len(found) > 1:
            raise DatasetError(label, f"may be of {found[0]} and of {found[1]}", "give each picture a name of its own")
        self._unlabelled.discard(found[0])
        return found[0]

    def _shared(self, picture: Path, label: Path) -> tuple[int, int]:
        """How many folders both lie in, from the top: train/images/ and train/annotations/ share one. And how many of
        one name: test/crack/ and ground_truth/crack/ share one too."""
        a, b = self.way(picture), self.way(label)
        from_top = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
        return from_top, (Counter(a) & Counter(b)).total()

    def unlabelled(self, target: Target, source: str, what: str, fix: str) -> Iterator[Item]:
        """The pictures that no label file was of, as good ones: those in a folder called good, and all where whoever
        imports says so. DatasetError: nobody said that they are good."""
        for image in sorted(self._unlabelled):
            if not (target.unlabelled_good or self.lies_with_good(image, target.names)):
                raise DatasetError(image, what, fix)
            yield good_item(image, self.group_of(image), source, self.split_of(image))

    def way(self, picture: Path) -> tuple[str, ...]:
        """The folders it lies in, from the top."""
        return picture.parent.relative_to(self.folder).parts

    def lies_with_good(self, picture: Path, names: Names) -> bool:
        return names.lies_with_good(self.way(picture))

    def group_of(self, picture: Path) -> str:
        """Each picture is its own, by its way from the folder."""
        return (picture.parent.relative_to(self.folder) / group_of(picture)).as_posix()

    def split_of(self, file: Path) -> Split | None:
        """The part of the split a folder on its way is called after."""
        return next((SPLIT_NAMES[name.lower()] for name in self.way(file) if name.lower() in SPLIT_NAMES), None)
