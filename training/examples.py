"""Samples of a snapshot as the network sees them: fitted to the input once, put together in batches.

Geometry is `inspection.model_io`'s, the same lines the edge runs. What varies from visit to visit is `augment.py`'s.
Outlines, boxes and labels for the whole picture may be mixed: each says what it knows, and a weight of 0 what it does
not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.bundle import InputSpec
from inspection.errors import DatasetError
from inspection.label_book import LabelBook
from inspection.model_io import mask_to_input, to_input
from inspection.samples import Sample
from inspection.types import Image
from training.dataset.item import Mask, decode, decode_mask, read_bytes
from training.dataset.rule import longest_px
from training.dataset.snapshot import BOXES_SUFFIX, Snapshot

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Example:
    """`image` (H, W, 3) and `mask` (H, W) at the input's size; `mask` None: nobody said where.

    `target` (C,) is 1 where the class is labelled, or the soft label. `length_mm` (C,) is the longest defect of each
    class, also of one under the limit; NaN where it is not known. `region_mm` (C,) is the longest connected region of
    the mask, what a finding can be held against: a row of pores is long, and each of its regions is short.
    `boxes`: the mask is filled boxes, which say where to look and not where the defect ends.
    """

    image: Image
    mask: Mask | None
    target: Floats
    length_mm: Floats
    region_mm: Floats
    boxes: bool = False


def load(folder: Path, sample: Sample, spec: InputSpec, book: LabelBook) -> Example:
    image = decode(read_bytes(folder / sample.image), folder / sample.image)
    mask = None
    if sample.mask:
        mask = decode_mask(read_bytes(folder / sample.mask), folder / sample.mask)
    soft = sample.soft_labels or {}
    target = np.array([soft.get(c, float(c in sample.labels)) for c in book.classes], np.float32)
    fitted = None if mask is None else mask_to_input(mask, spec)
    boxes = (sample.mask or "").endswith(BOXES_SUFFIX)
    return Example(to_input(image, spec)[0], fitted, target, *_lengths(sample, mask, book), boxes)


def _lengths(sample: Sample, mask: Mask | None, book: LabelBook) -> tuple[Floats, Floats]:
    """(lengths, regions) in mm: the stated length where there is one, else what is measured in the mask."""
    if mask is None or not sample.px_per_mm:
        unknown = np.full(len(book.classes), np.nan, np.float32)
        return unknown, unknown
    regions = np.array(longest_px(mask, len(book.classes)), np.float32) / np.float32(sample.px_per_mm)
    lengths = regions.copy()
    for a in sample.annotations:
        if a.length_mm is not None:
            k = book.classes.index(a.cls)
            lengths[k] = max(lengths[k], a.length_mm)
    return lengths, np.full_like(regions, np.nan) if (sample.mask or "").endswith(BOXES_SUFFIX) else regions


def input_spec(snapshot: Snapshot, width_px: int, height_px: int) -> InputSpec:
    """The input's size with the scale its training pictures have after the fit.

    Pictures without a scale count as 1 px a mm: lengths are then px of the picture. Where none has one, they may be of
    any sizes, and the model is for all scales it saw. Raises DatasetError when pictures of known scales differ by more
    than the edge would tolerate: what is measured in mm must be as large in one as in another.
    """
    middle, off = fitted_scales(snapshot, width_px, height_px)
    spec = InputSpec(width_px=width_px, height_px=height_px, px_per_mm=middle)
    tolerance = max(off, 1 / off)
    if tolerance <= spec.scale_tolerance:
        return spec
    if not any(s.px_per_mm for s in snapshot.samples):
        return spec.model_copy(update={"scale_tolerance": math.ceil(100 * tolerance) / 100})
    raise DatasetError(
        snapshot.folder,
        f"holds pictures at {middle * off:.2f} and at {middle:.2f} px/mm of the {width_px}x{height_px} input",
        "give a --size that suits all of them, train on one scale, or cut the pictures into crops with --crop",
    )


def fitted_scales(snapshot: Snapshot, width_px: int, height_px: int) -> tuple[float, float]:
    """(px/mm of the input in the middle picture, how many times as much in the one that is furthest off)."""
    fits = (min(width_px / s.width_px, height_px / s.height_px) * (s.px_per_mm or 1.0) for s in snapshot.samples)
    scales = np.array(list(fits))
    middle = float(np.median(scales))
    off = scales / middle
    return middle, float(off[np.argmax(np.maximum(off, 1 / off))])


def order(examples: Sequence[Example], rng: np.random.Generator) -> NDArray[np.int64]:
    """The places to visit in one epoch: as many defective as good, classes taking turns, nothing repeated too early."""
    hits = np.array([e.target > 0.5 for e in examples])
    good = np.flatnonzero(~hits.any(1))
    bad = [np.flatnonzero(hits[:, k]) for k in range(hits.shape[1]) if hits[:, k].any()]
    if not len(good) or not bad:
        return rng.permutation(len(examples))
    half = len(examples) // 2
    per_class = [_draw(where, -(-half // len(bad)), rng) for where in bad]
    defective = np.stack(per_class, 1).ravel()[:half]
    return rng.permutation(np.concatenate([defective, _draw(good, len(examples) - half, rng)]))


def _draw(places: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` places without repeating one before all had their turn."""
    rounds = [rng.permutation(places) for _ in range(-(-count // len(places)))]
    return np.concatenate(rounds)[:count]


@dataclass(frozen=True, slots=True)
class Batch:
    """`image` (N, H, W, 3) uint8; `target` (N, C); `maps` and `weights` (N, C, H/s, W/s); weight 0: nobody said.

    `boxed` (N, C): the map is filled boxes. `unplaced` (N, C): the class is in the picture, and nobody said where.
    """

    image: Image
    target: Floats
    maps: Floats
    weights: Floats
    boxed: Floats
    unplaced: Floats

    def __len__(self) -> int:
        return len(self.image)


def collate(examples: Sequence[Example], heat_stride: int) -> Batch:
    pairs = [_map_and_weight(e, heat_stride) for e in examples]
    present = np.stack([e.target > 0 for e in examples])
    masked = np.array([e.mask is not None for e in examples])[:, None]
    boxed = np.array([e.boxes for e in examples])[:, None]
    return Batch(
        np.stack([e.image for e in examples]),
        np.stack([e.target for e in examples]),
        np.stack([m for m, _ in pairs]),
        np.stack([w for _, w in pairs]),
        (present & boxed).astype(np.float32),
        (present & ~masked).astype(np.float32),
    )


def _map_and_weight(example: Example, s: int) -> tuple[Floats, Floats]:
    """Per class 0/1 at the heat map's stride, on wherever a class touches the cell; and what each cell weighs.

    Weights are SegDecNet's: 1 outside, up to 1 + 3 in the middle of a defect, falling as (distance / largest)^2
    towards its edge, where outlines are uncertain. A class that is not in the picture is nowhere in it, mask or no
    mask; one that is there with nobody saying where weighs nothing anywhere, and inside of a box nothing either.
    """
    h, w = example.image.shape[0] // s, example.image.shape[1] // s
    classes = len(example.target)
    maps, weights = np.zeros((classes, h, w), np.float32), np.ones((classes, h, w), np.float32)
    if example.mask is None:
        weights[example.target > 0] = 0
        return maps, weights
    cells = example.mask.reshape(h, s, w, s)
    for k in np.unique(example.mask[example.mask > 0]):
        on = (cells == k).any((1, 3)).astype(np.uint8)
        maps[k - 1] = on
        if example.boxes:
            weights[k - 1] -= on
            continue
        inward = cv2.distanceTransform(on, cv2.DIST_L2, 3)
        weights[k - 1] += 3 * (inward / max(float(inward.max()), 1.0)) ** 2
    return maps, weights


def can_be_windowed(examples: Sequence[Example]) -> bool:
    """Whether every defective picture says where its defect is: without that, nobody knows if a window shows it."""
    return all(e.mask is not None or not e.target.any() for e in examples)
