"""dHash: the same scene in other light is near, another scene is far."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.near import BITS, dhash, distance
from inspection.render import DefectSpec, Seam


def test_known_answers() -> None:
    rising = np.tile(np.arange(9, dtype=np.uint8) * 10, (8, 1))
    assert dhash(rising) == 2**64 - 1
    assert dhash(rising[:, ::-1]) == 0
    one = np.zeros((8, 9), np.uint8)
    one[0, 1] = 1  # only the first pair of the first row rises
    assert dhash(one) == 1 << 63
    assert distance(0, 2**64 - 1) == BITS
    assert distance(0b1011, 0b0010) == 2


@pytest.mark.parametrize("shape", [(512, 640, 3), (256, 256), (72, 90), (301, 257, 3)])
def test_every_size_gives_the_hash_of_its_means(shape: tuple[int, ...]) -> None:
    """A picture of 9 x 8 flat tiles has the hash of those 72 values, whatever its size and rounding of tiles."""
    values = np.random.default_rng(1).permutation(72).reshape(8, 9).astype(np.uint8)
    rows = np.arange(shape[0]) * 8 // shape[0]
    columns = np.arange(shape[1]) * 9 // shape[1]
    image = values[rows][:, columns]
    assert distance(dhash(np.dstack([image] * 3) if len(shape) == 3 else image), dhash(values)) <= 3


def test_light_as_a_whole_changes_nothing() -> None:
    image = np.random.default_rng(2).integers(0, 100, (64, 72), np.uint8)
    assert dhash(image) == dhash(image + 100)


def test_a_picture_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="9 x 8 px"):
        dhash(np.zeros((8, 8), np.uint8))


def test_a_standing_seam_is_near_and_one_a_second_on_is_far() -> None:
    seam = Seam("scratch", 3, length_mm=80, defects=[DefectSpec("scratch", 4.0, at_mm=(40, 25))], speed_mm_s=15, fps=30)
    first = dhash(seam.frame(0, flicker=0).image)
    standing = [distance(first, dhash(seam.frame(0, flicker=k).image)) for k in range(1, 10)]
    moved = distance(first, dhash(seam.frame(30, flicker=30).image))
    assert max(standing) <= 6
    assert moved > 12
