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
    small, large, hashes = _reduced(count, picture)
    spectrum = lru_cache(maxsize=1024)(lambda k: np.fft.rfft2(_placed(large[k], _LARGE_PAD)))
    found: dict[tuple[int, int], Pair] = {}
    for a, b, mirror in _candidates(small, groups, nearest):
        if (a, b) in found:
            continue
        turned = large[b] if not mirror else np.ascontiguousarray(large[b][MIRRORS[mirror]])
        other = spectrum(b) if not mirror else np.fft.rfft2(_placed(turned, _LARGE_PAD))
        likeness, overlap = _registered(large[a], turned, spectrum(a), other)
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
    small, _, _ = _reduced(count, picture)
    placed = np.stack([_placed(s, _THUMB_PAD) for s in small])
    return _nearness(placed, placed, _SHIFT)


# ── fine structure ──────────────────────────────────────────────────────────────────────────────────────────────


def _reduced(count: int, picture: Callable[[int], Grey]) -> tuple[list[Floats], list[Floats], list[int]]:
    """Per picture its structure as a thumbnail and at the size of registration, and its hash.

    All pictures are reduced by one factor, so that crops of one scene keep their common scale; a picture of quite
    another size than most gets a factor of its own.
    """
    middles = []
    for k in range(count):
        grey = picture(k)
        # Kept at twice the size that is needed: the common factor is known only when all have been seen.
        shrink = min(1.0, 2 * _LARGE_PAD / max(grey.shape))
        size = (max(9, round(grey.shape[1] * shrink)), max(9, round(grey.shape[0] * shrink)))
        middles.append((cv2.resize(grey, size, interpolation=cv2.INTER_AREA), max(grey.shape)))
    usual = float(np.median([side for _, side in middles])) if middles else 1.0
    small, large = [], []
    for kept, side in middles:
        reference = usual if usual / OTHER_SIZE < side < usual * OTHER_SIZE else side
        to_kept = max(kept.shape) / side
        small.append(structure(np.asarray(kept), _THUMB / reference / to_kept, 3.0))
        large.append(structure(np.asarray(kept), min(1.0, _LARGE / reference) / to_kept, 2.5))
    return small, large, [dhash(np.asarray(kept)) for kept, _ in middles]


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
    faded = detail * np.outer(_fade(h), _fade(w))
    y, x = max(0, (h - side) // 2), max(0, (w - side) // 2)
    faded = faded[y : y + side, x : x + side]
    square = np.zeros((side, side), np.float32)
    y, x = (side - faded.shape[0]) // 2, (side - faded.shape[1]) // 2
    square[y : y + faded.shape[0], x : x + faded.shape[1]] = faded
    length = float(np.linalg.norm(square))
    return square / np.float32(length) if length > 1e-3 else square * np.float32(0)


def _fade(length: int) -> Floats:
    return np.asarray(np.hanning(length + 2)[1:-1] ** 0.25, np.float32)


# ── who might be alike ──────────────────────────────────────────────────────────────────────────────────────────


def _candidates(small: list[Floats], groups: Sequence[str] | None, nearest: int) -> Iterator[tuple[int, int, str]]:
    """(a, b, mirror) with a < b: each picture with its nearest others by thumbnail, as it is and mirrored."""
    count = len(small)
    if count < 2:
        return
    thumbs = np.stack([_placed(s, _THUMB_PAD) for s in small])
    own = _numbered(groups) if groups is not None else np.arange(count)
    seen: set[tuple[int, int, str]] = set()
    for mirror, (rows, columns) in MIRRORS.items():
        other = np.ascontiguousarray(thumbs[:, rows, columns])
        reach = _SHIFT if not mirror else 1
        least = _WORTH_A_LOOK if not mirror else _WORTH_A_LOOK_MIRRORED
        for start in range(0, count, _BLOCK):
            block = slice(start, min(start + _BLOCK, count))
            near = _nearness(thumbs[block], other, reach)
            near[own[block][:, None] == own[None]] = -1
            keep = min(nearest if not mirror else 3, count - 1)
            top = np.argpartition(-near, keep - 1, axis=1)[:, :keep]
            for row, place in enumerate(range(start, block.stop)):
                for b in top[row]:
                    pair = (min(place, int(b)), max(place, int(b)), mirror)
                    if near[row, b] > least and pair not in seen:
                        seen.add(pair)
                        yield pair


def _nearness(some: Floats, others: Floats, reach: int) -> Floats:
    """(N, M): the largest product of two thumbnails when one is moved by up to `reach` px each way."""
    flat = others.reshape(len(others), -1).T
    best = np.full((len(some), len(others)), -1, np.float32)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            np.maximum(best, np.roll(some, (dy, dx), (1, 2)).reshape(len(some), -1) @ flat, out=best)
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
    weight = np.outer(_fade(one.shape[0]), _fade(one.shape[1]))
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
