"""Near-duplicates: how alike two pictures of one camera look, as a number of bits.

A difference hash (dHash; N. Krawetz, "Kind of Like That", 2013): the picture as 9 x 8 mean values, one bit for each
pair of horizontal neighbours, set where the right one is brighter. Light that changes as a whole changes no bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BITS = 64
_COLUMNS, _ROWS = 9, 8


def dhash(image: NDArray[np.uint8]) -> int:
    """64 bits of a picture (H, W) or (H, W, 3), at least 9 x 8 px; ValueError for a smaller one."""
    height, width = image.shape[:2]
    if height < _ROWS or width < _COLUMNS:
        raise ValueError(f"a picture of at least {_COLUMNS} x {_ROWS} px is needed, not {width} x {height}")
    # Every 2nd px of a large picture: the means barely move, and it costs a quarter.
    step = 2 if min(height, width) >= 256 else 1
    grey = image[::step, ::step]
    if grey.ndim == 3:
        grey = grey[..., 1]  # green is most of what luminance is
    sums = np.add.reduceat(grey, _edges(grey.shape[0], _ROWS), axis=0, dtype=np.uint32)
    means = np.add.reduceat(sums, _edges(grey.shape[1], _COLUMNS), axis=1).astype(np.float64)
    means /= np.diff(np.append(_edges(grey.shape[1], _COLUMNS), grey.shape[1]))
    bits = means[:, 1:] > means[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(a: int, b: int) -> int:
    """How many of the 64 bits differ."""
    return (a ^ b).bit_count()


def _edges(length: int, parts: int) -> NDArray[np.intp]:
    return np.arange(parts) * length // parts
