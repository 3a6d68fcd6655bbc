"""What is kept as evidence comes back px for px, in every reader."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge import png

RNG = np.random.default_rng(3)


def noise(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        noise(512, 640, 3),
        noise(1, 1, 3),
        noise(7, 1, 3),
        noise(1, 9, 3),
        noise(192, 240),
        noise(1, 1),
        np.zeros((40, 30), np.uint8),
        np.full((40, 30, 3), 255, np.uint8),
        np.repeat(noise(50, 40, 1), 3, axis=2),
        noise(60, 80, 3)[::2, ::2],
        noise(30, 40, 6)[..., ::2],
    ],
    ids=lambda image: f"{'x'.join(map(str, image.shape))}-{image.flags.c_contiguous}",
)
def test_a_picture_comes_back_as_it_was(image: NDArray[np.uint8]) -> None:
    data = png.encode(image)

    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if image.ndim == 2 else cv2.IMREAD_COLOR)

    assert back.shape == image.shape
    assert np.array_equal(back, image)


def test_a_grey_cameras_picture_is_kept_as_one_channel_and_one_coloured_px_is_not_lost() -> None:
    grey = np.repeat(noise(64, 80, 1), 3, axis=2)
    coloured = grey.copy()
    coloured[37, 11, 1] ^= 1

    assert png.encode(grey) == png.encode(grey[..., 0])
    assert np.array_equal(cv2.imdecode(np.frombuffer(png.encode(coloured), np.uint8), cv2.IMREAD_COLOR), coloured)


def test_another_reader_sees_the_same_colours_and_checks_every_chunk() -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = noise(33, 21, 3)
    data = png.encode(image)

    with pillow.open(io.BytesIO(data)) as seen:
        seen.verify()
    with pillow.open(io.BytesIO(data)) as seen:
        assert np.array_equal(np.asarray(seen)[..., ::-1], image)


def test_a_real_frame_is_no_larger_than_opencv_makes_it() -> None:
    scene = cv2.resize(noise(8, 10), (640, 512), interpolation=cv2.INTER_CUBIC)
    frame = np.clip(scene[..., None] + RNG.normal(0, 1.2, (512, 640, 3)), 0, 255).astype(np.uint8)
    usual = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]

    assert len(png.encode(frame)) < 1.1 * len(usual)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.float32), np.zeros((0, 4), np.uint8)]
)
def test_what_is_no_picture_is_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="a picture is"):
        png.encode(image)
