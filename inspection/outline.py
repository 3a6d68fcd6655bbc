"""Masks as outlines and run lengths, and back, to the pixel.

An outline runs along the edges of pixels, so x and y are whole numbers with the origin at the top left corner of the
top left pixel, and filling it by pixel centres gives the very mask it was traced from. An outline with a hole cannot be
said in formats that know polygons only: those regions travel as run lengths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Bits = NDArray[np.bool_]
Points = NDArray[np.float64]
"""(n, 2): x, y of the corners in order; the last joins the first."""

_TURNS = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}
"""Clockwise on the screen, where y points down."""


@dataclass(frozen=True, slots=True)
class Region:
    """One connected piece of a mask, all of it in `bits` (H, W). `outline` is None where it has a hole."""

    bits: Bits
    outline: Points | None
    box_px: tuple[int, int, int, int]


def regions(bits: ArrayLike) -> list[Region]:
    """The pieces of a (H, W) mask that hang together by their sides, by the place of their boxes."""
    mask = np.asarray(bits, bool)
    _, of_pixel, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    found = []
    for k, (x, y, w, h, _area) in enumerate(stats[1:].tolist(), start=1):
        piece = of_pixel == k
        loops = trace(piece[y : y + h, x : x + w])
        outline = loops[0] + (x, y) if len(loops) == 1 else None
        found.append(Region(piece, outline, (x, y, w, h)))
    return sorted(found, key=lambda r: (r.box_px[1], r.box_px[0]))


def trace(bits: Bits) -> list[Points]:
    """The closed loops around a (H, W) mask along the edges of its pixels, the mask to the right of the way."""
    inside = np.pad(bits, 1)
    edges: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    here = inside[1:-1, 1:-1]
    for (dx, dy), beside, start in (
        ((1, 0), inside[:-2, 1:-1], (0, 0)),  # above is out: along the top, to the right
        ((0, 1), inside[1:-1, 2:], (1, 0)),
        ((-1, 0), inside[2:, 1:-1], (1, 1)),
        ((0, -1), inside[1:-1, :-2], (0, 1)),
    ):
        for y, x in np.argwhere(here & ~beside).tolist():
            edges[x + start[0], y + start[1]].append((dx, dy))
    loops = []
    while edges:
        loops.append(_loop(edges))
    return loops


def _loop(edges: dict[tuple[int, int], list[tuple[int, int]]]) -> Points:
    """Walk until the start comes again, leave the used edges out, and keep only the corners."""
    first = min(edges)
    at, way, corners = first, edges[first][0], []
    while True:
        left = edges[at]
        # Where two pixels touch at a corner, turning right keeps them apart: pieces hang together by sides.
        going = _TURNS[way] if _TURNS[way] in left else way if way in left else left[0]
        if going != way or at == first:
            corners.append(at)
        left.remove(going)
        if not left:
            del edges[at]
        way, at = going, (at[0] + going[0], at[1] + going[1])
        if at == first:
            return np.array(corners, np.float64)


def fill(shape: tuple[int, int], outlines: Sequence[ArrayLike]) -> Bits:
    """The (H, W) mask of all pixels whose centre lies inside one of the outlines (even-odd), in px.

    An outline too thin to hold any centre is drawn as a line of pixels: what somebody marked does not vanish.
    """
    bits = np.zeros(shape, bool)
    for outline in outlines:
        points = np.asarray(outline, np.float64).reshape(-1, 2)
        if len(points) < 3:
            continue
        inner = _fill_one(shape, points)
        if not inner.any():
            thin = np.zeros(shape, np.uint8)
            cv2.polylines(thin, [np.floor(points).astype(np.int32)], True, 1)
            inner = thin > 0
        bits |= inner
    return bits


def _fill_one(shape: tuple[int, int], points: Points) -> Bits:
    bits = np.zeros(shape, bool)
    after = np.roll(points, -1, axis=0)
    top, bottom = max(0, int(np.floor(points[:, 1].min()))), min(shape[0], int(np.ceil(points[:, 1].max())))
    for y in range(top, bottom):
        centre = y + 0.5
        crosses = (points[:, 1] > centre) != (after[:, 1] > centre)
        a, b = points[crosses], after[crosses]
        cuts = np.sort(a[:, 0] + (centre - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1]))
        for left, right in zip(cuts[::2], cuts[1::2], strict=True):
            bits[y, max(0, int(np.ceil(left - 0.5))) : max(0, int(np.ceil(right - 0.5)))] = True
    return bits


# ── run lengths ─────────────────────────────────────────────────────────────────────────────────────────────────────


def coco_counts(bits: Bits) -> list[int]:
    """COCO's uncompressed run lengths: down the columns, beginning with zeros (pycocotools, mask.py)."""
    flat = bits.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def from_coco_counts(counts: str | Sequence[int], shape: tuple[int, int]) -> Bits:
    """(H, W) from COCO's counts, as a list or compressed text. ValueError when they do not fill the shape."""
    runs = _uncompressed(counts) if isinstance(counts, str) else list(counts)
    if sum(runs) != shape[0] * shape[1] or min(runs, default=0) < 0:
        raise ValueError(f"the counts add up to {sum(runs)} px, the picture has {shape[0] * shape[1]}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(shape[1], shape[0]).T)


def _uncompressed(text: str) -> list[int]:
    """Six bits a character, differences to the run before last (cocoapi, maskApi.c, rleFrString)."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            if at >= len(text):
                raise ValueError("the counts end in the middle of a number")
            c = ord(text[at]) - 48
            value |= (c & 0x1F) << (5 * shift)
            more, at, shift = bool(c & 0x20), at + 1, shift + 1
            if not more and c & 0x10:
                value |= -1 << (5 * shift)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


_RUN_BITS = (3, 4, 8, 16)
"""Label Studio's brush: how many bits a run's length may take."""


def brush_rle(bits: Bits) -> list[int]:
    """Label Studio's brush run lengths: bytes of the RGBA picture row by row, its alpha 255 where the mask is.

    After label_studio_sdk.converter.brush.encode_rle: 32 bits of length, 5 of word size - 1, four sizes of 4 bits,
    then runs: 1 bit "same value", 2 bits which size, the length - 1, the value.
    """
    rgba = np.repeat(bits.ravel(), 4).astype(np.uint8) * 255
    out = [f"{rgba.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    ends = np.concatenate([np.flatnonzero(np.diff(rgba)) + 1, [rgba.size]])
    start = 0
    for end in ends.tolist():
        value, longest = int(rgba[start]), 1 << _RUN_BITS[-1]
        while start < end:
            length = min(end - start, longest)
            size = next(n for n, width in enumerate(_RUN_BITS) if length <= 1 << width)
            out.append(f"1{size:02b}{length - 1:0{_RUN_BITS[size]}b}{value:08b}")
            start += length
    text = "".join(out)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8))


def from_brush_rle(rle: Sequence[int], shape: tuple[int, int]) -> Bits:
    """(H, W) where the alpha is over one half. ValueError for anything that is no such list."""
    bits = f"{int.from_bytes(bytes(rle)):0{8 * len(rle)}b}"
    at = 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise ValueError("the run lengths end too early")
        return int(bits[at - count : at], 2)

    total, word = read(32), read(5) + 1
    wanted = 4 * shape[0] * shape[1]
    if total != wanted:
        raise ValueError(f"the brush has {total} bytes, a picture of {shape[1]} x {shape[0]} px has {wanted}")
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.uint8)
    i = 0
    while i < total:
        same = read(1)
        j = i + 1 + read(sizes[read(2)])
        if same:
            values[i:j] = read(word)
        else:
            values[i:j] = [read(word) for _ in range(j - i)]
        i = j
    return np.asarray(values.reshape(*shape, 4)[..., 3] > 127)
