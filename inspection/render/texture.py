"""Noise that metal is made of. Every function draws from the generator it is given and from nothing else.

Smooth noise is drawn on a coarse grid and enlarged: a Gaussian blur of the same reach costs fifty times as much.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.render.spec import Field


def rng_for(*key: int) -> np.random.Generator:
    """A generator of its own for each key, so that drawing one thing more never moves any other thing."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def fold(field: Field, width_px: int) -> Field:
    """Make the last axis loop after `width_px`: what was drawn beyond it fades into the beginning."""
    extra = field.shape[-1] - width_px
    if extra <= 0:
        return field
    t = np.linspace(0.0, 1.0, extra, endpoint=False, dtype=np.float32)
    looped = np.array(field[..., :width_px])
    # sqrt keeps the variance through the fade: a linear one would leave a visibly calmer stripe
    looped[..., :extra] = looped[..., :extra] * np.sqrt(t) + field[..., width_px:] * np.sqrt(1.0 - t)
    return looped


def noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: tuple[float, float], loop: bool = False) -> Field:
    """(H, W) noise of about unit variance, features `scale_px` (y, x) large; with `loop` it repeats along x."""
    height, width = shape
    sy, sx = max(1.0, scale_px[0]), max(1.0, scale_px[1])
    drawn = width + min(width, math.ceil(2 * sx)) if loop else width
    ny, nx = math.ceil(height / sy) + 2, math.ceil(drawn / sx) + 2
    grid = rng.standard_normal((ny, nx), dtype=np.float32)
    large = cv2.resize(grid, (math.ceil(nx * sx), math.ceil(ny * sy)), interpolation=cv2.INTER_CUBIC)
    y0 = int((0.5 + 0.9 * rng.random()) * sy)
    x0 = int((0.5 + 0.9 * rng.random()) * sx)
    cut = np.asarray(large[y0 : y0 + height, x0 : x0 + drawn], np.float32)
    return fold(cut, width) if loop else np.ascontiguousarray(cut)


def clouds(rng: np.random.Generator, shape: tuple[int, int], scale_px: float, loop: bool, octaves: int = 4) -> Field:
    """Fractal noise: `octaves` of `noise`, each half the size and amplitude of the one before."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        size = scale_px / 2**octave
        total += noise(rng, shape, (size, size), loop) * np.float32(0.5**octave)
    return total


def grain(rng: np.random.Generator, shape: tuple[int, int], length_px: float, fine_px: float, loop: bool) -> Field:
    """Brush marks along x, of about unit variance: long ones of many widths, broken up by short ones."""
    total = 0.8 * noise(rng, shape, (fine_px, length_px), loop)
    total += 0.5 * noise(rng, shape, (fine_px, length_px / 5), loop)
    total += 0.3 * noise(rng, shape, (2.5 * fine_px, length_px * 1.7), loop)
    total += 0.15 * noise(rng, shape, (6 * fine_px, length_px), loop)
    total += 0.35 * noise(rng, shape, (1.0, 3.0), loop)
    return total


def wander(rng: np.random.Generator, width_px: int, scale_px: float, loop: bool, octaves: int = 3) -> Field:
    """(W,) a smooth curve of about unit variance."""
    total = np.zeros(width_px, np.float32)
    for octave in range(octaves):
        total += noise(rng, (1, width_px), (1.0, scale_px / 2**octave), loop)[0] * np.float32(0.5**octave)
    return total


def smoothstep(low: float, high: float, x: NDArray[np.floating[Any]]) -> Field:
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)
