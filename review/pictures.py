"""Cuts a picture to what a person must judge. Pure: bytes and numbers in, bytes out.

A crop shows the finding with its surroundings and is the same rectangle for the picture, its heat map and the good
reference beside it. Nothing is drawn into a picture: brackets and scale bars are laid over it by the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inspection.errors import StorageError
from inspection.types import Image

MAX_PIXELS = 64_000_000
MAX_SIDE_OUT_PX = 1400
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEAD_BYTES = 33
"""Signature and IHDR with its checksum: from here on the size is known."""


@dataclass(frozen=True, slots=True)
class Rect:
    """Whole px of the camera's frame."""

    x: int
    y: int
    w: int
    h: int

    @property
    def query(self) -> str:
        return f"x={self.x}&y={self.y}&w={self.w}&h={self.h}"


def crop_around(
    box_px: Sequence[float] | None, width_px: int, height_px: int, px_per_mm: float, aspect: float = 4 / 3,
    least_mm: float = 18,
) -> Rect:  # fmt: skip
    """The rectangle to show for a finding: three times its size, at least `least_mm` wide, `aspect` wide to high,
    inside the frame. Without a finding, the whole frame."""
    if box_px is None:
        return Rect(0, 0, width_px, height_px)
    x, y, w, h = box_px
    wide = max(3 * w, 3 * h * aspect, least_mm * px_per_mm, 128)
    wide = min(wide, width_px, height_px * aspect)
    high = wide / aspect
    left = min(max(x + w / 2 - wide / 2, 0), width_px - wide)
    top = min(max(y + h / 2 - high / 2, 0), height_px - high)
    return Rect(int(left), int(top), max(1, int(wide)), max(1, int(high)))


def scale_bar_mm(width_mm: float) -> float:
    """The longest of 1, 2, 5, 10 … mm that is at most a third of the picture's width."""
    step = 0.1
    for mm in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500):
        if mm <= width_mm / 3:
            step = mm
    return step


def png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) from a PNG's header, before anything is decoded; None when it is no PNG."""
    if len(data) < PNG_HEAD_BYTES or not data.startswith(PNG_SIGNATURE) or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) from a JPEG's frame header, before anything is decoded; None when it is no JPEG.

    Walks the segments (ITU-T T.81, B.1.1): marker, two bytes of length, content.
    """
    at = 2
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in START_OF_FRAME:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return width, height
        at += 2 + length
    return None


def picture_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a PNG or JPEG by its header; None when it is neither."""
    return png_size(data) or jpeg_size(data)


def decode(png: bytes) -> Image:
    """(H, W, 3) BGR of a stored frame; StorageError when it is no PNG or too large."""
    return _decode(png, cv2.IMREAD_COLOR)


def cut(image: Image, rect: Rect, side_px: int = MAX_SIDE_OUT_PX) -> bytes:
    """The rectangle of a frame as JPEG, its longer side at most `side_px`; StorageError when it lies outside."""
    part = _part(image, rect)
    shrink = min(side_px, MAX_SIDE_OUT_PX) / max(part.shape[:2])
    if shrink < 1:
        part = cv2.resize(part, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, 94])[1].tobytes()


def heat_layer(heat_png: bytes, heat_to_frame: Sequence[float], rect: Rect) -> bytes:
    """The heat map as a transparent PNG that lies over `cut` of the same rectangle.

    `heat_to_frame` is the 2x3 affine of the record, row by row. Cold is clear, so the picture stays visible; the
    white line is where the heat is one half.
    """
    heat = _decode(heat_png, cv2.IMREAD_GRAYSCALE)
    shrink = min(1.0, MAX_SIDE_OUT_PX / max(rect.w, rect.h))
    affine = np.array(heat_to_frame, np.float64).reshape(2, 3)
    affine[:, 2] -= (rect.x, rect.y)
    size = (max(1, round(rect.w * shrink)), max(1, round(rect.h * shrink)))
    warm = cv2.warpAffine(heat, affine * shrink, size, flags=cv2.INTER_LINEAR)
    # The bright half of the scale only: its dark end would hide what it should point at.
    tint = cv2.applyColorMap((128 + warm // 2).astype(np.uint8), cv2.COLORMAP_INFERNO)
    layer = cv2.cvtColor(tint, cv2.COLOR_BGR2BGRA)
    layer[..., 3] = np.minimum(warm.astype(np.uint16) * 3 // 4, 170).astype(np.uint8)
    contours, _ = cv2.findContours((warm >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(layer, contours, -1, (255, 255, 255, 255), max(1, size[0] // 400))
    return cv2.imencode(".png", layer)[1].tobytes()


def _decode(data: bytes, how: int) -> Image:
    size = png_size(data)
    if size is None or size[0] * size[1] > MAX_PIXELS:
        raise StorageError("the stored frame is no PNG of at most 64 megapixels")
    image: Image | None = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    if image is None:
        raise StorageError("the stored frame does not decode")
    return image


def _part(image: Image, rect: Rect) -> Image:
    part = image[rect.y : rect.y + rect.h, rect.x : rect.x + rect.w]
    if part.size == 0:
        raise StorageError(f"the picture has no part at {rect}")
    return part
