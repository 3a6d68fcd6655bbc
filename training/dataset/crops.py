"""Cuts big pictures into crops, so that the stretches between defects serve as good parts.

A crop's label follows from its own mask. Its group stays that of the picture: two crops of one part never end up on
both sides of the split.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from inspection.errors import DatasetError
from inspection.samples import Sample
from training.dataset.item import Item, Mask, decode

SLIVER_OF_CROP = 0.004
SLIVER_OF_DEFECT = 0.5


@dataclass(frozen=True, slots=True)
class Cut:
    """Crops of `width_px` x `height_px` every `stride_px`; the last of a row lies flush with the border."""

    width_px: int
    height_px: int
    stride_px: int

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px, self.stride_px) < 16:
            raise DatasetError("--crop and --stride", f"are {self}", "use 16 px or more")


def crop_items(items: Iterable[Item], cut: Cut, left_out: list[str] | None = None) -> Iterator[Item]:
    """Each picture's crops, less those into which a defect only peeks: neither good nor a defect to learn.

    A picture whose defect nobody outlined has none, since which of them would be good? It is named in `left_out`.
    DatasetError where there is no other picture.
    """
    left_out = [] if left_out is None else left_out
    cuttable = False
    for item in items:
        mask = item.mask
        if mask is None and item.labels:
            left_out.append(item.where)
            continue
        cuttable = True
        image = decode(item.data, item.where)
        if mask is None:
            mask = np.zeros(image.shape[:2], np.uint8)
        if mask.shape != image.shape[:2]:
            yield item  # the snapshot refuses it and says why
            continue
        regions = _region_sizes(mask)
        for x, y, w, h in _windows(image.shape[1], image.shape[0], cut):
            part = np.ascontiguousarray(mask[y : y + h, x : x + w])
            if _sliver(part, regions[y : y + h, x : x + w]):
                continue
            data = cv2.imencode(".png", image[y : y + h, x : x + w])[1].tobytes()
            yield replace(
                item,
                where=f"{item.where} at {x},{y}",
                data=data,
                suffix=".png",
                mask=part,
                labels=None,
                annotations=(),
                soft_labels=None,
                label_book=None,
                source=source_of(item, x, y, w, h),
            )
    if left_out and not cuttable:
        raise DatasetError(left_out[0], "cannot be cut: it has no mask", "give it a mask, or leave out --crop")


def source_of(item: Item, x: int, y: int, w: int, h: int) -> str:
    """`SOURCE#PICTURE@x,y,w,h`; PICTURE is the beginning of the whole one's SHA-256."""
    return f"{item.source}#{hashlib.sha256(item.data).hexdigest()[:16]}@{x},{y},{w},{h}"


def parent_of(source: str) -> str:
    """What names the picture a crop was cut from; empty where it is no crop."""
    parent, at, cut = source.rpartition("@")
    return parent if at and re.fullmatch(r"\d+,\d+,\d+,\d+", cut) else ""


def pictures_of(samples: Iterable[Sample]) -> list[list[int]]:
    """Of each picture the places of its crops among `samples`; of one that is whole its own."""
    of: dict[str, list[int]] = {}
    for n, sample in enumerate(samples):
        of.setdefault(parent_of(sample.source) or sample.image, []).append(n)
    return list(of.values())


def cut_of(source: str) -> tuple[int, int, int, int] | None:
    """Where in its picture a crop lies (x, y, width, height in px); None where it is no crop."""
    if not parent_of(source):
        return None
    x, y, width, height = map(int, source.rpartition("@")[2].split(","))
    return x, y, width, height


def _windows(width_px: int, height_px: int, cut: Cut) -> Iterator[tuple[int, int, int, int]]:
    for y in _starts(height_px, cut.height_px, cut.stride_px):
        for x in _starts(width_px, cut.width_px, cut.stride_px):
            yield x, y, min(cut.width_px, width_px), min(cut.height_px, height_px)


def _starts(length: int, size: int, stride: int) -> list[int]:
    last = max(0, length - size)
    return sorted({*range(0, last + 1, stride), last})


def _region_sizes(mask: Mask) -> np.ndarray:
    """(H, W) int: how many px the defect has that a pixel belongs to, 0 where it is sound. Another class is another
    defect, however they touch."""
    found = np.zeros(mask.shape, np.int32)
    for cls in np.unique(mask[mask > 0]):
        on = (mask == cls).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(on, connectivity=8)
        found[on > 0] = stats[:, cv2.CC_STAT_AREA][labels[on > 0]]
    return found


def _sliver(part: Mask, sizes: np.ndarray) -> bool:
    """Whether of some class the crop shows few pixels, and less than half of the largest defect they belong to.

    Class by class: a whole pore in view makes the edge of a crack no crack to learn from.
    """
    for cls in np.unique(part[part > 0]):
        here = part == cls
        shown = int(here.sum())
        if shown < SLIVER_OF_CROP * part.size and shown < SLIVER_OF_DEFECT * int(sizes[here].max()):
            return True
    return False
