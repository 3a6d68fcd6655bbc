"""Frames of a snapshot in the order they were taken: what a network that remembers is trained on.

A sample whose source reads `clip:NAME@FPS#NUMBER` is frame NUMBER of that clip. `haltline render --clip-frames` and
`haltline dataset import-clips` write such sources; any single-frame model trains on the same snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.errors import DatasetError
from inspection.label_book import LabelBook
from inspection.samples import Sample
from training.augment import Window, place, relabel
from training.checkpoint import RunConfig
from training.course import Course
from training.dataset.clip_source import place_of
from training.dataset.snapshot import Snapshot
from training.examples import Example, can_be_windowed

MAX_GAP = 3  # frames that may be missing inside of a clip: a camera loses some, a duplicate is not kept
LOST_FRAME = 0.2  # of the visits skip one frame, as a camera does
JITTER = 0.5  # of a stretch: how much earlier or later it may begin


def in_clips(snapshot: Snapshot, split: str) -> list[list[Sample]]:
    """The split's frames clip by clip, in order, cut where more than MAX_GAP are missing. DatasetError without any."""
    placed = [(where, s) for s in snapshot.split(split) if (where := place_of(s.source))]
    if not placed:
        raise DatasetError(
            snapshot.folder,
            f"holds no clips for {split}",
            "make some with `haltline render weld --clip-frames 48` or `haltline dataset import-clips`",
        )
    placed.sort(key=lambda p: (p[0].clip, p[0].number))
    clips: list[list[Sample]] = [[placed[0][1]]]
    for (before, _), (where, sample) in pairwise(placed):
        if where.clip != before.clip or where.number - before.number > MAX_GAP + 1:
            clips.append([])
        clips[-1].append(sample)
    return clips


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames `start` to `start + frames` of a clip; `bad`: some frame in it holds a defect."""

    clip: int
    start: int
    bad: bool


class ClipCourse(Course):
    """Stretches of clips, as many with a defect as without; `ask.batch` counts frames, as elsewhere."""

    def __init__(self, config: RunConfig, clips: Sequence[Sequence[Example]]) -> None:
        self.frames, self.clips = config.ask.frames, clips
        self.stretches = [
            Stretch(k, start, any(e.target.any() for e in clip[start : start + self.frames]))
            for k, clip in enumerate(clips)
            for start in range(0, len(clip) - self.frames + 1, self.frames)
        ]
        if not self.stretches:
            raise DatasetError(config.snapshot, f"holds no clip of {self.frames} frames or more", "give fewer --frames")
        super().__init__(config, len(self.stretches), max(1, config.ask.batch // self.frames))
        self.windowed = can_be_windowed([e for clip in clips for e in clip])

    def visits(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self.config.ask.seed, epoch))
        kinds = [np.flatnonzero([s.bad is bad for s in self.stretches]) for bad in (True, False)]
        if not all(len(kind) for kind in kinds):
            return rng.permutation(len(self.stretches))
        half = -(-len(self.stretches) // 2)
        return rng.permutation(np.concatenate([np.resize(rng.permutation(kind), half) for kind in kinds]))[: self.units]

    def draw(self, visit: int, rng: np.random.Generator, window: Window | None) -> list[Example]:
        s = self.stretches[visit]
        clip, early = self.clips[s.clip], int(JITTER * self.frames)
        last = len(clip) - self.frames
        start = int(np.clip(s.start + rng.integers(-early, early + 1), 0, last))
        numbers = list(range(start, start + self.frames))
        if start < last and rng.random() < LOST_FRAME:
            lost = int(rng.integers(1, self.frames))
            numbers = [*numbers[:lost], *(n + 1 for n in numbers[lost:])]
        return vary_clip([clip[n] for n in numbers], rng, self.config.label_book, window, self.config.ask.augment)


def vary_clip(
    clip: Sequence[Example],
    rng: np.random.Generator,
    book: LabelBook,
    window: Window | None,
    names: Sequence[str],
) -> list[Example]:
    """One place and one light for all frames; exposure steps, the arc's flicker and noise frame by frame."""
    axes = [axis for axis in (0, 1) if "flip" in names and rng.random() < 0.5]
    flipped = [_flip(e, axes) for e in clip]
    if window:
        masks = [e.mask for e in flipped if e.mask is not None]
        union = np.max(masks, 0) if masks else None
        here = place(union, flipped[0].image.shape, window, rng)
        flipped = [_cut(e, here, book) for e in flipped]
    gains = np.ones(len(clip))
    if "light" in names:
        gains *= rng.uniform(0.6, 1.6)
        if rng.random() < 0.5:
            gains[int(rng.integers(0, len(clip))) :] *= np.exp(rng.uniform(-0.6, 0.6))
        gains *= np.exp(rng.normal(0, 0.06, len(clip)))
    return [replace(e, image=_lit(e.image, gain, rng, names)) for e, gain in zip(flipped, gains, strict=True)]


def _lit(image: np.ndarray, gain: float, rng: np.random.Generator, names: Sequence[str]) -> np.ndarray:
    lit = np.asarray(cv2.convertScaleAbs(image, alpha=float(gain)), np.uint8)
    if "noise" not in names:
        return lit
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 4))
    return np.clip(lit + noise, 0, 255).astype(np.uint8)


def _flip(example: Example, axes: Sequence[int]) -> Example:
    if not axes:
        return example
    image = np.ascontiguousarray(np.flip(example.image, tuple(axes)))
    mask = None if example.mask is None else np.ascontiguousarray(np.flip(example.mask, tuple(axes)))
    return replace(example, image=image, mask=mask)


def _cut(example: Example, here: tuple[slice, slice], book: LabelBook) -> Example:
    image = np.ascontiguousarray(example.image[here])
    if example.mask is None:
        return replace(example, image=image)
    mask = np.ascontiguousarray(example.mask[here])
    target, length_mm = relabel(example, example.mask, mask, book)
    return replace(example, image=image, mask=mask, target=target, length_mm=length_mm)
