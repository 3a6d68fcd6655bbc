"""Crops and heat maps: the finding is inside, the scale is right, and heat lies where the affine says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import StorageError
from review.frame_cache import FrameCache
from review.frames import FolderFrames
from review.pictures import Rect, crop_around, cut, decode, heat_layer, png_size, scale_bar_mm
from tests.review.factory import png


@given(
    width=st.integers(40, 5000), height=st.integers(40, 5000), px_per_mm=st.floats(0.5, 100),
    x=st.floats(0, 1), y=st.floats(0, 1), w=st.floats(0.001, 1), h=st.floats(0.001, 1),
)  # fmt: skip
def test_the_crop_is_inside_the_frame_and_holds_the_finding(
    width: int, height: int, px_per_mm: float, x: float, y: float, w: float, h: float
) -> None:
    box = (x * width * (1 - w), y * height * (1 - h), w * width, h * height)
    crop = crop_around(box, width, height, px_per_mm)
    assert crop.x >= 0
    assert crop.y >= 0
    assert crop.x + crop.w <= width
    assert crop.y + crop.h <= height
    middle = box[0] + box[2] / 2, box[1] + box[3] / 2
    assert crop.x - 1 <= middle[0] <= crop.x + crop.w + 1
    assert crop.y - 1 <= middle[1] <= crop.y + crop.h + 1


def test_without_a_finding_the_whole_frame_is_shown() -> None:
    assert crop_around(None, 640, 512, 10) == Rect(0, 0, 640, 512)


@pytest.mark.parametrize(("width_mm", "bar"), [(0.5, 0.1), (12, 2), (18, 5), (64, 20), (4000, 500)])
def test_the_scale_bar_is_a_round_length(width_mm: float, bar: float) -> None:
    assert scale_bar_mm(width_mm) == bar


def test_a_cut_is_the_rectangle() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 100:130] = 255
    part = cv2.imdecode(np.frombuffer(cut(image, Rect(100, 40, 30, 20)), np.uint8), cv2.IMREAD_COLOR)
    assert part.shape == (20, 30, 3)
    assert part.min() > 240


def test_heat_lies_where_the_affine_puts_it() -> None:
    heat = np.zeros((25, 50), np.uint8)
    heat[10:12, 25:27] = 255  # in the frame, at stride 4: x 100..108, y 40..48
    layer = heat_layer(png(heat), (4, 0, 1.5, 0, 4, 1.5), Rect(80, 20, 60, 60))
    rgba = cv2.imdecode(np.frombuffer(layer, np.uint8), cv2.IMREAD_UNCHANGED)
    assert rgba.shape == (60, 60, 4)
    hot_y, hot_x = np.nonzero(rgba[..., 3] > 100)
    assert 18 <= hot_x.min() <= 21
    assert 26 <= hot_x.max() <= 30
    assert 18 <= hot_y.min() <= 21
    assert rgba[0, 0, 3] == 0, "cold is clear"


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff" * 30])
def test_what_is_no_png_is_refused(data: bytes) -> None:
    assert png_size(data) is None or png_size(data) == (0, 0)
    with pytest.raises(StorageError):
        decode(data)


def test_a_header_that_promises_too_much_is_refused_before_decoding() -> None:
    head = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes(20)
    with pytest.raises(StorageError, match="64 megapixels"):
        decode(head)


def test_a_rectangle_outside_is_refused() -> None:
    with pytest.raises(StorageError, match="no part"):
        cut(np.zeros((10, 10, 3), np.uint8), Rect(50, 50, 10, 10))


class CountingFrames(FolderFrames):
    reads = 0

    def read(self, sha: str) -> bytes:
        self.reads += 1
        return super().read(sha)


def test_a_frame_asked_for_many_times_at_once_is_decoded_once(tmp_path: Path) -> None:
    frames = CountingFrames(tmp_path)
    sha = frames.put(png(np.full((300, 400, 3), 9, np.uint8)))
    cache = FrameCache(frames)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(cache.image, [sha] * 32))
    assert frames.reads == 1
    assert all(image is images[0] for image in images)
    assert not images[0].flags.writeable


def test_old_frames_leave_the_memory(tmp_path: Path) -> None:
    frames = CountingFrames(tmp_path)
    shas = [frames.put(png(np.full((100, 100, 3), n, np.uint8))) for n in range(3)]
    cache = FrameCache(frames, max_bytes=2 * 100 * 100 * 3)
    for sha in (*shas, shas[2], shas[1], shas[0]):
        cache.image(sha)
    assert frames.reads == 4, "only the first had left"
    with pytest.raises(StorageError):
        cache.image("0" * 64)
