"""Samples of a snapshot as the network sees them: fitted to the input once, then varied anew in every epoch.

Geometry is `inspection.model_io`'s, the same lines the edge runs. Every variation follows from (seed, epoch, place),
so a run that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

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
    """

    image: Image
    mask: Mask | None
    target: Floats
    length_mm: Floats
    region_mm: Floats


def load(folder: Path, sample: Sample, spec: InputSpec, book: LabelBook) -> Example:
    image = decode(read_bytes(folder / sample.image), folder / sample.image)
    mask = None
    if sample.mask:
        mask = decode_mask(read_bytes(folder / sample.mask), folder / sample.mask)
    soft = sample.soft_labels or {}
    target = np.array([soft.get(c, float(c in sample.labels)) for c in book.classes], np.float32)
    fitted = None if mask is None else mask_to_input(mask, spec)
    return Example(to_input(image, spec)[0], fitted, target, *_lengths(sample, mask, book))


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

    Raises DatasetError when their scales differ by more than the edge would tolerate. Pictures without a scale count as
    1 px a mm: lengths are then px of the picture.
    """
    scales = []
    for s in snapshot.samples:
        fit = min(width_px / s.width_px, height_px / s.height_px)
        scales.append((s.px_per_mm or 1.0) * fit)
    middle = float(np.median(scales))
    spec = InputSpec(width_px=width_px, height_px=height_px, px_per_mm=middle)
    worst = max(scales, key=lambda v: max(v / middle, middle / v))
    if max(worst / middle, middle / worst) > spec.scale_tolerance:
        raise DatasetError(
            snapshot.folder,
            f"holds pictures at {worst:.2f} and at {middle:.2f} px/mm of the {width_px}x{height_px} input",
            "train on one scale, or cut the pictures into crops with --crop",
        )
    return spec


Window = tuple[int, int]
"""Width and height in px of the part of a picture that is trained on; sides are multiples of 16."""


def vary(example: Example, rng: np.random.Generator, book: LabelBook, window: Window | None = None) -> Example:
    """The same part at another place, under another light, perhaps only a window of it. The label follows from what is
    left in the picture.
    """
    image, mask = example.image, example.mask
    for axis in (0, 1):
        if rng.random() < 0.5:
            image = np.flip(image, axis)
            mask = None if mask is None else np.flip(mask, axis)
    target, length_mm = example.target, example.length_mm
    # Without a mask nobody can tell whether the defect left the picture; with half of them a hairline stays unblurred.
    before = mask
    if mask is not None and rng.random() < 0.5:
        warp = _warp(rng, image.shape[1], image.shape[0])
        size = (image.shape[1], image.shape[0])
        image = cv2.warpAffine(image, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        mask = np.asarray(cv2.warpAffine(mask, warp, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101))
    if window:
        here = _place(mask, image.shape, window, rng)
        image, mask = image[here], None if mask is None else mask[here]
    if before is not None and mask is not None and mask is not before:
        target, length_mm = _relabel(example, before, mask, book)
    mask = None if mask is None else np.ascontiguousarray(mask)
    return Example(_relight(np.ascontiguousarray(image), rng), mask, target, length_mm, example.region_mm)


def _place(mask: Mask | None, shape: tuple[int, ...], window: Window, rng: np.random.Generator) -> tuple[slice, slice]:
    """Where the window lies: three times of four over a defect, if there is one, anywhere else otherwise."""
    (height, width), (w, h) = shape[:2], window
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    over_defect = rng.random() < 0.75
    if mask is not None and over_defect and mask.any():
        rows, cols = np.nonzero(mask)
        k = int(rng.integers(0, len(rows)))
        x = int(np.clip(cols[k] - rng.integers(0, w), 0, width - w))
        y = int(np.clip(rows[k] - rng.integers(0, h), 0, height - h))
    return slice(y, y + h), slice(x, x + w)


def can_be_windowed(examples: Sequence[Example]) -> bool:
    """Whether every defective picture says where its defect is: without that, nobody knows if a window shows it."""
    return all(e.mask is not None or not e.target.any() for e in examples)


def _warp(rng: np.random.Generator, width_px: int, height_px: int) -> NDArray[np.float64]:
    """Turn by up to 9 degrees, scale by up to 15 %, shift by up to 8 %."""
    warp = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), rng.uniform(-9, 9), rng.uniform(0.85, 1.15))
    warp[:, 2] += rng.uniform(-0.08, 0.08, 2) * (width_px, height_px)
    return np.asarray(warp)


def _relabel(example: Example, before: Mask, after: Mask, book: LabelBook) -> tuple[Floats, Floats]:
    """Targets and lengths after a warp: lengths change as their longest region did, then the rule applies."""
    target, length_mm = example.target.copy(), example.length_mm.copy()
    if not before.any():
        return target, length_mm
    old, new = longest_px(before, len(book.rules)), longest_px(after, len(book.rules))
    for k, rule in enumerate(book.rules):
        if old[k] == 0:
            continue
        left = new[k] / old[k]
        length_mm[k] *= left
        if np.isnan(length_mm[k]):  # no scale: a defect that mostly left the picture is gone
            target[k] = target[k] if left > 0.25 else 0.0
        elif example.target[k] in (0.0, 1.0):
            target[k] = float(new[k] > 0 and rule.is_defect(float(length_mm[k])))
    return target, length_mm


def _relight(image: Image, rng: np.random.Generator) -> Image:
    """Another exposure, a touch of colour, sensor noise. No blur: it would wipe hairline scratches out."""
    gain = np.float32(rng.uniform(0.7, 1.4)) * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    lit = image * gain + np.float32(rng.uniform(-12, 12))
    if rng.random() < 0.5:
        lit += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 5))
    return np.clip(lit, 0, 255).astype(np.uint8)


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
    """`image` (N, H, W, 3) uint8; `target` (N, C); `maps` and `weights` (N, C, H/s, W/s); weight 0: nobody said."""

    image: Image
    target: Floats
    maps: Floats
    weights: Floats


def collate(examples: Sequence[Example], heat_stride: int) -> Batch:
    pairs = [_map_and_weight(e, heat_stride) for e in examples]
    return Batch(
        np.stack([e.image for e in examples]),
        np.stack([e.target for e in examples]),
        np.stack([m for m, _ in pairs]),
        np.stack([w for _, w in pairs]),
    )


def _map_and_weight(example: Example, s: int) -> tuple[Floats, Floats]:
    """Per class 0/1 at the heat map's stride, on wherever a class touches the cell; and what each cell weighs.

    Weights are SegDecNet's: 1 outside, up to 1 + 3 in the middle of a defect, falling as (distance / largest)^2
    towards its edge, where outlines are uncertain.
    """
    h, w = example.image.shape[0] // s, example.image.shape[1] // s
    classes = len(example.target)
    maps, weights = np.zeros((classes, h, w), np.float32), np.ones((classes, h, w), np.float32)
    if example.mask is None:
        return maps, np.zeros_like(weights)
    cells = example.mask.reshape(h, s, w, s)
    for k in np.unique(example.mask[example.mask > 0]):
        on = (cells == k).any((1, 3)).astype(np.uint8)
        inward = cv2.distanceTransform(on, cv2.DIST_L2, 3)
        maps[k - 1] = on
        weights[k - 1] += 3 * (inward / max(float(inward.max()), 1.0)) ** 2
    return maps, weights
