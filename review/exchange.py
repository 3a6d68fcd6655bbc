"""The hub's labels in other programs' formats: a labelled folder -> `inspection.exchange`'s, in its place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from inspection.errors import DatasetError
from inspection.exchange import Entry, Form, Written, write
from inspection.label_book import LabelBook
from inspection.samples import BOOK_FILE, SAMPLES_FILE, Sample

Wanted = Literal["labelled", Form]
WANTED: tuple[Wanted, ...] = ("labelled", *get_args(Form))
"""`labelled` is our own folder, the only one that keeps everything."""


def convert(folder: Path, form: Wanted) -> Written | None:
    """Turn the labelled folder `folder`, whole or not at all; None where it already is what is wanted."""
    if form == "labelled":
        return None
    if form not in WANTED:
        raise DatasetError("format", f"is {form!r}", f"one of {', '.join(WANTED)}")
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        staging.chmod(0o755)
        book = LabelBook.model_validate_json((folder / BOOK_FILE).read_bytes())
        written = write(form, _entries(folder), book, f"haltline review export, {book.id}")
        if not written.pictures:
            raise DatasetError("labels", f"{form} has no word for any of them: nobody painted", "use label-studio")
        for name, there in written.pictures.items():
            (staging / there).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(staging / there)
        for name, content in written.documents.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_bytes(content)
        shutil.rmtree(folder)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return written


def _entries(folder: Path) -> Iterator[Entry]:
    for line in (folder / SAMPLES_FILE).read_text(encoding="utf-8").splitlines():
        sample = Sample.model_validate_json(line)
        mask = None
        if sample.mask:
            found = cv2.imread(str(folder / sample.mask), cv2.IMREAD_GRAYSCALE)
            if found is None:
                raise DatasetError(folder / sample.mask, "does not read", "export again")
            mask = np.asarray(found, np.uint8)
        yield Entry(sample, mask)
