"""Which importer reads a source, and what a snapshot of several sources is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from inspection.errors import DatasetError
from inspection.label_book import BOOKS, ClassRule, LabelBook
from inspection.samples import BOOK_FILE, HEADER_FILE
from training.dataset.boxes import (
    coco_book,
    coco_classes,
    import_coco,
    import_yolo,
    is_coco,
    yolo_classes,
)
from training.dataset.item import Item, Target, class_name, read_bytes
from training.dataset.label_studio import (
    import_label_studio,
    is_label_studio,
    label_studio_book,
    label_studio_classes,
)
from training.dataset.labelled import import_labelled, import_snapshot, read_header
from training.dataset.lineage import book_of_folder
from training.dataset.pairs import import_mvtec, import_pairs, import_table, mvtec_classes, table_classes
from training.dataset.snapshot import SNAPSHOT_FILE, first_error, read_snapshot


class Format(StrEnum):
    AUTO = "auto"
    LABELLED = "labelled"
    SNAPSHOT = "snapshot"
    MVTEC = "mvtec"
    COCO = "coco"
    LABEL_STUDIO = "label-studio"
    YOLO = "yolo"
    PAIRS = "pairs"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Source:
    """A path and how to read it. `only` keeps one data set of a table. `path` of COCO is the json file."""

    path: Path
    format: Format
    only: str | None = None

    def items(self, target: Target) -> Iterator[Item]:
        match self.format:
            case Format.LABELLED:
                return import_labelled(self.path, target)
            case Format.SNAPSHOT:
                return import_snapshot(self.path, target)
            case Format.MVTEC:
                return import_mvtec(self.path, target)
            case Format.COCO:
                return import_coco(self.path, target)
            case Format.LABEL_STUDIO:
                return import_label_studio(self.path, target)
            case Format.YOLO:
                return import_yolo(self.path, target)
            case Format.TABLE:
                return import_table(self.path, target, self.only)
            case _:
                return import_pairs(self.path, target)

    def book(self) -> LabelBook | None:
        """The label book the source was labelled under; None when its format knows none."""
        if self.format is Format.COCO:
            return coco_book(self.path)
        if self.format is Format.LABEL_STUDIO:
            return label_studio_book(self.path)
        if self.format in (Format.YOLO, Format.MVTEC, Format.PAIRS):
            return book_of_folder(self.path)
        if self.format is Format.SNAPSHOT:
            return read_snapshot(self.path).manifest.label_book
        if self.format is not Format.LABELLED:
            return None
        header = read_header(self.path)
        if header.label_book is None:
            return None
        if (self.path / BOOK_FILE).is_file():
            return read_book(self.path / BOOK_FILE)
        known = BOOKS.get(header.task)
        if known is None or known.id != header.label_book:
            raise DatasetError(
                self.path / HEADER_FILE,
                f"was labelled under {header.label_book}, which is not known here",
                "give the book with --label-book FILE.json",
            )
        return known

    def classes(self) -> tuple[str, ...]:
        match self.format:
            case Format.LABELLED:
                return read_header(self.path).classes
            case Format.MVTEC:
                return mvtec_classes(self.path)
            case Format.COCO:
                return coco_classes(self.path)
            case Format.LABEL_STUDIO:
                return label_studio_classes(self.path)
            case Format.YOLO:
                return yolo_classes(self.path)
            case Format.TABLE:
                return table_classes(self.path, self.only)
            case _:
                return ("defect",)


def open_source(path: Path, wanted: Format = Format.AUTO, only: str | None = None) -> Source:
    """The source at `path`, its format recognised by the files that lie there."""
    if not path.exists():
        raise DatasetError(path, "does not exist", "check the path")
    if wanted is Format.AUTO:
        return _recognise(path, only)
    if wanted is Format.COCO and path.is_dir():
        return Source(_only(path, is_coco, "COCO files"), Format.COCO)
    if wanted is Format.LABEL_STUDIO and path.is_dir():
        return Source(_only(path, is_label_studio, "Label Studio files"), Format.LABEL_STUDIO)
    return Source(path, wanted, only)


def _recognise(path: Path, only: str | None) -> Source:
    if path.is_file():
        if path.suffix == ".csv":
            return Source(path, Format.TABLE, only)
        if is_coco(path):
            return Source(path, Format.COCO)
        if is_label_studio(path):
            return Source(path, Format.LABEL_STUDIO)
    elif (path / SNAPSHOT_FILE).is_file():
        return Source(path, Format.SNAPSHOT)
    elif (path / HEADER_FILE).is_file():
        return Source(path, Format.LABELLED)
    elif (path / "train" / "good").is_dir() and (path / "test").is_dir():
        return Source(path, Format.MVTEC)
    elif (path / "classes.txt").is_file():
        return Source(path, Format.YOLO)
    elif (path / "images").is_dir() and (path / "masks").is_dir():
        return Source(path, Format.PAIRS)
    elif any(is_coco(p) for p in _jsons(path)):
        return Source(_only(path, is_coco, "COCO files"), Format.COCO)
    elif any(is_label_studio(p) for p in _jsons(path)):
        return Source(_only(path, is_label_studio, "Label Studio files"), Format.LABEL_STUDIO)
    raise DatasetError(path, "is in no format that is known here", f"name it with --format: {', '.join(Format)}")


def _only(path: Path, fits: Callable[[Path], bool], what: str) -> Path:
    found = [p for p in _jsons(path) if fits(p)]
    if len(found) != 1:
        raise DatasetError(path, f"holds {len(found)} {what}", "name the one to import")
    return found[0]


def _jsons(path: Path) -> list[Path]:
    return sorted([*path.glob("*.json"), *path.glob("annotations/*.json")])


def make_target(
    sources: list[Source], task: str | None, classes: str | None, book_file: Path | None, px_per_mm: float | None
) -> Target:
    """Task, classes and rules: --label-book, else the sources' own book, else one in which every defect counts."""
    if book_file:
        book = read_book(book_file)
        return Target(task or book.task, book, px_per_mm)
    if classes:
        names = tuple(class_name(c, "--classes") for c in classes.split(","))
        if twice := [c for c in names if names.count(c) > 1]:
            raise DatasetError("--classes", f"names {twice[0]!r} twice", "name each class once")
        return Target(_task(task, sources), plain_book(_task(task, sources), names), px_per_mm, merge=len(names) == 1)
    books = [b for b in (s.book() for s in sources) if b]
    if books:
        newest = max(books, key=lambda b: b.version)
        return Target(task or newest.task, newest, px_per_mm)
    names = tuple(dict.fromkeys(c for s in sources for c in s.classes()))
    return Target(_task(task, sources), plain_book(_task(task, sources), names), px_per_mm)


def _task(task: str | None, sources: list[Source]) -> str:
    if task:
        return class_name(task, "--task")
    path = sources[0].path.resolve()
    return class_name(sources[0].only or (path.stem if path.is_file() else path.name), path)


def plain_book(task: str, classes: tuple[str, ...]) -> LabelBook:
    """The book of a source without rules: whatever is outlined is a defect, however small."""
    rules = tuple(
        ClassRule(cls=c, title=c.replace("_", " ").capitalize(), limit_mm=0, rule="As outlined, of any size.")
        for c in classes
    )
    if not rules:
        raise DatasetError("--classes", "no source names a class", "name them: --classes crack,pore")
    return LabelBook(name=task.replace("_", "-"), version=1, task=task, rules=rules, reason="imported without a book")


def read_book(path: Path) -> LabelBook:
    try:
        return LabelBook.model_validate_json(read_bytes(path))
    except ValidationError as e:
        raise DatasetError(path, first_error(e), "see the label book the hub exports") from e
