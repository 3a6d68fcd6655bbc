"""What makes a label valid, and what several people's labels of one frame add up to. Pure: no clock, store or file.

A label is one person's decision about one frame: the classes present (none = good), or "unsure"; what was measured,
in mm; and, where painted, a mask of the frame's own size. It is checked here before anything is stored, because a
mask one pixel off or under other rules would poison the training set without a trace.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from inspection.errors import InputError
from inspection.label_book import LabelBook
from inspection.samples import Annotation, BoxPx, ClassName

Mask = NDArray[np.uint8]
"""(H, W) uint8: 0 = sound, k = the k-th class of the label book, from 1."""

NEED = 2
"""How many people label a frame unless the hub was told otherwise. Two is what agreement can be measured from."""

MAX_MASK_BYTES = 8 * 2**20
MAX_ANNOTATIONS = 200
NEAR_PX = 3.0
"""Boxes of one class that are no further apart mark one place."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Mark(Annotation):
    """An annotation as drawn: `points_px` are the ends and corners of the line that was measured, frame px."""

    points_px: tuple[tuple[float, float], ...] = Field(default=(), max_length=500)

    def annotation(self) -> Annotation:
        return Annotation(cls=self.cls, box_px=self.box_px, length_mm=self.length_mm)


class LabelIn(BaseModel):
    """What the label page sends. `mask_png` is base64. No class and not unsure: the person calls the frame good."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_book: str = Field(pattern=r"^[a-z0-9_-]+@\d+$")
    classes: tuple[ClassName, ...] = Field(default=(), max_length=32)
    unsure: bool = False
    annotations: tuple[Mark, ...] = Field(default=(), max_length=MAX_ANNOTATIONS)
    mask_png: str | None = Field(default=None, max_length=MAX_MASK_BYTES * 4 // 3 + 4)


@dataclass(frozen=True, slots=True)
class CheckedLabel:
    """A label that may be stored. `classes` are in the book's order; `mask_png` is None when nothing was painted."""

    book: str
    classes: tuple[str, ...]
    unsure: bool
    marks: tuple[Mark, ...]
    mask_png: bytes | None


def check(label: LabelIn, book: LabelBook, width_px: int, height_px: int) -> CheckedLabel:
    """The label, or InputError saying which field is wrong and what to do. `width_px` x `height_px`: the frame's."""
    if label.label_book != book.id:
        raise InputError(
            "label_book", f"the label was made under {label.label_book}, now {book.id} holds", "reload the page"
        )
    known = set(book.classes)
    if stray := sorted(set(label.classes) - known):
        raise InputError("classes", f"{stray} are not in {book.id}", f"use {list(book.classes)}")
    if len(set(label.classes)) != len(label.classes):
        raise InputError("classes", f"{list(label.classes)} names a class twice", "name each class once")
    if label.unsure and label.classes:
        raise InputError("unsure", "an unsure label names no class", "send either unsure or classes")
    for n, mark in enumerate(label.annotations):
        _check_mark(mark, f"annotations.{n}", known, width_px, height_px)
    classes = tuple(c for c in book.classes if c in label.classes)
    mask = None if label.mask_png is None else _check_mask(label.mask_png, classes, book, width_px, height_px)
    if mask is None:
        return CheckedLabel(book.id, classes, label.unsure, label.annotations, None)
    marks = label.annotations + _unmeasured(mask, label.annotations, book)
    return CheckedLabel(book.id, classes, label.unsure, marks, encode_mask(mask))


def _check_mark(mark: Mark, where: str, known: set[str], width_px: int, height_px: int) -> None:
    """An annotation may name a class the label does not: a scratch measured and found too short to be a defect."""
    if mark.cls not in known:
        raise InputError(f"{where}.cls", f"{mark.cls!r} is not in the label book", f"use {sorted(known)}")
    if mark.length_mm is not None and not math.isfinite(mark.length_mm):
        raise InputError(f"{where}.length_mm", "is no finite number", "send the length in mm, or leave it out")
    if not all(math.isfinite(v) for point in mark.points_px for v in point):
        raise InputError(f"{where}.points_px", "holds no finite number", "x, y in frame px")
    if mark.box_px is not None:
        x, y, w, h = mark.box_px
        inside = x >= 0 and y >= 0 and w >= 0 and h >= 0 and x + w <= width_px + 1e-6 and y + h <= height_px + 1e-6
        if not inside:  # also where one of the four is NaN, which compares false with everything
            raise InputError(
                f"{where}.box_px",
                f"{list(mark.box_px)} leaves the frame of {width_px} x {height_px} px",
                "x, y, width, height in frame px",
            )


def _check_mask(encoded: str, classes: tuple[str, ...], book: LabelBook, width_px: int, height_px: int) -> Mask | None:
    """The mask, or None when nothing is painted."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error as e:
        raise InputError("mask_png", f"is no base64: {e}", "base64 of a PNG file") from e
    mask = decode_mask(data, width_px, height_px, len(book.rules))
    painted = {book.classes[k - 1] for k in np.unique(mask) if k}
    if stray := sorted(painted - set(classes)):
        raise InputError("mask_png", f"paints {stray}, which classes {list(classes)} lacks", "add it, or erase it")
    return mask if painted else None


def _unmeasured(mask: Mask, marks: Sequence[Mark], book: LabelBook) -> tuple[Mark, ...]:
    """A box for each painted region that no mark of its class touches. A length is only ever what somebody measured."""
    found: list[Mark] = []
    for value, cls in enumerate(book.classes, start=1):
        measured = [m for m in marks if m.cls == cls]
        _, _, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=8)
        for x, y, w, h, _area in stats[1 : MAX_ANNOTATIONS + 1].tolist():
            region = Mark(cls=cls, box_px=(x, y, w, h))
            if not any(_same_place(region, m) for m in measured):
                found.append(region)
    return tuple(found[: max(0, MAX_ANNOTATIONS - len(marks))])


def decode_mask(data: bytes, width_px: int, height_px: int, classes: int) -> Mask:
    """The (height_px, width_px) mask in a PNG; InputError for anything else. The header is judged before decoding."""
    if len(data) > MAX_MASK_BYTES:
        raise InputError("mask_png", f"{len(data)} bytes, more than {MAX_MASK_BYTES}", "8-bit greyscale, compressed")
    if len(data) < 33 or data[:8] != PNG_SIGNATURE or data[12:16] != b"IHDR":
        raise InputError("mask_png", "is no PNG file", "send an 8-bit greyscale PNG")
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if (width, height) != (width_px, height_px):
        raise InputError(
            "mask_png",
            f"is {width} x {height} px, the frame {width_px} x {height_px}",
            "send the mask at the frame's own size, not the screen's",
        )
    if (bits, colour) != (8, 0):
        raise InputError("mask_png", f"has {bits} bits, colour type {colour}", "send 8 bits, colour type 0 (grey)")
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.shape != (height_px, width_px):
        raise InputError("mask_png", "does not decode", "the file is broken: save it again")
    if int(mask.max()) > classes:
        raise InputError("mask_png", f"holds the value {int(mask.max())}", f"0 = sound, 1 to {classes} = the classes")
    return np.asarray(mask, dtype=np.uint8)


def encode_mask(mask: Mask) -> bytes:
    """PNG bytes; the same mask always gives the same file, so that the frame store keeps one of it."""
    done, data = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise InputError("mask", "cannot be written as PNG", "")
    return data.tobytes()


# -- what several labels of one frame add up to ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's current label of a frame. `mask` follows the classes of `book`; `unsure` agrees with nothing."""

    person: str
    book: str
    classes: tuple[str, ...]
    unsure: bool
    annotations: tuple[Annotation, ...]
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class Consensus:
    """`state`: agreed, majority, single (one label, allowed by the caller), too_few or disputed.

    `votes` are those that carry the decision; empty unless it is one.
    """

    state: str
    classes: tuple[str, ...] = ()
    votes: tuple[Vote, ...] = ()

    @property
    def decided(self) -> bool:
        return bool(self.votes)


def consensus(votes: Sequence[Vote], need: int = NEED, allow_single: bool = False) -> Consensus:
    """Agreed when `need` people or more name the same classes; a strict majority of more than two decides as well.

    Only labels under the newest label book among them count: older ones answered another question.
    """
    newest = max((_version(v.book) for v in votes), default=0)
    counted = [v for v in votes if _version(v.book) == newest]
    answers = Counter("?" if v.unsure else v.classes for v in counted)
    if not answers:
        return Consensus("too_few")
    (answer, n), total = answers.most_common(1)[0], len(counted)
    if not isinstance(answer, tuple):
        return Consensus("disputed" if total >= need else "too_few")
    carried = tuple(v for v in counted if v.classes == answer and not v.unsure)
    if total < need:
        single = allow_single and n == total
        return Consensus("single", answer, carried) if single else Consensus("too_few")
    if n == total:
        return Consensus("agreed", answer, carried)
    if n >= need and 2 * n > total:
        return Consensus("majority", answer, carried)
    return Consensus("disputed")


def _version(book_id: str) -> int:
    return int(book_id.rpartition("@")[2])


def merge_masks(
    votes: Sequence[Vote], classes: tuple[str, ...], order: tuple[str, ...], shape: tuple[int, int]
) -> Mask | None:
    """One (H, W) mask from those who painted: a pixel belongs to a class when at least half of them say so.

    That is the union of two and the majority of three. A good frame is sound everywhere: all 0. None when a class
    of the decision was painted by nobody: a mask that calls its place sound would teach the opposite.
    """
    merged = np.zeros(shape, np.uint8)
    painted = [v.mask for v in votes if v.mask is not None]
    best = np.zeros(shape, np.int64)
    for value, cls in enumerate(order, start=1):
        if cls not in classes:
            continue
        ayes = np.sum([mask == value for mask in painted], axis=0) if painted else best
        mine = (2 * ayes >= len(painted)) & (ayes > best)
        if not mine.any():
            return None
        merged[mine], best[mine] = value, ayes[mine]
    return merged


def merge_annotations(votes: Sequence[Vote], classes: tuple[str, ...]) -> tuple[Annotation, ...]:
    """One annotation per place: where boxes of one class from different people touch, the mean of box and length."""
    places: list[dict[str, Annotation]] = []  # person -> what that person marked there
    for vote in votes:
        for mark in (a for a in vote.annotations if a.cls in classes):
            # Two marks of one person are two defects, however close.
            homes = (p for p in places if vote.person not in p and any(_same_place(mark, o) for o in p.values()))
            home = next(homes, None)
            if home is None:
                places.append({vote.person: mark})
            else:
                home[vote.person] = mark
    return tuple(_mean(list(place.values())) for place in places)


def _same_place(a: Annotation, b: Annotation) -> bool:
    if a.cls != b.cls or a.box_px is None or b.box_px is None:
        return a.cls == b.cls and a.box_px is b.box_px
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.box_px, b.box_px
    return max(ax, bx) <= min(ax + aw, bx + bw) + NEAR_PX and max(ay, by) <= min(ay + ah, by + bh) + NEAR_PX


def _mean(place: Sequence[Annotation]) -> Annotation:
    lengths = [a.length_mm for a in place if a.length_mm is not None]
    boxes = [a.box_px for a in place if a.box_px is not None]
    box: BoxPx | None = None
    if boxes:
        x, y, w, h = (round(float(v), 2) for v in np.mean(boxes, axis=0))
        box = (x, y, w, h)
    return Annotation(
        cls=place[0].cls, box_px=box, length_mm=round(sum(lengths) / len(lengths), 3) if lengths else None
    )
