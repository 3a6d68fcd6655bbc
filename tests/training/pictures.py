"""Hand-made pictures and labelled folders, small enough to train on in seconds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspection.label_book import BOOKS, WELD_BOOK, LabelBook
from inspection.samples import LabelledHeader, Sample
from inspection.types import Call
from training.dataset.build import Shares, build
from training.dataset.item import Target
from training.dataset.labelled import import_labelled
from training.dataset.snapshot import Snapshot, read_snapshot
from training.judging import JudgedPicture

SCRATCH = BOOKS["scratch"]


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def picture(seed: int, size: tuple[int, int] = (64, 80)) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 130, (*size, 3), np.uint8)


def scratched(seed: int, length_px: int, size: tuple[int, int] = (64, 80)) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a bright horizontal scratch and its mask."""
    image, mask = picture(seed, size), np.zeros(size, np.uint8)
    y = 10 + seed % (size[0] - 20)
    mask[y : y + 2, 6 : 6 + length_px] = 1
    image[mask > 0] = 240
    return image, mask


class Folder:
    """A labelled folder that is written by hand, one picture at a time."""

    def __init__(self, root: Path, book: LabelBook = SCRATCH) -> None:
        self.root, self.book, self.lines = root, book, []  # type: Path, LabelBook, list[dict[str, Any]]
        for name in ("images", "masks"):
            (root / name).mkdir(parents=True)
        header = LabelledHeader(task=book.task, classes=book.classes, label_book=book.id, made_by="test")
        (root / "labelled.json").write_text(header.model_dump_json())

    def add(self, image: np.ndarray, mask: np.ndarray | None, **changes: Any) -> dict[str, Any]:
        number = len(self.lines)
        name = f"images/{number}.png"
        (self.root / name).write_bytes(png(image))
        line: dict[str, Any] = {
            "image": name,
            "image_sha256": hashlib.sha256(png(image)).hexdigest(),
            "width_px": image.shape[1],
            "height_px": image.shape[0],
            "px_per_mm": 10.0,
            "labels": [],
            "group": f"part-{number}",
            "label_book": self.book.id,
            "source": "test:",
        }
        if mask is not None:
            (self.root / f"masks/{number}.png").write_bytes(png(mask))
            line |= {"mask": f"masks/{number}.png", "mask_sha256": hashlib.sha256(png(mask)).hexdigest()}
        line |= changes
        self.lines.append(line)
        self.save()
        return line

    def save(self) -> None:
        (self.root / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def snapshot(self, out: Path, shares: Shares | None = None) -> Snapshot:
        target = Target(self.book.task, self.book)
        build(import_labelled(self.root, target), out, target, shares or Shares(), (str(self.root),))
        return read_snapshot(out)


def samples_of(path: Path) -> list[Sample]:
    return [Sample.model_validate_json(line) for line in path.read_text().splitlines()]


def tiny_ask(**changes: Any) -> Any:
    from training.checkpoint import Ask

    tiny = {"epochs": 12, "width_px": 80, "height_px": 64, "channels": 8, "batch": 8, "lr": 4e-3, "threads": 1}
    return Ask(**{**tiny, **changes})


def judged_picture(
    n: int, bad: int | None, scored: int, score: float, verdict: Call = Call.DEFECT, **sample: Any
) -> JudgedPicture:
    """Picture `n` with a defect of the weld's class `bad`, the class `scored` given `score`."""
    classes = len(WELD_BOOK.classes)
    target, scores = np.arange(classes) == (classes if bad is None else bad), np.full(classes, 0.05)
    scores[scored] = score
    known: dict[str, Any] = {
        "image": f"images/{n}.png",
        "image_sha256": "0" * 64,
        "width_px": 8,
        "height_px": 8,
        "labels": () if bad is None else (WELD_BOOK.classes[bad],),
        "group": f"part-{n}",
    }
    heat = np.zeros((classes, 2, 2), np.uint8)
    heat[scored, 0, 0] = int(score * 255)
    cells = np.zeros((classes, 2, 2), bool)
    if bad is not None:
        cells[bad, 0, 0] = True
    length = np.where(target, 3.0, 0.0)
    return JudgedPicture(Sample(**known | sample), target, scores, heat, cells, length, length, verdict, 1.0)
