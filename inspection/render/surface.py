"""A metal surface before any camera: height, colour, gloss. Defects and dirt are stamps pressed into it.

The truth comes from the stamp's geometry, never from the picture. A stamp reaches no further than its own window,
so a frame with and without a defect differs only there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.render.spec import Field, TrueDefect

SHADE_CHUNK_PX = 1024
EDGE_PX = 4


@dataclass(slots=True)
class Stamp:
    """A window of changes at (`x0`, `y0`) px: height in px, albedo factor, gloss factor, added glint, truth mask."""

    x0: int
    y0: int
    height: Field
    albedo: Field
    gloss: Field
    glint: Field
    mask: NDArray[np.bool_] | None = None

    @staticmethod
    def neutral(x0: int, y0: int, size: tuple[int, int]) -> Stamp:
        zero = np.zeros(size, np.float32)
        return Stamp(x0, y0, zero, np.ones((*size, 3), np.float32), zero + 1, zero.copy())

    @staticmethod
    def window(x: tuple[float, float], y: tuple[float, float], margin: float) -> Stamp:
        """A neutral stamp over the ranges `x` and `y` and `margin` px around them."""
        x0, y0 = math.floor(x[0] - margin), math.floor(y[0] - margin)
        return Stamp.neutral(x0, y0, (math.ceil(y[1] + margin) - y0 + 1, math.ceil(x[1] + margin) - x0 + 1))

    def grid(self) -> tuple[Field, Field]:
        """x and y of each pixel of the window, in px of the surface."""
        height, width = self.height.shape
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        return x + np.float32(self.x0), y + np.float32(self.y0)

    def faded(self, contrast: float) -> Stamp:
        """The same stamp, `contrast` times as strong; its truth stays as it is."""
        c = np.float32(contrast)
        one = np.float32(1)
        albedo = np.maximum(one + c * (self.albedo - one), np.float32(0.02))
        gloss = np.maximum(one + c * (self.gloss - one), np.float32(0))
        return Stamp(self.x0, self.y0, self.height * c, albedo, gloss, self.glint * c, self.mask)


@dataclass(frozen=True, slots=True)
class Painted:
    """A defect as pressed into a surface: its truth, and its centre line for clipping to a frame."""

    truth: TrueDefect
    class_id: int
    path_px: Field


@dataclass(frozen=True, slots=True)
class Lobe:
    """A light, seen in the slopes that mirror it to the camera: centre (x, y), width, strength."""

    slope_x: float
    slope_y: float
    width: float
    strength: float


@dataclass(frozen=True, slots=True)
class Light:
    towards_x: float
    towards_y: float
    lobes: tuple[Lobe, ...]


@dataclass(slots=True)
class Surface:
    """`height` (H, W) px, `albedo` (H, W, 3) BGR, `gloss`, `glint`, `mask` (H, W); with `loop` it repeats along x."""

    height: Field
    albedo: Field
    gloss: Field
    loop: bool
    glint: Field = field(init=False)
    mask: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.glint = np.zeros_like(self.height)
        self.mask = np.zeros(self.height.shape, np.uint8)

    def press(self, stamp: Stamp, class_id: int = 0) -> None:
        """Press a stamp in; what lies outside is lost, except that a looping surface takes it in at its other end."""
        height, width = self.height.shape
        rows, cols = stamp.height.shape
        for lap in (-width, 0, width) if self.loop else (0,):
            y0, y1 = max(0, stamp.y0), min(height, stamp.y0 + rows)
            x0, x1 = max(0, stamp.x0 + lap), min(width, stamp.x0 + lap + cols)
            if y0 < y1 and x0 < x1:
                here = (slice(y0, y1), slice(x0, x1))
                x_off = stamp.x0 + lap
                self._press(stamp, class_id, here, (slice(y0 - stamp.y0, y1 - stamp.y0), slice(x0 - x_off, x1 - x_off)))

    def _press(self, stamp: Stamp, class_id: int, here: tuple[slice, slice], there: tuple[slice, slice]) -> None:
        self.height[here] += stamp.height[there]
        self.albedo[here] *= stamp.albedo[there]
        self.gloss[here] *= stamp.gloss[there]
        # a hole swallows the glints of what was there before it
        self.glint[here] = self.glint[here] * np.minimum(stamp.gloss[there], 1) + stamp.glint[there]
        if class_id and stamp.mask is not None:
            self.mask[here] = np.where(stamp.mask[there], np.uint8(class_id), self.mask[here])

    def shade(self, light: Light) -> Field:
        """(H, W, 3) BGR radiance, about 0 to 1. It takes the place of `albedo`, to spare a long strip's memory."""
        width = self.height.shape[1]
        for start in range(0, width, SHADE_CHUNK_PX):
            stop = min(width, start + SHADE_CHUNK_PX)
            cols = np.arange(start - EDGE_PX, stop + EDGE_PX)
            cols = cols % width if self.loop else np.clip(cols, 0, width - 1)
            spec, diffuse = _reflect(self.height[:, cols], light)
            inner = slice(EDGE_PX, EDGE_PX + stop - start)
            part = self.albedo[:, start:stop]
            part *= diffuse[:, inner, None]
            part += (self.gloss[:, start:stop] * spec[:, inner] + self.glint[:, start:stop])[..., None]
        return self.albedo


def _reflect(height: Field, light: Light) -> tuple[Field, Field]:
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    diffuse = np.clip(1.0 - light.towards_x * gx - light.towards_y * gy, 0.25, 1.9).astype(np.float32)
    spec = np.zeros_like(height)
    for lobe in light.lobes:
        away = (gx - np.float32(lobe.slope_x)) ** 2 + (gy - np.float32(lobe.slope_y)) ** 2
        spec += np.float32(lobe.strength) * cv2.exp(away * np.float32(-0.5 / lobe.width**2))
    return spec, diffuse
