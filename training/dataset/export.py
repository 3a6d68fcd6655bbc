"""A snapshot in another program's format: COCO, Label Studio, YOLO, MVTec AD, masks. `haltline dataset export`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from inspection.errors import DatasetError
from inspection.exchange import Entry, Form, Written, write
from training.dataset.item import decode_mask, read_bytes
from training.dataset.snapshot import BOXES_SUFFIX, Snapshot
from training.dataset.whole import whole


def export_snapshot(snapshot: Snapshot, form: Form, out: Path) -> Written:
    """Write the pictures and the format's files to `out`, which must not exist; it appears whole or not at all."""
    with whole(out, DatasetError(out, "exists already", "choose another name")) as partial:
        manifest = snapshot.manifest
        written = write(form, _entries(snapshot), manifest.label_book, f"haltline snapshot {manifest.id}")
        for name, there in written.pictures.items():
            (partial / there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot.folder / name, partial / there)
        for name, content in written.documents.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        if not written.pictures:
            raise DatasetError(snapshot.folder, f"has no picture that {form} has a word for", "use label-studio")
    return written


def _entries(snapshot: Snapshot) -> Iterator[Entry]:
    """Filled boxes are no outline: those samples go as their boxes."""
    for sample in snapshot.samples:
        mask = None
        if sample.mask and not sample.mask.endswith(BOXES_SUFFIX):
            path = snapshot.folder / sample.mask
            mask = decode_mask(read_bytes(path), path)
        yield Entry(sample, mask)
