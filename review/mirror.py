"""A frame shown mirrored, and what was drawn on it turned back. Pure; mirroring twice gives what was there before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from inspection.errors import InputError
from review.labelling import CheckedLabel, Mark

FLIPS = ("h", "v", "hv")
"""h: left and right change places; v: top and bottom; hv: both."""


def picture(png: bytes, flip: str) -> bytes:
    """A PNG of the same size and depth, mirrored; InputError when it is none."""
    if not flip:
        return png
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError("frame", "does not decode", "skip it")
    axes = tuple(axis for axis, letter in ((1, "h"), (0, "v")) if letter in flip)
    # Level 1 and not smaller: somebody waits for it.
    data = cv2.imencode(".png", np.flip(image, axes), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    return data.tobytes()


def label(made: CheckedLabel, flip: str, width_px: int, height_px: int) -> CheckedLabel:
    """The label as if it had been made on the frame as it was taken."""
    if not flip:
        return made
    mask = None if made.mask_png is None else picture(made.mask_png, flip)
    turned = tuple(_mark(mark, flip, width_px, height_px) for mark in made.marks)
    return replace(made, marks=turned, mask_png=mask)


def points(
    drawn: Sequence[tuple[float, float]], flip: str, width_px: int, height_px: int
) -> tuple[tuple[float, float], ...]:
    """Frame px with the origin at the top left corner of the top left pixel."""
    return tuple((width_px - x if "h" in flip else x, height_px - y if "v" in flip else y) for x, y in drawn)


def affine(
    to_frame: Sequence[float], flip: str, frame_px: tuple[int, int], map_px: tuple[int, int]
) -> tuple[float, ...]:
    """`heat_to_frame` of a mirrored map over a mirrored frame. It takes pixel centres to pixel centres; sizes are
    (width, height)."""
    a, b, tx, d, e, ty = to_frame
    last_x, last_y = map_px[0] - 1, map_px[1] - 1
    if "h" in flip:
        a, b, tx, d, ty = a, -b, frame_px[0] - 1 - tx - a * last_x, -d, ty + d * last_x
    if "v" in flip:
        b, tx, d, e, ty = -b, tx + b * last_y, -d, e, frame_px[1] - 1 - ty - e * last_y
    return a, b, tx, d, e, ty


def _mark(mark: Mark, flip: str, width_px: int, height_px: int) -> Mark:
    box = mark.box_px
    if box is not None:
        x, y, w, h = box
        box = (width_px - x - w if "h" in flip else x, height_px - y - h if "v" in flip else y, w, h)
    turned = points(mark.points_px, flip, width_px, height_px)
    return mark.model_copy(update={"box_px": box, "points_px": turned})
