"""Which importer reads a source, and what a snapshot of several sources is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from zipfile import is_zipfile

from pydantic import ValidationError

from inspection.errors import DatasetError
from inspection.exchange import GOOD
from inspection.label_book import BOOKS, ClassRule, LabelBook
from inspection.samples import BOOK_FILE, HEADER_FILE
from training.dataset.beneath import Beneath
from training.dataset.coco import coco_book, coco_classes, coco_files, import_coco, is_coco
from training.dataset.cvat import cvat_classes, import_cvat, is_cvat
from training.dataset.folders import folder_classes, import_folders, is_class_folders
from training.dataset.item import Item, Names, Target, class_name, read_bytes
from training.dataset.label_studio import (
    import_label_studio,
    is_label_studio,
    label_studio_book,
    label_studio_classes,
)
from training.dataset.labelled import import_labelled, import_snapshot, read_header
from training.dataset.labelme import import_labelme, is_labelme, labelme_classes
from training.dataset.lineage import book_of_folder
from training.dataset.masks import import_masks, is_masks_beside, masks_classes
from training.dataset.pairs import (
    import_mvtec,
    import_pairs,
    import_table,
    is_mvtec,
    is_pairs,
    mvtec_classes,
    table_classes,
)
from training.dataset.rle import import_rle, is_rle, rle_classes
from training.dataset.snapshot import SNAPSHOT_FILE, first_error, read_snapshot
from training.dataset.supervisely import import_supervisely, is_supervisely, supervisely_classes
from training.dataset.task_name import task_of
from training.dataset.via import import_via, is_via, via_classes, via_files
from training.dataset.voc import import_voc, is_voc, voc_classes
from training.dataset.yolo import import_yolo, is_yolo, yolo_classes


class Format(StrEnum):
    AUTO = "auto"
    LABELLED = "labelled"
    SNAPSHOT = "snapshot"
    MVTEC = "mvtec"
    COCO = "coco"
    LABEL_STUDIO = "label-studio"
    LABELME = "labelme"
    CVAT = "cvat"
    VIA = "via"
    SUPERVISELY = "supervisely"
    YOLO = "yolo"
    VOC = "voc"
    PAIRS = "pairs"
    MASKS_BESIDE = "masks-beside"
    FOLDERS = "folders"
    TABLE = "table"
    RLE = "rle"


_LOOK_BELOW = {Format.VOC, Format.LABELME, Format.CVAT, Format.VIA, Format.SUPERVISELY, Format.RLE}
"""Formats whose pictures lie in any folder below, one that is called good among them."""


@dataclass(frozen=True, slots=True)
class Source:
    """A path and how to read it. `only` keeps one data set of a table. `path` of COCO is the json file, or a folder
    with one for each part of a split."""

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
            case Format.LABELME:
                return import_labelme(self.path, target)
            case Format.CVAT:
                return import_cvat(self.path, target)
            case Format.VIA:
                return import_via(self.path, target)
            case Format.SUPERVISELY:
                return import_supervisely(self.path, target)
            case Format.YOLO:
                return import_yolo(self.path, target)
            case Format.VOC:
                return import_voc(self.path, target)
            case Format.MASKS_BESIDE:
                return import_masks(self.path, target)
            case Format.FOLDERS:
                return import_folders(self.path, target)
            case Format.TABLE:
                return import_table(self.path, target, self.only)
            case Format.RLE:
                return import_rle(self.path, target)
            case _:
                return import_pairs(self.path, target)

    @property
    def lacks_labels(self) -> bool:
        """Whether a picture may lie there that nothing is said of; others list their pictures, or name folders."""
        return self.format in _LOOK_BELOW | {Format.YOLO, Format.MASKS_BESIDE, Format.PAIRS, Format.TABLE}

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

    def classes(self, names: Names) -> tuple[str, ...]:
        match self.format:
            case Format.LABELLED:
                return read_header(self.path).classes
            case Format.MVTEC:
                return mvtec_classes(self.path, names)
            case Format.COCO:
                return coco_classes(self.path, names)
            case Format.LABEL_STUDIO:
                return label_studio_classes(self.path, names)
            case Format.LABELME:
                return labelme_classes(self.path, names)
            case Format.CVAT:
                return cvat_classes(self.path, names)
            case Format.VIA:
                return via_classes(self.path, names)
            case Format.SUPERVISELY:
                return supervisely_classes(self.path, names)
            case Format.YOLO:
                return yolo_classes(self.path, names)
            case Format.VOC:
                return voc_classes(self.path, names)
            case Format.FOLDERS:
                return folder_classes(self.path, names)
            case Format.MASKS_BESIDE:
                return masks_classes(self.path, names)
            case Format.TABLE:
                return table_classes(self.path, self.only, names)
            case Format.RLE:
                return rle_classes(self.path, names)
            case _:
                return ("defect",)


def open_source(
    path: Path, wanted: Format = Format.AUTO, only: str | None = None, names: Names | None = None
) -> Source:
    """The source at `path`, its format recognised by the files that lie there, and by what `names` calls good."""
    if not path.exists():
        raise DatasetError(path, "does not exist", "check the path")
    if wanted is Format.AUTO:
        return _recognise(path, only, names or Names())
    if wanted is Format.COCO and path.is_dir():
        return _coco_of(path)
    if wanted is Format.LABEL_STUDIO and path.is_dir():
        return Source(_only(path, is_label_studio, "Label Studio files"), Format.LABEL_STUDIO)
    if wanted is Format.CVAT and path.is_dir():
        return Source(_only(path, is_cvat, "XML files of CVAT"), Format.CVAT)
    return Source(path, wanted, only)


def _recognise(path: Path, only: str | None, names: Names) -> Source:
    if found := _recognised_in_place(path, only):
        return found
    if path.is_dir():
        if categories := [p for p in _folders_in(path) if is_mvtec(p)]:
            # Read as masks anywhere below, their defects would be of one class.
            more = f", or with {categories[1].name} and others beside it" if len(categories) > 1 else ""
            raise DatasetError(path, "holds folders of MVTec AD, and is none", f"import {categories[0]}{more}")
        for fits, form in _ANYWHERE:
            if fits(path, names):
                return Source(path, form)
    raise DatasetError(path, "is in no format that is known here", _ways_out(path))


def _recognised_in_place(path: Path, only: str | None = None) -> Source | None:
    """By what lies at its own place in the source."""
    if path.is_file():
        if path.suffix == ".csv":
            return Source(path, Format.RLE) if is_rle(path) else Source(path, Format.TABLE, only)
        if is_coco(path):
            return Source(path, Format.COCO)
        if is_label_studio(path):
            return Source(path, Format.LABEL_STUDIO)
        if is_cvat(path):
            return Source(path, Format.CVAT)
        if is_via(path):
            return Source(path, Format.VIA)
    elif (path / SNAPSHOT_FILE).is_file():
        return Source(path, Format.SNAPSHOT)
    elif (path / HEADER_FILE).is_file():
        return Source(path, Format.LABELLED)
    elif is_supervisely(path):
        return Source(path, Format.SUPERVISELY)
    elif is_mvtec(path):
        return Source(path, Format.MVTEC)
    elif is_yolo(path):
        return Source(path, Format.YOLO)
    elif is_pairs(path):
        return Source(path, Format.PAIRS)
    elif any(is_coco(p) for p in [*_jsons(path), *path.glob("*/*.coco.json")]):
        return _coco_of(path)
    elif any(is_label_studio(p) for p in _jsons(path)):
        return Source(_only(path, is_label_studio, "Label Studio files"), Format.LABEL_STUDIO)
    elif via_files(path):
        return Source(path, Format.VIA)
    elif any(is_cvat(p) for p in path.glob("*.xml")):
        return Source(_only(path, is_cvat, "XML files of CVAT"), Format.CVAT)
    elif any(is_rle(p) for p in path.glob("*.csv")):
        return Source(_only(path, is_rle, "CSV files of runs"), Format.RLE)
    return None


def _ways_out(path: Path) -> str:
    """What whoever brought something unknown can do, by what lies there."""
    if is_zipfile(path):
        return "unpack it, and import the folder"
    tables = sorted(p.name for p in path.glob("*.csv")) if path.is_dir() else []
    ways = [f"import the table itself, {path / tables[0]}"] if tables else []
    ways += [f"name it with --format: {', '.join(Format)}", "or write a CSV with image,label (docs/exchange.md)"]
    kinds = sorted({p.parent.name for p in Beneath(path).pictures if p.parent != path}) if path.is_dir() else []
    if len(kinds) > 1:
        some = ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")
        ways.insert(
            0, f"where each folder is a class ({some}) say --format folders, and --rename FOLDER=good of good ones"
        )
    if meant := _meant(path):
        ways.insert(0, f"import {meant[0]}, which looks like {meant[1]}")
    return "; ".join(ways)


def _meant(path: Path) -> tuple[Path, Format] | None:
    """The one folder near `path`, up to two above it or two inside, that is a source, where no other one is."""
    inner = [p for folder in _folders_in(path) for p in (folder, *_folders_in(folder))] if path.is_dir() else []
    for near in (inner, list(path.resolve().parents)[:2]):
        found = {p: form for p in near if (form := _form_in_place(p))}
        # export/annotations/ alone holds the JSON too, and export/ the pictures.
        if len(outer := [(p, form) for p, form in found.items() if path in p.parents and p.parent not in found]) == 1:
            return outer[0]
        if len(found) == 1:
            return next(iter(found.items()))
    return None


def _form_in_place(folder: Path) -> Format | None:
    try:
        found = _recognised_in_place(folder)
    except (DatasetError, OSError):  # several files to choose from, or a folder of somebody else's
        return None
    return found.format if found else None


def _folders_in(path: Path) -> list[Path]:
    return sorted(p for p in path.glob("[!.]*") if p.is_dir())


_ANYWHERE: tuple[tuple[Callable[[Path, Names], bool], Format], ...] = (
    (lambda path, _: is_voc(path), Format.VOC),
    (lambda path, _: is_labelme(path), Format.LABELME),
    (is_masks_beside, Format.MASKS_BESIDE),
    (is_class_folders, Format.FOLDERS),
)
"""Formats whose files may lie in any folder below; the first that fits."""


def _coco_of(folder: Path) -> Source:
    files = list(coco_files(folder))
    return Source(files[0] if len(files) == 1 else folder, Format.COCO)


def _only(path: Path, fits: Callable[[Path], bool], what: str) -> Path:
    found = [p for p in [*_jsons(path), *sorted(path.glob("*.csv")), *sorted(path.glob("*.xml"))] if fits(p)]
    if len(found) != 1:
        raise DatasetError(path, f"holds {len(found)} {what}", "name the one to import")
    return found[0]


def _jsons(path: Path) -> list[Path]:
    return sorted([*path.glob("*.json"), *path.glob("annotations/*.json")])


def make_target(
    sources: list[Source],
    task: str | None,
    classes: str | None,
    book_file: Path | None,
    px_per_mm: float | None,
    names: Names | None = None,
) -> Target:
    """Task, classes and rules: --label-book, else the sources' own book, else one in which every defect counts."""
    names = names or Names()
    if book_file:
        book = read_book(book_file)
        return Target(task or book.task, book, px_per_mm, names=names)
    if classes:
        asked = tuple(class_name(c, "--classes") for c in classes.split(","))
        if twice := [c for c in asked if asked.count(c) > 1]:
            raise DatasetError("--classes", f"names {twice[0]!r} twice", "name each class once")
        book = plain_book(task_of(task, [(s.path, s.only) for s in sources]), asked)
        return Target(book.task, book, px_per_mm, merge=len(asked) == 1, names=names)
    books = [b for b in (s.book() for s in sources) if b]
    if books:
        newest = max(books, key=lambda b: b.version)
        return Target(task or newest.task, newest, px_per_mm, names=names)
    found = tuple(dict.fromkeys(c for s in sources for c in s.classes(names)))
    book = plain_book(task_of(task, [(s.path, s.only) for s in sources]), found)
    return Target(book.task, book, px_per_mm, names=names)


def check_renamed(names: Names, sources: list[Source]) -> None:
    """Refuse a new name for what no source has: misspelt, the old one would stay, and a good part a defect."""
    for said, to in names.renamed.items():
        marked = Names({**names.renamed, said: "?"})
        known = any("?" in source.classes(marked) for source in sources)
        if not known and not (to == GOOD and any(_has_folder(source, said) for source in sources)):
            raise DatasetError("--rename", f"names {said!r}, and no source calls a class so", "write it as they do")


def _has_folder(source: Source, said: str) -> bool:
    """Whether pictures of a source lie in a folder of that name, which may say that they are good."""
    if source.format not in _LOOK_BELOW:
        return False
    root = source.path.parent if source.path.is_file() else source.path
    return any(Names({said: GOOD}).renames(name) for name in Beneath(root).folders)


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
