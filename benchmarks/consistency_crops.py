"""Crops of real scratches for `consistency_model`: `python -m benchmarks.consistency --crops`.

Windows of the hot-rolled steel of NEU-Seg whose pictures show scratches (HALTLINE_DATA, see its README). A scratch is
as long as what its outline shows in the window; the pictures have no scale, so one is assumed at which the windows
hold the sizes people differ on. The pictures a seed learns from and those it judges are different pictures.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.consistency_model import TRAIN, Scratch, Source
from inspection.errors import DatasetError
from training.dataset.rule import longest_px

SET, CLASS = "neu_seg_dedup", "scratches"
MASK_VALUE = 3
SIDE_PX, PX_PER_MM = 64, 16.0
SIZES_MM = (0.4, 4.0)
"""A window is 4 mm wide and high; a scratch may run through it aslant and be longer."""
TEST = 1600
"""Frames to judge; 1 % of 400 would be three."""
WINDOWS = 60
"""Of each picture so many places are looked at."""
EDGE_PX, LEAST_INSIDE = 4, 0.7
"""A window whose scratch is only a sliver at its edge is left out: nobody could see, and measure, that."""
TAKEN_FROM = 100
"""A size is filled from the nearest of so many windows drawn at random, so that no picture is always the one."""


@dataclass(frozen=True, slots=True)
class _Picture:
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def source(data: Path) -> Source:
    """Frames of real scratches, half of them with one. Raises DatasetError where the set is not there."""
    pictures = _read(data)

    def draw(seed: int) -> tuple[list[Scratch], list[Scratch]]:
        rng = np.random.default_rng((seed, 4))
        mixed = rng.permutation(len(pictures))
        half = len(mixed) // 2
        learn, judge = ([pictures[i] for i in part] for part in (mixed[:half], mixed[half:]))
        return _frames(learn, TRAIN, rng), _frames(judge, TEST, rng)

    return draw


def _read(data: Path) -> list[_Picture]:
    listed = data / "manifest.csv"
    if not listed.is_file():
        raise DatasetError(data, "holds no manifest.csv", "name the folder of public images with HALTLINE_DATA")
    found = []
    with listed.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["dataset"] == SET and CLASS in row["label"].split("+"):
                image = cv2.imread(str(data / row["image"]), cv2.IMREAD_COLOR)
                mask = cv2.imread(str(data / row["mask_or_boxes"]), cv2.IMREAD_GRAYSCALE)
                assert image is not None
                assert mask is not None
                found.append(_Picture(np.asarray(image, np.uint8), (mask == MASK_VALUE).astype(np.uint8)))
    return found


def _frames(pictures: list[_Picture], count: int, rng: np.random.Generator) -> list[Scratch]:
    """`count` windows; in every second one a scratch, its length spread evenly in the logarithm."""
    windows = [w for p in pictures for w in _windows(p, rng)]
    lengths = np.array([w.length_mm for w in windows])
    good = rng.permutation(np.flatnonzero(lengths == 0))
    bad = np.flatnonzero((lengths >= SIZES_MM[0]) & (lengths > 0))
    found, free = [], set(bad.tolist())
    for k in range(count):
        if k % 2 == 0:
            found.append(windows[good[k // 2]])
            continue
        wanted = np.exp(rng.uniform(*np.log(SIZES_MM)))
        few = rng.choice(sorted(free), TAKEN_FROM, replace=False)
        at = int(few[np.abs(np.log(lengths[few] / wanted)).argmin()])
        free.remove(at)
        found.append(windows[at])
    return found


def _windows(picture: _Picture, rng: np.random.Generator) -> list[Scratch]:
    height, width = picture.mask.shape
    found = []
    for y, x in zip(
        rng.integers(0, height - SIDE_PX + 1, WINDOWS), rng.integers(0, width - SIDE_PX + 1, WINDOWS), strict=True
    ):
        here = np.s_[y : y + SIDE_PX, x : x + SIDE_PX]
        mask = picture.mask[here]
        longest = longest_px(mask, 1)[0]
        if longest_px(mask[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX], 1)[0] >= LEAST_INSIDE * longest:
            found.append(Scratch(picture.image[here], mask, longest / PX_PER_MM))
    return found
