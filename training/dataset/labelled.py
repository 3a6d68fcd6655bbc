"""Reads a labelled folder (`inspection/samples.py`), what the renderer writes and the hub exports, and a snapshot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from inspection.errors import DatasetError
from inspection.samples import HEADER_FILE, SAMPLES_FILE, LabelledHeader, Sample
from training.dataset.drawn import fill_boxes
from training.dataset.item import Item, Mask, Target, decode, decode_mask, read_bytes
from training.dataset.snapshot import BOXES_SUFFIX, first_error, parse_samples, read_snapshot


def read_header(folder: Path) -> LabelledHeader:
    path = folder / HEADER_FILE
    try:
        return LabelledHeader.model_validate_json(read_bytes(path))
    except ValidationError as e:
        raise DatasetError(path, first_error(e), "export the folder again") from e


def import_labelled(folder: Path, target: Target) -> Iterator[Item]:
    header = read_header(folder)
    _check_classes(header.classes, target, folder / HEADER_FILE)
    path = folder / SAMPLES_FILE
    for number, sample in enumerate(parse_samples(read_bytes(path), path), 1):
        yield _item(folder, sample, f"{path}:{number}", sample.label_book or header.label_book, target)


def import_snapshot(folder: Path, target: Target) -> Iterator[Item]:
    """A snapshot as a source of the next one: its pictures keep their splits, so a test group stays one for good."""
    snapshot = read_snapshot(folder)
    _check_classes(snapshot.manifest.classes, target, folder)
    for sample in snapshot.samples:
        yield _item(folder, sample, str(folder / sample.image), sample.label_book, target)


def _check_classes(classes: tuple[str, ...], target: Target, where: object) -> None:
    if classes != target.classes:
        raise DatasetError(
            where,
            f"its classes are {list(classes)}, the snapshot's {list(target.classes)}",
            "merge only sources with the same classes in the same order",
        )


def _item(folder: Path, sample: Sample, where: str, book: str | None, target: Target) -> Item:
    data = read_bytes(folder / sample.image, where)
    _check_hash(data, sample.image_sha256, folder / sample.image)
    mask, is_boxes = _mask(folder, sample, data, where, target)
    return Item(
        where=where,
        data=data,
        suffix=Path(sample.image).suffix,
        group=sample.group,
        mask=mask,
        mask_is_boxes=is_boxes,
        labels=sample.labels,
        annotations=sample.annotations,
        px_per_mm=sample.px_per_mm,
        split=sample.split,
        label_book=book,
        labelled_by=sample.labelled_by,
        soft_labels=sample.soft_labels,
        source=sample.source,
        part=sample.part,
        model=sample.model,
    )


def _mask(folder: Path, sample: Sample, image: bytes, where: str, target: Target) -> tuple[Mask | None, bool]:
    """The sample's mask; filled boxes where it has boxes for every label and no mask; None where nothing says where."""
    if sample.mask and sample.mask_sha256:
        data = read_bytes(folder / sample.mask, where)
        _check_hash(data, sample.mask_sha256, folder / sample.mask)
        return decode_mask(data, folder / sample.mask), sample.mask.endswith(BOXES_SUFFIX)
    boxed = {a.cls for a in sample.annotations if a.box_px is not None}
    if sample.labels and boxed == set(sample.labels):
        size = decode(image, where).shape
        return fill_boxes(sample.annotations, (size[0], size[1]), target, where), True
    return None, False


def _check_hash(data: bytes, sha256: str, path: Path) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DatasetError(path, "does not have the sha256 its line states", "export the folder again")
