"""Reads pictures with masks beside them: folders of pairs, the layout of MVTec AD, and a table in a CSV file.

A mask of 0 and 255 is binary: its class is the row's label, the defect's folder, or the only class there is. Smaller
values are class numbers, but that 0 and 1 alone are as 0 and 255 where a folder names the class. A mask holds the one
or the other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from inspection.errors import DatasetError
from inspection.exchange import KEY
from inspection.samples import Split
from training.dataset.beneath import files_below
from training.dataset.item import (
    SPLIT_NAMES,
    SUFFIXES,
    Item,
    Mask,
    Names,
    Target,
    binary_to_class,
    decode_mask,
    good_item,
    pictures,
    pictures_by_stem,
    read_bytes,
    read_text,
)
from training.dataset.lineage import read_file_beside, with_folder_lineage
from training.dataset.yolo import yolo_classes, yolo_item, yolo_names

COLUMNS = ("image", "mask_or_boxes", "label", "group")
ALSO_CALLED = {"mask": "mask_or_boxes", "suggested_split": "split"}
GOOD_MASK = "a good picture has a mask of zeros; or --unlabelled-good where those without a mask are good"
SOME_DEFECT = "defect"
"""A row's label beside a box file whose boxes say which: it names no class unless there is one of that name."""
JPEG = b"\xff\xd8"
JPEG_APART = 16
"""Greys so close are one: at quality 10 what JPEG left of 2,000 drawn masks' areas lay within 7 of 0 or 255."""
FAINT, LEAST_INNER = 48, 9
GREYS_OF_A_MASK = 4


# ── images/ and masks/ ──────────────────────────────────────────────────────────────────────────────────────────


def is_pairs(folder: Path) -> bool:
    """Whether both folders lie there, without others in them, and some picture has a mask of its very name."""
    images, masks = folder / "images", folder / "masks"
    if not (images.is_dir() and masks.is_dir()):
        return False
    flat = all(p.parent in (images, masks) for inner in (images, masks) for p in files_below(inner, *SUFFIXES))
    return flat and bool({p.stem for p in pictures(images)} & {p.stem for p in pictures(masks)})


def import_pairs(folder: Path, target: Target) -> Iterator[Item]:
    """images/x.* with masks/x.*; each picture is its own group, unless an export of ours says which."""
    masks, images = pictures_by_stem(folder / "masks"), pictures_by_stem(folder / "images")
    known = read_file_beside(folder).get("pictures", {})
    for image in images.values():
        if image.stem not in masks:
            if not target.unlabelled_good:
                raise DatasetError(image, f"has no mask in {folder / 'masks'}", GOOD_MASK)
            yield good_item(image, image.stem, "pairs")
            continue
        item = masked_item(image, masks[image.stem], (), target, group=image.stem, source="pairs")
        yield with_folder_lineage(item, known.get(image.stem), folder, target)
    if alone := [mask for stem, mask in masks.items() if stem not in images]:
        raise DatasetError(alone[0], f"has no picture of its name in {folder / 'images'}", "bring it, or remove this")


def masked_item(
    image: Path,
    mask_files: Path | Sequence[Path],
    said: tuple[str, ...],
    target: Target,
    group: str,
    source: str,
    split: Split | None = None,
    named_by: object = None,
    in_folder: bool = False,
) -> Item:
    """`said`: the classes its row names, or `in_folder` its folder. A picture of a defect that nobody outlined is no
    good picture.

    Of several masks each marks some of its defects.
    """
    first, *more = [mask_files] if isinstance(mask_files, Path) else mask_files
    mask = _read_mask(first, said, target, named_by, in_folder)
    for file in more:
        one = _read_mask(file, said, target, named_by, in_folder)
        if one.shape != mask.shape:
            raise DatasetError(file, f"is of another size than {first}", "export them together")
        mask = np.where(one > 0, one, mask)
    item = Item(
        where=str(named_by or image),
        data=read_bytes(image, named_by),
        suffix=image.suffix,
        group=group,
        mask=mask,
        split=split,
        source=source,
    )
    if said and not mask.any():
        return _nowhere(item, said, first)
    of_one = f"; where its numbers all mean {said[0]} write 255 for each, or say --classes defect" if said else ""
    if absent := [c for c in said if not (mask == target.class_id(c, item.where)).any()]:
        fix = f"mend label or mask{of_one if len(said) == 1 else ''}"
        raise DatasetError(item.where, f"is labelled {absent[0]}, but its mask shows none", fix)
    shown = [c for k, c in enumerate(target.classes, 1) if said and (mask == k).any()]
    if unsaid := [c for c in shown if c not in said]:
        raise DatasetError(
            item.where,
            f"is labelled {'+'.join(said)}, and its mask shows {unsaid[0]} too",
            f"name it {'+'.join(shown)}, or mend the mask{of_one if len(said) == 1 else ''}",
        )
    return item


def _read_mask(file: Path, said: tuple[str, ...], target: Target, named_by: object, in_folder: bool) -> Mask:
    encoded = read_bytes(file, named_by)
    mask = decode_mask(encoded, file)
    if not encoded.startswith(JPEG):  # which may blur a plain 0 and 255 into any of these
        _check_no_picture(mask, file)
        _check_one_meaning(mask, target, file)
    elif 0 < mask.max(initial=0) < 128:
        raise DatasetError(file, "is a JPEG of class numbers, which it blurs into others", "save the mask as PNG")
    _check_one_mark(mask, target, file)
    if len(said) == 1 and in_folder and mask.max(initial=0) == 1:
        mask = mask * np.uint8(255)
    # A mask of 0 and 255 is of the one class that is named; with several it must hold class numbers.
    return _with_class(mask, said[0] if len(said) == 1 else None, target, file)


def _nowhere(item: Item, said: tuple[str, ...], empty: Path) -> Item:
    """The item as a defect that nobody placed."""
    doubt = f"is called {'+'.join(said)}, and {empty} shows nothing: taken as a defect without a place"
    return replace(item, mask=None, labels=said, doubt=doubt)


def _check_no_picture(mask: Mask, where: Path) -> None:
    """Refuse a grey picture in a mask's place, such as one that was saved as JPEG and as PNG: what is bright in it
    would be a defect. Most of it is neither black nor white, and a mask's grey is one grey."""
    between = np.sort(np.bincount(mask.ravel(), minlength=256)[JPEG_APART : 256 - JPEG_APART])
    if 2 * between.sum() > mask.size and 2 * between[-GREYS_OF_A_MASK:].sum() < between.sum():
        raise DatasetError(
            where,
            "is taken for a mask by its name, and is a picture of many greys",
            "bring its mask, or take it away; where folders say what their pictures show: --format folders",
        )


def _check_one_meaning(mask: Mask, target: Target, where: Path) -> None:
    """Refuse class numbers beside a mark of 255, as data sets put around their defects: either reading loses the other.

    Blur around 0 and 255 has small values too, but others beside them and beside 255.
    """
    held = np.flatnonzero(np.bincount(mask.ravel()))
    numbers, marks = held[(held > 0) & (held <= len(target.classes))], held[held > len(target.classes)]
    if len(numbers) and len(marks) == 1 and marks[0] >= 128:
        raise DatasetError(
            where,
            f"is a mask that holds {numbers[0]}, a class number, and {marks[0]} as well",
            "write 0 where nobody judged, and class numbers; or 0 and 255 alone",
        )


def _check_one_mark(mask: Mask, target: Target, where: Path) -> None:
    """Refuse a mask of greys, such as 200 for one class and 255 for another: as 0 and 255 it would be of one class, and
    what is under 128 sound. With a single class it may hold any from 128 on."""
    if mask.max(initial=0) < 128 or len(marks := _marks(mask)) < 2:
        return
    if len(target.classes) > 1:
        fix = "write class numbers from 1, or 255 alone for the class its row or folder names"
    elif marks[0] < 128:
        fix = "write 255 where the defect is, and 0 where it is not"
    else:
        return
    greys = f"{', '.join(str(m) for m in marks[:-1])} and {marks[-1]}"
    raise DatasetError(where, f"is a mask with areas of {greys}, which 0 and 255 have no word for", fix)


def _marks(mask: Mask) -> list[int]:
    """The greys beside 0 that fill areas of their own, of 5x5 px or as much: smoothed edges fill none, and what JPEG
    leaves of a plain area lies close by. Under FAINT they are what smoothing leaves of a thin line, and count as 0."""
    around = np.ones((3, 3), np.uint8)
    inner = mask[cv2.erode(mask, around) == cv2.dilate(mask, around)]
    counts = np.bincount(inner, minlength=256)
    found: list[list[int]] = []
    for grey in range(FAINT, 256):
        if counts[grey] < LEAST_INNER:
            continue
        if not found or grey - found[-1][-1] > JPEG_APART:
            found.append([])
        found[-1].append(grey)
    return [max(near, key=lambda grey: int(counts[grey])) for near in found]


def _with_class(mask: Mask, cls: str | None, target: Target, where: Path) -> Mask:
    if mask.max(initial=0) < 128:
        return np.where(mask > 0, np.uint8(1), np.uint8(0)) if target.merge else mask
    if cls is None and len(target.classes) > 1:
        raise DatasetError(
            where, f"is a mask of 0 and 255, and there are {len(target.classes)} classes", "use class numbers from 1"
        )
    return binary_to_class(mask, target.class_id(cls or target.classes[0], where))


# ── MVTec AD ────────────────────────────────────────────────────────────────────────────────────────────────────


def is_mvtec(folder: Path) -> bool:
    """Without masks it is a folder for each class, as classifiers are given."""
    outlined = (folder / "ground_truth").is_dir() or (folder / f"{KEY}.json").is_file()
    return outlined and (folder / "train" / "good").is_dir() and (folder / "test").is_dir()


def mvtec_classes(folder: Path, names: Names) -> tuple[str, ...]:
    kinds = sorted(p for p in (folder / "test").iterdir() if p.is_dir()) if (folder / "test").is_dir() else []
    if not kinds or not (folder / "train").is_dir():
        raise DatasetError(
            folder, "has no train/ and test/", "lay out train/good, test/<defect>, ground_truth/<defect>"
        )
    return names.classes((p.name for p in kinds if p.name != "good"), folder)


def import_mvtec(folder: Path, target: Target) -> Iterator[Item]:
    """One category: train/good, test/<defect>, ground_truth/<defect>/<name>_mask.png, or as MVTec LOCO has them a
    mask for each defect in ground_truth/<defect>/<name>/; perhaps validation/good.

    Its own split is not kept: its training part has no defect, and this network learns from defects. A group is a
    picture. An export of ours brings both.
    """
    known = read_file_beside(folder).get("pictures", {})
    parts = [name for name in ("train", "test", "validation", "val", "valid") if (folder / name).is_dir()]
    for part in parts:
        for kind in sorted(p for p in (folder / part).iterdir() if p.is_dir()):
            for image in pictures(kind):
                group = f"{folder.name}-{part}-{kind.name}-{image.stem}"
                cls = None if kind.name == "good" else target.called(kind.name, kind)
                if cls is None:
                    data = read_bytes(image)
                    item = Item(str(image), data, image.suffix, group, labels=(), source="mvtec")
                    yield _as_good(with_folder_lineage(item, known.get(image.stem), folder, target), folder)
                    continue
                masks = _mvtec_masks(folder / "ground_truth" / kind.name, image.stem)
                item = masked_item(image, masks, (cls,), target, group, "mvtec", named_by=image, in_folder=True)
                yield with_folder_lineage(item, known.get(image.stem), folder, target)


def _mvtec_masks(folder: Path, stem: str) -> list[Path]:
    of_several = folder / stem
    return (pictures(of_several) if of_several.is_dir() else []) or [folder / f"{stem}_mask.png"]


def _as_good(item: Item, folder: Path) -> Item:
    """Of a picture that was moved to the good ones since it was exported, the folder counts."""
    if not item.labels:
        return item
    doubt = f"is {'+'.join(item.labels)} in {folder / KEY}.json and lies with the good ones, which counts"
    return replace(item, labels=(), annotations=(), soft_labels=None, doubt=doubt)


# ── a table ─────────────────────────────────────────────────────────────────────────────────────────────────────


def table_rows(path: Path, only: str | None) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of the CSV; `only` keeps the rows of one value in the column `dataset`.

    Semicolons part the columns where the first line has no comma: so Excel saves it in half of Europe.
    """
    text = read_text(path)
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in first and "," not in first else ",")
    named = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = [ALSO_CALLED.get(name, name) for name in named]
    if missing := [name for name in ("image", "label") if name not in reader.fieldnames]:
        fix = "columns are image, label, and where there is such a thing mask_or_boxes, group, split"
        raise DatasetError(f"{path}:1", f"has no column {missing[0]!r}", fix)
    wanted = [name for name in reader.fieldnames if name in COLUMNS]
    rows = []
    for row in reader:
        if short := [name for name in wanted if row[name] is None]:
            raise DatasetError(f"{path}:{reader.line_num}", f"ends before the column {short[0]!r}", "fill the row up")
        if any(cell.strip() for cell in row.get(None, ())):
            raise DatasetError(
                f"{path}:{reader.line_num}",
                f"goes on behind its last column: {','.join(row[None])}",
                "join the labels of one picture by +, and put quotes around a cell with a comma in it",
            )
        if not row.setdefault("group", Path(row["image"]).with_suffix("").as_posix()).strip():
            raise DatasetError(f"{path}:{reader.line_num}", "has no group", "name the part or scene it shows")
        if only is None or row.get("dataset") == only:
            rows.append((reader.line_num, {"mask_or_boxes": "", "split": "", **row}))
    if not rows:
        if only is None:
            raise DatasetError(path, "has no row", "write a picture each below the names of the columns")
        raise DatasetError(path, f"has no row of the data set {only!r}", "check --only")
    return rows


def table_classes(path: Path, only: str | None, names: Names) -> tuple[str, ...]:
    """Names from the rows' labels, sorted, as mask values count them; or from classes.txt where the rows have boxes."""
    rows = table_rows(path, only)
    first = rows[0][1]
    if first["mask_or_boxes"].endswith(".txt"):
        return yolo_classes((_root(path, first["image"]) / first["mask_or_boxes"]).parent.parent, names)
    said = {label for number, row in rows for label in _row_labels(row["label"], names, f"{path}:{number}")}
    return names.classes(sorted(said), path)


def said_labels(text: str, names: Names) -> list[str]:
    """A row's or a folder's labels: several are joined by +, none are `good` or the like."""
    return [label.strip() for label in text.split("+") if label.strip() and not names.good(label)]


def _row_labels(text: str, names: Names, where: str) -> list[str]:
    """The same of a row's cell; DatasetError where a comma may part two labels, which would be one class."""
    said = said_labels(text, names)
    if listed := next((label for label in said if "," in label and not names.renames(label)), ""):
        fix = f"join several by +; or where one class is called so: --rename {f'{listed}=NAME'!r}"
        raise DatasetError(where, f"has the label {listed!r}", fix)
    return said


def import_table(path: Path, target: Target, only: str | None = None) -> Iterator[Item]:
    """Columns image and label, and perhaps mask_or_boxes (may be empty), group, split, dataset."""
    rows = table_rows(path, only)
    root = _root(path, rows[0][1]["image"])
    for number, row in rows:
        where = f"{path}:{number}"
        image = root / row["image"]
        split = row["split"].strip().lower()
        if split not in SPLIT_NAMES:
            raise DatasetError(where, f"has the split {split!r}", "write train, val or test, or leave it empty")
        yield _row_item(row, image, SPLIT_NAMES[split], where, target, root)


def _root(path: Path, image: str) -> Path:
    """Where a table's ways begin, by a picture it names: its own folder, or of `splits/train.csv` the one above."""
    return next((p for p in (path.parent, path.parent.parent) if (p / image).is_file()), path.parent)


def _row_item(row: dict[str, str], image: Path, split: Split | None, where: str, target: Target, root: Path) -> Item:
    label, group, named = row["label"], row["group"], row["mask_or_boxes"]
    said = _row_labels(label, target.names, where)
    if named.endswith(".txt"):
        names = yolo_names((root / named).parent.parent)
        item = replace(yolo_item(image, root / named, names, target, group), split=split)
        return _as_said(item, said, names, where, target, root / named)
    labels = tuple(dict.fromkeys(cls for one in said if (cls := target.called(one, where))))
    if not named:
        return Item(where, read_bytes(image, where), image.suffix, group, labels=labels, split=split, source="table")
    item = masked_item(image, root / named, labels, target, group, "table", split, where)
    if not said and item.mask is not None and item.mask.any():
        raise DatasetError(where, f"is labelled {label or 'good'!r}, and its mask shows a defect", "mend label or mask")
    return item


def _as_said(item: Item, said: list[str], names: tuple[str, ...], where: str, target: Target, file: Path) -> Item:
    """The item of a box file, once it agrees with its row. The row names classes, or their numbers as the file does."""
    boxed = set(item.labels or ())
    given = [target.names.called(_name_said(one, names, where), where) for one in said]
    vague = SOME_DEFECT in given and SOME_DEFECT not in target.classes and not target.merge
    named = dict.fromkeys(target.class_of(cls, where) for cls in given if cls and not (vague and cls == SOME_DEFECT))
    if named and not boxed:
        return replace(_nowhere(item, tuple(named), file), where=where)
    agrees = bool(boxed) and boxed >= named.keys() if vague else boxed == named.keys()
    if not agrees:
        shown = f"boxes of {'+'.join(c for c in target.classes if c in boxed)}" if boxed else "no box"
        raise DatasetError(where, f"is labelled {'+'.join(said) or 'good'}, {file} holds {shown}", "mend one of them")
    return item


def _name_said(label: str, names: tuple[str, ...], where: str) -> str:
    if not label.isdecimal():
        return label
    if int(label) >= len(names):
        raise DatasetError(where, f"names class {label}, classes.txt has {len(names)}", "add it to classes.txt")
    return names[int(label)]
