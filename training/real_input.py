"""Judges the recipe on photographs of real welds: `python -m training.real_input` (HALTLINE_DATA, default
../shared/data).

The same commands as for anything else: import as crops, train, export. Then a camera pans over the pictures of the test
groups, which nothing was trained on, behind the guard that runs on the edge. What comes out stays in var/: the
pictures' licences do not allow a model trained on them to be shipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from inspection.errors import ConfigError, InputError
from inspection.types import Image
from training.dataset.build import Shares
from training.dataset.item import Item, decode
from training.dataset.sources import make_target, open_source
from training.judging import StreamFrame, StreamResult, judge_stream
from training.served import Served, read_bundle

WORK = Path("var/real")
STEP_PX = 16  # the camera moves this far from one frame to the next
K, N = 2, 3
IN_VIEW = 0.3  # of a defect's px, or of a tenth of the frame: from then on it must be caught


@dataclass(frozen=True, slots=True)
class RealSet:
    """`crop` is the camera's window in px of the photograph, `size` the network's input."""

    name: str
    crop: tuple[int, int]
    stride: int
    size: str


SETS = (
    RealSet("weld_seg", (480, 384), 384, "320x256"),
    RealSet("lohi_weld_100", (192, 160), 96, "192x160"),
)


def main(minutes: float = 5.0) -> None:
    data = Path(os.environ.get("HALTLINE_DATA", "../shared/data"))
    manifest = data / "manifest.csv"
    if not manifest.is_file():
        raise ConfigError("HALTLINE_DATA", f"{manifest} is not there", "set it to the folder of the public pictures")
    columns = ("pictures", "frames", "defects", "caught", "missed", "false halts", "per 1,000 frames")
    table = Table(
        *columns, title=f"A camera panning over test pictures, {STEP_PX} px a frame, halt at {K} of {N} frames"
    )
    for real in SETS:
        bundle = make_bundle(real, manifest, minutes)
        pictures, r = pan_over_tests(read_bundle(bundle), real, manifest)
        counts = (r.frames, r.defects, r.caught, len(r.missed), r.false_halts)
        table.add_row(f"{real.name}: {pictures}", *map(str, counts), f"{1000 * r.false_halts / r.frames:.1f}")
    Console().print(table)


def make_bundle(real: RealSet, manifest: Path, minutes: float) -> Path:
    """Import, train, export by the commands anybody would type. What is there already is not made again."""
    snapshot, run, bundle = (WORK / f"{real.name}-{part}" for part in ("snapshot", "run", "bundle"))
    crop = f"{real.crop[0]}x{real.crop[1]}"
    cut = ["--crop", crop, "--stride", str(real.stride), "--resplit"]
    steps = [
        (snapshot, ["dataset", "import", str(manifest), "--only", real.name, "--out", str(snapshot), *cut]),
        (bundle, ["train", str(snapshot), "--out", str(run), "--minutes", str(minutes), "--size", real.size]),
        (bundle, ["export", str(run), "--name", "real", "--version", "0.0.1", "--out", str(bundle)]),
    ]
    for makes, arguments in steps:
        if not makes.exists():
            WORK.mkdir(parents=True, exist_ok=True)
            print("haltline", *arguments, flush=True)
            subprocess.run([sys.executable, "-m", "haltline", *arguments], check=True)
    return bundle


def pan_over_tests(served: Served, real: RealSet, manifest: Path) -> tuple[int, StreamResult]:
    """Pan over every whole picture of the test groups; a fresh guard for each, since evidence ends with a picture."""
    source = open_source(manifest, only=real.name)
    target = make_target([source], None, None, None, None)
    total, pictures = StreamResult(0, 0, 0, 0, ()), 0
    for item in source.items(target):
        if Shares().of(item.group) == "test" and item.mask is not None:
            total += judge_stream(served, pan(item, real.crop), K, N)
            pictures += 1
    return pictures, total


def pan(item: Item, window: tuple[int, int]) -> Iterator[StreamFrame]:
    """Frames of a camera that moves over the picture strip by strip, STEP_PX a frame."""
    image, mask = decode(item.data, item.where), item.mask
    assert mask is not None
    count, regions = cv2.connectedComponents((mask > 0).astype(np.uint8), connectivity=8)
    sizes = np.bincount(regions.ravel(), minlength=count)
    width, height = min(window[0], image.shape[1]), min(window[1], image.shape[0])
    for y in _stops(image.shape[0], height, height):
        for x in _stops(image.shape[1], width, STEP_PX):
            here = (slice(y, y + height), slice(x, x + width))
            yield _frame(np.ascontiguousarray(image[here]), regions[here], sizes, item.where)


def _stops(length: int, window: int, step: int) -> list[int]:
    return sorted({*range(0, length - window + 1, step), length - window})


def _frame(image: Image, regions: np.ndarray, sizes: np.ndarray, where: str) -> StreamFrame:
    shown = np.bincount(regions.ravel(), minlength=len(sizes))
    in_view = {k for k in range(1, len(sizes)) if shown[k] >= IN_VIEW * min(sizes[k], 0.1 * regions.size)}
    peeks = any(shown[k] and k not in in_view for k in range(1, len(sizes)))
    return StreamFrame(image, 1.0, frozenset(f"{where} #{k}" for k in in_view), peeks)


if __name__ == "__main__":
    try:
        main(*(float(a) for a in sys.argv[1:2]))
    except InputError as e:
        sys.exit(f"{e}")
    except subprocess.CalledProcessError as e:
        sys.exit(e.returncode)
