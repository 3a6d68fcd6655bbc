"""Seven families of texture. Each is (TEXTURE_PX, TEXTURE_PX), mean 0, deviation 1, and follows from its generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Rng = np.random.Generator

TEXTURE_PX = 320
LEVELS, MIDDLE = 32.0, 128.0
"""A kept texture has 32 grey levels to a deviation, around 128: a byte a pixel holds four deviations."""


@dataclass(frozen=True, slots=True)
class Texture:
    """`family` is a place in FAMILIES; `grey` is uint8, so that a thousand of them take 100 MB."""

    family: int
    grey: NDArray[np.uint8]


def textures(count: int, seed: int) -> tuple[Texture, ...]:
    """`count` of them, families in turn; about 11 ms each."""
    made = []
    for k in range(count):
        rng, family = np.random.default_rng((seed, k)), k % len(FAMILIES)
        field = FAMILIES[family][1](rng)
        if rng.random() < 0.5:
            field = standard(field + rng.uniform(0.1, 0.6) * clouds(rng, rng.uniform(0, 1.5)))
        made.append(Texture(family, np.clip(field * LEVELS + MIDDLE, 0, 255).astype(np.uint8)))
    return tuple(made)


def piece(rng: Rng, of: Sequence[Texture], size: tuple[int, int]) -> tuple[int, Field]:
    """A window (H, W) of any of them, mirrored and 0.6 to 2.2 times as large; and its place in `of`."""
    place, (height, width) = int(rng.integers(len(of))), size
    texture = of[place]
    scale = log_uniform(rng, 0.45, 1.6)
    h, w = (min(TEXTURE_PX, int(side * scale)) for side in size)
    y, x = int(rng.integers(TEXTURE_PX - h + 1)), int(rng.integers(TEXTURE_PX - w + 1))
    how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    cut = cv2.resize(texture.grey[y : y + h, x : x + w], (width, height), interpolation=how)
    for axis in (0, 1):
        if rng.random() < 0.5:
            cut = np.flip(cut, axis)
    return place, (cut.astype(np.float32) - np.float32(MIDDLE)) / np.float32(LEVELS)


def standard(field: NDArray[np.floating]) -> Field:
    field = field - field.mean()
    return np.asarray(field / (field.std() + 1e-6), np.float32)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def clouds(rng: Rng, steepness: float, stretch: float = 1.0, turn: float = 0.0) -> Field:
    """Noise whose amplitude falls as frequency to the power of -`steepness`: 0 is snow, 2 is a sky. `stretch` draws it
    out along `turn`, radians."""
    n = TEXTURE_PX
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None]
    along, across = math.cos(turn) * fx + math.sin(turn) * fy, math.cos(turn) * fy - math.sin(turn) * fx
    frequency = np.sqrt((along * stretch) ** 2 + across**2) + 1 / n
    drawn = np.fft.rfft2(rng.standard_normal((n, n), np.float32))
    return standard(np.fft.irfft2(drawn * frequency**-steepness, s=(n, n)))


def cloudy(rng: Rng) -> Field:
    return clouds(rng, rng.uniform(0.3, 2.2), rng.uniform(1, 2.5), rng.uniform(0, math.pi))


def brushed(rng: Rng) -> Field:
    turn = rng.uniform(0, math.pi)
    long = clouds(rng, rng.uniform(0.5, 1.2), rng.uniform(8, 60), turn)
    return standard(long + rng.uniform(0, 0.8) * clouds(rng, rng.uniform(0.3, 1), 3, turn))


def cells(rng: Rng) -> Field:
    """Grains around random points (Worley 1996): their tone, their borders, their domes, or a mix."""
    n, count = TEXTURE_PX, int(log_uniform(rng, 20, 1500))
    seeds = np.full((n, n), 255, np.uint8)
    seeds[rng.integers(0, n, count), rng.integers(0, n, count)] = 0
    away, owner = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    tone = rng.standard_normal(int(owner.max()) + 1).astype(np.float32)[owner]
    border = (cv2.Laplacian(owner.astype(np.float32), cv2.CV_32F) != 0).astype(np.float32)
    border = np.asarray(cv2.GaussianBlur(border, (0, 0), rng.uniform(0.5, 1.5)), np.float32)
    shares = rng.random(3) * (rng.random(3) < 0.7)
    if not shares.any():
        shares[0] = 1
    lit = rng.choice([-1, 1]) * standard(border)
    return standard(shares[0] * standard(tone) + shares[1] * lit + shares[2] * standard(np.asarray(away)))


def waves(rng: Rng) -> Field:
    """Ripples, gratings, weaves: one or two plane waves, bent, smooth or with steep flanks."""
    y, x = _grid()
    total = np.zeros_like(x)
    for _ in range(int(rng.integers(1, 3))):
        turn, length = rng.uniform(0, math.pi), log_uniform(rng, 3, 40)
        phase = 2 * math.pi * (x * math.cos(turn) + y * math.sin(turn)) / length
        wave = np.sin(phase + rng.uniform(0, 1.5) * clouds(rng, 2))
        if rng.random() < 0.5:
            wave = np.sign(wave) * np.abs(wave) ** rng.uniform(0.1, 0.6)
        total = total + wave if rng.random() < 0.5 else total * wave + wave
    return standard(np.asarray(cv2.GaussianBlur(total.astype(np.float32), (0, 0), 0.6)))


def leaves(rng: Rng) -> Field:
    """Dead leaves (Matheron 1968): shapes of one kind fallen on one another, many small and few large."""
    n, kind, size = TEXTURE_PX, int(rng.integers(4)), log_uniform(rng, 8, 60)
    ground = np.full((n, n), 0.5, np.float32)
    for _ in range(int(min(900, 6 * (n / size) ** 2))):
        _leaf(rng, ground, kind, max(2, int(rng.exponential(0.4 * size) + 0.15 * size)))
    return standard(ground + 0.1 * clouds(rng, 1))


def _leaf(rng: Rng, ground: Field, kind: int, radius: int) -> None:
    x, y = (int(v) for v in rng.integers(0, TEXTURE_PX, 2))
    tone, flat = float(rng.random()), rng.uniform(0.2, 1)
    if kind == 0:
        cv2.circle(ground, (x, y), radius, tone, -1, cv2.LINE_AA)
    elif kind == 1:
        axes = (radius, max(1, int(radius * flat)))
        cv2.ellipse(ground, (x, y), axes, rng.uniform(0, 360), 0, 360, tone, -1, cv2.LINE_AA)
    elif kind == 2:
        corners = np.array([x, y]) + radius * rng.uniform(-1, 1, (int(rng.integers(3, 6)), 2))
        cv2.fillPoly(ground, [corners.astype(np.int32)], tone, cv2.LINE_AA)
    else:
        turn = float(rng.uniform(0, 90)) if rng.random() < 0.5 else 0.0
        box = cv2.boxPoints(((x, y), (2 * radius, 2 * radius * flat), turn))
        cv2.fillPoly(ground, [box.astype(np.int32)], tone, cv2.LINE_AA)


def islands(rng: Rng) -> Field:
    """Two tones with a coast between them: rust, scale, paint that came off."""
    height = clouds(rng, rng.uniform(0.8, 1.8), rng.uniform(1, 4), rng.uniform(0, math.pi))
    above = (height - rng.uniform(-1, 1.8)) * rng.uniform(3, 20)
    return standard(1 / (1 + np.exp(-np.clip(above, -20, 20))) + 0.15 * clouds(rng, 0.7))


def warped(rng: Rng) -> Field:
    """Waves, cells or brush marks that have flowed."""
    source = (waves, cells, brushed)[int(rng.integers(3))](rng)
    y, x = _grid()
    reach = np.float32(rng.uniform(4, 25))
    across, down = x + reach * clouds(rng, 2.2), y + reach * clouds(rng, 2.2)
    flowed = cv2.remap(source, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return standard(np.asarray(flowed, np.float32))


def _grid() -> tuple[Field, Field]:
    y, x = np.mgrid[0:TEXTURE_PX, 0:TEXTURE_PX].astype(np.float32)
    return y, x


FAMILIES: tuple[tuple[str, Callable[[Rng], Field]], ...] = (
    ("cloudy", cloudy),
    ("brushed", brushed),
    ("cells", cells),
    ("waves", waves),
    ("leaves", leaves),
    ("islands", islands),
    ("warped", warped),
)
