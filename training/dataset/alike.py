"""Which pictures show the same thing: the same file saved anew, one scene at several exposures, crops that overlap.

Nothing but pixels is looked at, in three steps. Every picture is reduced to fine structure of unit contrast: light that
changes slowly over the picture, and its strength, are gone. A thumbnail of that finds each picture's nearest others,
also when it is moved by a few px or mirrored. Those are then registered at a larger size by cross-correlation (peak of
the inverse transform of F*G; C. Kuglin, D. Hines, 1975), and the correlation of what overlaps is their *likeness*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.near import dhash, distance

Floats = NDArray[np.float32]
Grey = NDArray[np.uint8]
"""(H, W) uint8."""

LIKE = 0.5
"""Likeness from which two pictures show the same thing. Measured in docs/evaluation.md: different magnet tiles reach
0.45, one tile at six exposures 0.6 and more."""
LEAST_OVERLAP = 0.3
NEAREST = 12
OTHER_SIZE = 2.5
"""A picture so many times larger or smaller than most is brought to their size: it is no crop at the same scale."""
SAME_FILE_BITS, SAME_FILE_LIKE = 4, 0.9

_THUMB, _THUMB_PAD, _SHIFT = 32, 40, 2
_LARGE, _LARGE_PAD = 224, 256
_WORTH_ALIGNING = 0.2
_WORTH_A_LOOK, _WORTH_A_LOOK_MIRRORED = 0.3, 0.4
_BLOCK = 512

MIRRORS: dict[str, tuple[slice, slice]] = {
    "": (slice(None), slice(None)),
    "mirrored": (slice(None), slice(None, None, -1)),
    "upside down": (slice(None, None, -1), slice(None)),
    "turned by 180": (slice(None, None, -1), slice(None, None, -1)),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Pictures `a` < `b` (places in the sequence) that show the same thing.

    `likeness`: correlation of the fine structure where they overlap, LIKE to 1; `overlap`: share of the smaller
    picture. `mirror`: how `b` must be turned to look like `a`. `same_file`: as good as the same picture, not only the
    same scene.
    """

    a: int
    b: int
    likeness: float
    overlap: float
    mirror: str = ""
    same_file: bool = False


def alike(
    count: int, picture: Callable[[int], Grey], groups: Sequence[str] | None = None, nearest: int = NEAREST
) -> list[Pair]:
    """Pairs among `count` pictures, `picture(k)` gives one; with `groups` only pairs across groups are looked for.

    Time grows with the square of the count in a matrix product (one core: 1,000 pictures 15 s, most of it their
    registration). A picture is held against its `nearest` only, so a burst of hundreds comes as a chain, not as every
    pair of it.
    """
    small, kept = _reduced(count, picture)
    hashes = [dhash(grey) for grey, _ in kept]

    @lru_cache(maxsize=1024)
    def large(k: int) -> tuple[Floats, NDArray[np.complexfloating]]:
        """The structure that is registered, and its spectrum: of all pictures at once they are several times theirs."""
        grey, scale = kept[k]
        detail = structure(grey, scale, 2.5)
        return detail, np.fft.rfft2(_placed(detail, _LARGE_PAD))

    found: dict[tuple[int, int], Pair] = {}
    for a, b, mirror in _candidates(small, groups, nearest):
        if (a, b) in found:
            continue
        (one, spectrum), (turned, other) = large(a), large(b)
        if mirror:
            turned = np.ascontiguousarray(turned[MIRRORS[mirror]])
            other = np.fft.rfft2(_placed(turned, _LARGE_PAD))
        likeness, overlap = _registered(one, turned, spectrum, other)
        if likeness >= LIKE and overlap >= LEAST_OVERLAP:
            same = not mirror and distance(hashes[a], hashes[b]) <= SAME_FILE_BITS and likeness >= SAME_FILE_LIKE
            found[a, b] = Pair(a, b, likeness, overlap, mirror, same)
    return sorted(found.values(), key=lambda p: (p.a, p.b))


def joined(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `count` things the smallest one it is connected with (union-find)."""
    root = list(range(count))

    def top(x: int) -> int:
        while root[x] != x:
            root[x] = root[root[x]]
            x = root[x]
        return x

    for a, b in pairs:
        low, high = sorted((top(a), top(b)))
        root[high] = low
    return [top(x) for x in range(count)]


def thumbnails(count: int, picture: Callable[[int], Grey]) -> Floats:
    """(N, N): how alike the thumbnails of `count` pictures are, -1 to 1; 1 on the diagonal."""
    small, _ = _reduced(count, picture)
    placed = np.stack([_placed(s, _THUMB_PAD) for s in small])
    return _nearness(placed, *_within(placed), _SHIFT)


# ── fine structure ──────────────────────────────────────────────────────────────────────────────────────────────


def _reduced(count: int, picture: Callable[[int], Grey]) -> tuple[list[Floats], list[tuple[Grey, float]]]:
    """Per picture its structure as a thumbnail; and the picture, shrunk, with the factor to the size of registration.

    All pictures are reduced by one factor, so that crops of one scene keep their common scale; a picture of quite
    another size than most gets a factor of its own.
    """
    middles = []
    for k in range(count):
        grey = picture(k)
        # Kept at twice the size that is needed: the common factor is known only when all have been seen.
        shrink = min(1.0, 2 * _LARGE_PAD / max(grey.shape))
        size = (max(9, round(grey.shape[1] * shrink)), max(9, round(grey.shape[0] * shrink)))
        middles.append((np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8), max(grey.shape)))
    usual = float(np.median([side for _, side in middles])) if middles else 1.0
    small, kept = [], []
    for grey, side in middles:
        reference = usual if usual / OTHER_SIZE < side < usual * OTHER_SIZE else side
        to_kept = max(grey.shape) / side
        small.append(structure(grey, _THUMB / reference / to_kept, 3.0))
        kept.append((grey, min(1.0, _LARGE / reference) / to_kept))
    return small, kept


def structure(grey: Grey, scale: float, sigma_px: float) -> Floats:
    """A picture, resized, less its local mean and divided by its local contrast: (h, w), clipped to 3 deviations."""
    size = (max(4, round(grey.shape[1] * scale)), max(4, round(grey.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    sharp = np.asarray(cv2.resize(grey, size, interpolation=how), np.float32)
    detail = sharp - cv2.GaussianBlur(sharp, (0, 0), sigma_px)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * sigma_px))
    # 2 grey levels: where there is nothing but noise of the sensor, its noise must not become structure.
    found = np.clip(detail / (contrast + 2.0), -3, 3)
    return np.asarray(found - found.mean(), np.float32)


def _placed(detail: Floats, side: int) -> Floats:
    """In the middle of a square of `side` px, its rim faded, of unit length (all zero when there is no structure)."""
    h, w = detail.shape
    faded = detail * _faded(h, w)
    y, x = max(0, (h - side) // 2), max(0, (w - side) // 2)
    faded = faded[y : y + side, x : x + side]
    square = np.zeros((side, side), np.float32)
    y, x = (side - faded.shape[0]) // 2, (side - faded.shape[1]) // 2
    square[y : y + faded.shape[0], x : x + faded.shape[1]] = faded
    length = float(np.linalg.norm(square))
    return square / np.float32(length) if length > 1e-3 else square * np.float32(0)


@lru_cache(maxsize=256)
def _faded(height: int, width: int) -> Floats:
    """(H, W): 1 in the middle, towards 0 at the rim."""
    down, across = (np.asarray(np.hanning(length + 2)[1:-1] ** 0.25, np.float32) for length in (height, width))
    return np.outer(down, across)


# ── who might be alike ──────────────────────────────────────────────────────────────────────────────────────────


def _candidates(small: list[Floats], groups: Sequence[str] | None, nearest: int) -> Iterator[tuple[int, int, str]]:
    """(a, b, mirror) with a < b: each picture with its nearest others by thumbnail, as it is and mirrored."""
    count = len(small)
    if count < 2:
        return
    thumbs = np.stack([_placed(s, _THUMB_PAD) for s in small])
    own = _numbered(groups) if groups is not None else np.arange(count)
    for mirror in MIRRORS:
        least = _WORTH_A_LOOK if not mirror else _WORTH_A_LOOK_MIRRORED
        near, who = _nearest(thumbs, own, mirror, min(nearest if not mirror else 3, count - 1))
        seen: set[tuple[int, int]] = set()
        for place, column in np.argwhere(near > least):
            pair = (min(int(place), int(who[place, column])), max(int(place), int(who[place, column])))
            if pair not in seen:
                seen.add(pair)
                yield *pair, mirror


def _nearest(thumbs: Floats, own: NDArray[np.int64], mirror: str, keep: int) -> tuple[Floats, NDArray[np.int64]]:
    """(N, keep): how near each picture's nearest ones of other groups are, -1 where there are none, and which.

    Two pictures are as near one way as the other, mirrored ones too, so each pair is computed once: a block of rows is
    held against itself and what comes after it, and says something of both.
    """
    count, reach = len(thumbs), _SHIFT if not mirror else 1
    rows, columns = MIRRORS[mirror]
    flat, box = _within(thumbs[:, rows, columns])
    near, who = np.full((count, keep), -1, np.float32), np.zeros((count, keep), np.int64)

    def offer(to: slice, values: Floats, first: int) -> None:
        """To the rows `to` what is (n, m) near to them: the pictures from `first` on."""
        if values.shape[1] > keep:
            top = np.argpartition(-values, keep - 1, axis=1)[:, :keep]
            values, names = np.take_along_axis(values, top, 1), top + first
        else:
            names = np.broadcast_to(np.arange(first, first + values.shape[1]), values.shape)
        both, of_both = np.concatenate([near[to], values], 1), np.concatenate([who[to], names], 1)
        top = np.argpartition(-both, keep - 1, axis=1)[:, :keep]
        near[to], who[to] = np.take_along_axis(both, top, 1), np.take_along_axis(of_both, top, 1)

    for start in range(0, count, _BLOCK):
        block, after = slice(start, min(start + _BLOCK, count)), slice(start + _BLOCK, count)
        found = _nearness(thumbs[block], flat[start:], box, reach)
        found[own[block][:, None] == own[None, start:]] = -1
        offer(block, found, start)
        if after.start < count:
            offer(after, np.ascontiguousarray(found[:, _BLOCK:].T), start)
    return near, who


def _within(thumbs: Floats) -> tuple[Floats, tuple[slice, slice]]:
    """(N, h * w): thumbnails less the rim that is zero in all of them, and the box that is left of them."""
    filled = np.asarray(thumbs.any(0))
    if not filled.any():
        filled[:1, :1] = True
    rows, columns = (np.flatnonzero(filled.any(axis)) for axis in (1, 0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return np.ascontiguousarray(thumbs[:, *box]).reshape(len(thumbs), -1), box


def _nearness(some: Floats, others: Floats, box: tuple[slice, slice], reach: int) -> Floats:
    """(N, M): the largest product of two thumbnails when one is moved by up to `reach` px each way; `others` and `box`
    as `_within` has them."""
    best = np.full((len(some), len(others)), -1, np.float32)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            moved = np.roll(some, (dy, dx), (1, 2))[:, *box]
            np.maximum(best, moved.reshape(len(some), -1) @ others.T, out=best)
    return best


def _numbered(groups: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.asarray(groups), return_inverse=True)[1]


# ── are they ────────────────────────────────────────────────────────────────────────────────────────────────────


def _registered(
    a: Floats, b: Floats, fa: NDArray[np.complexfloating], fb: NDArray[np.complexfloating]
) -> tuple[float, float]:
    """(likeness, overlap) of two structures at the shift where they fit best; (0, 0) when nothing fits."""
    surface = np.fft.irfft2(fa.conj() * fb, s=(_LARGE_PAD, _LARGE_PAD))
    dy, dx = (int(v) for v in np.unravel_index(int(np.argmax(surface)), surface.shape))
    if surface[dy, dx] < _WORTH_ALIGNING:
        return 0.0, 0.0
    half = _LARGE_PAD // 2
    shift = (dy - _LARGE_PAD if dy >= half else dy, dx - _LARGE_PAD if dx >= half else dx)
    rows, other_rows = _common(a.shape[0], b.shape[0], shift[0])
    columns, other_columns = _common(a.shape[1], b.shape[1], shift[1])
    one, two = a[rows, columns], b[other_rows, other_columns]
    overlap = one.size / min(a.size, b.size)
    if not (one.any() and two.any()):
        return 0.0, 0.0
    # The rim is faded here too: crops of one scene differ most in what lies beyond the part.
    weight = _faded(*one.shape)
    one, two = weight * (one - one.mean()), weight * (two - two.mean())
    length = float(np.linalg.norm(one) * np.linalg.norm(two))
    return (float((one * two).sum()) / length if length > 0 else 0.0), overlap


def _common(length: int, other: int, shift: int) -> tuple[slice, slice]:
    """What two centred stretches share when what is at x in one is at x + shift in the other: a slice of each."""
    # Where the other's first px lies in the one, as `_placed` centres both in the same square.
    start = _offset(other) - shift - _offset(length)
    low, high = max(0, start), min(length, start + other)
    return slice(low, max(low, high)), slice(low - start, max(low, high) - start)


def _offset(length: int) -> int:
    return (_LARGE_PAD - length) // 2 if length <= _LARGE_PAD else -((length - _LARGE_PAD) // 2)
