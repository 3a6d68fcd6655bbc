"""What a sound weld carries beside and on its bead, and a model must learn to let pass."""

from __future__ import annotations

import math

import cv2
import numpy as np

from inspection.render.surface import Stamp
from inspection.render.texture import noise, smoothstep
from inspection.render.weld import Bead


def spatter_bead(rng: np.random.Generator, x_px: float, y_px: float, radius: float) -> Stamp:
    """A droplet frozen onto the plate: a bright ball on a dark foot. Not a defect."""
    stamp = Stamp.window((x_px, x_px), (y_px, y_px), 2.2 * radius + 2)
    x, y = stamp.grid()
    dx, dy = x - x_px, (y - y_px) * rng.uniform(0.85, 1.2)
    r = np.sqrt(dx * dx + dy * dy) / radius
    ball = smoothstep(-0.8 / radius, 0.8 / radius, 1 - r)
    foot = cv2.exp(-(((r - 1.05) / 0.28) ** 2)) * (1 - ball)
    dome = np.sqrt(np.clip(1 - r * r, 0, 1))
    lit = rng.uniform(0, 2 * math.pi)
    shade = rng.uniform(0.45, 1.1) * (0.5 + 0.6 * dome)
    stamp.albedo *= (1 + ball * (shade - 1))[..., None]
    stamp.albedo *= (1 - rng.uniform(0.35, 0.8) * foot)[..., None]
    stamp.height += 0.5 * radius * dome
    gx, gy = x_px + 0.38 * radius * math.cos(lit), y_px + 0.38 * radius * math.sin(lit)
    stamp.glint += rng.uniform(0.3, 0.9) * ball * cv2.exp(-((x - gx) ** 2 + (y - gy) ** 2) / (0.14 * radius**2 + 0.4))
    return stamp


def slag_island(rng: np.random.Generator, x_px: float, y_px: float, radius: float) -> Stamp:
    """A flake of glassy brown silicate lying on the bead: dark and ragged, but flat and without a lip. Not a defect."""
    stamp = Stamp.window((x_px, x_px), (y_px, y_px), 2.4 * radius + 2)
    x, y = stamp.grid()
    turn = rng.uniform(-0.5, 0.5)
    dx, dy = x - x_px, y - y_px
    a = (dx * math.cos(turn) + dy * math.sin(turn)) / 1.6
    b = dy * math.cos(turn) - dx * math.sin(turn)
    r = np.sqrt(a * a + b * b) / radius + 0.3 * noise(rng, x.shape, (max(1.5, 0.5 * radius), max(1.5, 0.6 * radius)))
    flake = smoothstep(-0.1, 0.45, 1 - r) * rng.uniform(0.4, 0.85)
    brown = np.array([0.30, 0.42, 0.58], np.float32) * rng.uniform(0.7, 1.3)
    stamp.albedo *= 1 - flake[..., None] * (1 - brown)
    stamp.gloss *= 1 + 0.3 * flake
    return stamp


def rub_mark(rng: np.random.Generator, x_px: float, y_px: float, length: float) -> Stamp:
    """Where the plate was dragged over something: a thin straight line, faint. On a weld's plate nobody minds it."""
    turn = rng.uniform(-0.5, 0.5) + (math.pi / 2 if rng.random() < 0.25 else 0.0)
    cos, sin = math.cos(turn), math.sin(turn)
    half = length / 2
    stamp = Stamp.window(
        (x_px - abs(cos) * half, x_px + abs(cos) * half), (y_px - abs(sin) * half, y_px + abs(sin) * half), 4
    )
    x, y = stamp.grid()
    along, across = (x - x_px) * cos + (y - y_px) * sin, (y - y_px) * cos - (x - x_px) * sin
    across = across + 0.03 * along * along / length
    line = cv2.exp((-0.5 * (across / rng.uniform(0.7, 1.3)) ** 2).astype(np.float32)) * np.clip(
        1 - (along / half) ** 2, 0, 1
    )
    stamp.albedo *= (1 + rng.choice([-0.3, 0.5]) * rng.uniform(0.3, 1.0) * line).astype(np.float32)[..., None]
    return stamp


def spatter_and_slag(rng: np.random.Generator, bead: Bead, size: tuple[int, int]) -> list[Stamp]:
    """What a sound weld may carry. The count goes with the area, so that a strip is as dirty as a frame."""
    height, width = size
    ppm = bead.px_per_mm
    area = width * height / ppm**2 / 3300
    stamps = []
    for _ in range(int(rng.poisson(rng.choice([1.0, 8.0, 30.0]) * area))):
        x = rng.uniform(0, width)
        away = rng.exponential(7 * ppm) + 0.5 * ppm
        side = int(rng.choice([-1, 1]))
        y = float(bead.toe_px(np.array([x], np.float32), side)[0]) + side * away
        stamps.append(spatter_bead(rng, x, y, max(1.2, ppm * min(0.9, 0.1 + rng.exponential(0.16)))))
    for _ in range(int(rng.poisson(rng.choice([0.0, 1.5, 6.0]) * width / ppm / 64))):
        x = rng.uniform(0, width)
        col = bead.column(x)
        y = float(bead.centre_px[col] + rng.choice([-0.75, 0.0, 0.7]) * bead.above_px[col] + rng.normal(0, 0.2 * ppm))
        stamps.append(slag_island(rng, x, y, rng.uniform(0.25, 0.9) * ppm))
    for _ in range(int(rng.poisson(rng.choice([0.0, 2.0, 7.0]) * area))):
        x, length = rng.uniform(0, width), rng.uniform(1, 16) * ppm
        side = int(rng.choice([-1, 1]))
        y = float(bead.toe_px(np.array([x], np.float32), side)[0]) + side * (
            rng.exponential(9 * ppm) + 0.35 * length + ppm
        )
        stamps.append(rub_mark(rng, x, y, length))
    return stamps
