"""Dirt on a sheet that is not a scratch: what a model must learn to let pass."""

from __future__ import annotations

import math

import cv2
import numpy as np

from inspection.render.scratch import Sheet
from inspection.render.spec import Field
from inspection.render.surface import Stamp
from inspection.render.texture import noise, smoothstep, wander


def _window_xy(x: float, y: float, reach: float) -> tuple[Stamp, Field, Field]:
    stamp = Stamp.window((x, x), (y, y), reach)
    return (stamp, *_offsets(stamp, x, y))


def _offsets(stamp: Stamp, x: float, y: float) -> tuple[Field, Field]:
    """How far each pixel of the window lies from (x, y), px."""
    gx, gy = stamp.grid()
    return gx - np.float32(x), gy - np.float32(y)


def stain(rng: np.random.Generator, sheet: Sheet, x: float, y: float) -> Stamp:
    """A dull patch with a soft, wandering edge."""
    radius = rng.uniform(0.6, 4.5) * sheet.px_per_mm
    stamp, dx, dy = _window_xy(x, y, 1.9 * radius)
    r = np.sqrt(dx * dx + (dy * rng.uniform(0.7, 1.4)) ** 2) / radius
    r += 0.28 * noise(rng, r.shape, (0.6 * radius, 0.6 * radius))
    patch = smoothstep(-0.15, 0.4, 1 - r) * rng.uniform(0.04, 0.22)
    hue = np.array([1.12, 1.0, 0.9]) + rng.normal(0, 0.06, 3)
    stamp.albedo *= np.clip(1 - patch[..., None] * hue, 0.3, 1.2).astype(np.float32)
    return stamp


def water_mark(rng: np.random.Generator, sheet: Sheet, x: float, y: float) -> Stamp:
    """A dried drop: a thin pale ring, closed, with a slightly dull middle."""
    radius = rng.uniform(0.4, 2.6) * sheet.px_per_mm
    stamp, dx, dy = _window_xy(x, y, 1.5 * radius + 3)
    r = np.sqrt(dx * dx + (dy * rng.uniform(0.8, 1.25)) ** 2)
    r += 0.06 * radius * noise(rng, r.shape, (0.9 * radius, 0.9 * radius))
    thick = max(1.0, rng.uniform(0.04, 0.12) * sheet.px_per_mm)
    ring = cv2.exp((-(((r - radius) / thick) ** 2)).astype(np.float32)) * rng.uniform(0.05, 0.2)
    inner = smoothstep(-2.0, 2.0, radius - r) * rng.uniform(0.0, 0.08)
    stamp.albedo *= (1 + rng.choice([-0.8, 1.0]) * ring - inner)[..., None]
    return stamp


def oil_smear(rng: np.random.Generator, sheet: Sheet, x: float, y: float) -> Stamp:
    """A wiped film: long, soft, darker, with a breath of interference colour."""
    long, wide = rng.uniform(4, 14) * sheet.px_per_mm, rng.uniform(0.8, 3.0) * sheet.px_per_mm
    turn = rng.uniform(0, math.pi)
    along, across = 0.85 * long, 1.1 * wide + 0.06 * long
    half_x = abs(math.cos(turn)) * along + abs(math.sin(turn)) * across
    half_y = abs(math.sin(turn)) * along + abs(math.cos(turn)) * across
    stamp = Stamp.window((x - half_x, x + half_x), (y - half_y, y + half_y), 2)
    dx, dy = _offsets(stamp, x, y)
    a = dx * math.cos(turn) + dy * math.sin(turn)
    b = dy * math.cos(turn) - dx * math.sin(turn) + 0.08 * a * a / long
    streaks = 1 + 0.35 * noise(rng, a.shape, (0.5 * wide, 0.5 * wide))
    film = cv2.exp((-((a / (0.55 * long)) ** 4) - (b / (0.5 * wide)) ** 2).astype(np.float32)) * streaks
    film = np.clip(film, 0, 1.3) * rng.uniform(0.06, 0.22)
    shift = 0.12 * np.sin(film[..., None] * 25 + np.array([0.0, 2.1, 4.2]))
    stamp.albedo *= np.clip(1 - film[..., None] * (1 + shift), 0.3, 1.2).astype(np.float32)
    return stamp


def fingerprint(rng: np.random.Generator, sheet: Sheet, x: float, y: float) -> Stamp:
    """Ridges 0.45 mm apart curling round a core, in an oval, patchy, faint."""
    ppm = sheet.px_per_mm
    radius = rng.uniform(4, 6.5) * ppm
    stamp, dx, dy = _window_xy(x, y, 1.5 * radius)
    turn = rng.uniform(0, math.pi)
    a = dx * math.cos(turn) + dy * math.sin(turn)
    b = dy * math.cos(turn) - dx * math.sin(turn)
    bend = 0.9 * ppm * noise(rng, a.shape, (2.2 * ppm, 2.2 * ppm))
    ridge = 0.5 + 0.5 * np.sin(2 * math.pi * (np.sqrt(a * a + (0.7 * (b + 1.5 * ppm)) ** 2) + bend) / (0.45 * ppm))
    oval = smoothstep(0.0, 0.35, 1 - np.sqrt((a / (0.72 * radius)) ** 2 + (b / radius) ** 2).astype(np.float32))
    patchy = np.clip(0.55 + 0.5 * noise(rng, a.shape, (1.6 * ppm, 1.6 * ppm)), 0, 1)
    stamp.albedo *= (1 - rng.uniform(0.05, 0.16) * oval * patchy * ridge).astype(np.float32)[..., None]
    return stamp


def dust(rng: np.random.Generator, sheet: Sheet, x: float, y: float) -> Stamp:
    """A grain of dust: round, with a small shadow."""
    radius = max(0.8, rng.uniform(0.03, 0.13) * sheet.px_per_mm)
    stamp, dx, dy = _window_xy(x, y, 3 * radius + 3)
    body = cv2.exp((-(dx * dx + dy * dy) / (1.2 * radius**2)).astype(np.float32))
    off = 0.9 * radius
    shadow = cv2.exp((-((dx - off) ** 2 + (dy - off) ** 2) / (1.8 * radius**2)).astype(np.float32))
    stamp.albedo *= (1 + rng.choice([-0.5, 0.35]) * body - 0.2 * shadow)[..., None]
    return stamp


def lint(rng: np.random.Generator, sheet: Sheet, x: float, y: float) -> Stamp:
    """A textile fibre: it curls as no scratch does, lies above the focus, and throws a soft shadow."""
    ppm = sheet.px_per_mm
    count = 48
    curl = rng.normal(0, 0.06) + 0.16 * wander(rng, count, 14, False)
    turn = rng.uniform(0, 2 * math.pi) + np.cumsum(curl)
    step = rng.uniform(0.8, 3.5) * ppm / count
    points = np.stack([np.cumsum(step * np.cos(turn)), np.cumsum(step * np.sin(turn))], 1)
    points -= (points.max(0) + points.min(0)) / 2
    reach = float(np.abs(points).max()) + 8
    stamp, _, _ = _window_xy(x, y, reach)
    canvas = np.zeros(stamp.height.shape, np.uint8)
    fixed = np.round((points + np.array([x - stamp.x0, y - stamp.y0])) * 16).astype(np.int32)
    cv2.polylines(canvas, [fixed[:, None]], False, 255, max(1, round(0.04 * ppm)), cv2.LINE_AA, 4)
    fibre = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.7, 1.2)).astype(np.float32) / 255
    shadow = np.roll(cv2.GaussianBlur(fibre, (0, 0), 1.6), (2, 2), (0, 1))
    stamp.albedo *= (1 + rng.choice([-0.55, 0.35]) * fibre - 0.3 * shadow)[..., None]
    return stamp


def grain_line(rng: np.random.Generator, sheet: Sheet, x: float, y: float) -> Stamp:
    """One brush mark deeper than its neighbours: straight along the grain, long, fading out at both ends."""
    ppm = sheet.px_per_mm
    half = rng.uniform(4, 14) * ppm
    cos, sin = math.cos(sheet.grain_rad), math.sin(sheet.grain_rad)
    stamp = Stamp.window((x - abs(cos) * half, x + abs(cos) * half), (y - abs(sin) * half, y + abs(sin) * half), 4)
    dx, dy = _offsets(stamp, x, y)
    a, b = dx * cos + dy * sin, dy * cos - dx * sin
    sigma = max(0.7, rng.uniform(0.02, 0.06) * ppm)
    line = cv2.exp((-0.5 * (b / sigma) ** 2).astype(np.float32)) * np.clip(1 - (a / half) ** 2, 0, 1)
    line *= np.clip(0.75 + 0.5 * noise(rng, line.shape, (ppm, 2 * ppm)), 0, 1.2)
    stamp.albedo *= (1 + rng.choice([-0.4, 0.4]) * rng.uniform(0.4, 1.0) * line).astype(np.float32)[..., None]
    return stamp


KINDS = (
    (stain, 1.2),
    (water_mark, 1.2),
    (oil_smear, 0.6),
    (fingerprint, 0.3),
    (dust, 9.0),
    (lint, 0.8),
    (grain_line, 3.0),
)


def dirt(rng: np.random.Generator, sheet: Sheet, size: tuple[int, int]) -> list[Stamp]:
    """A frame's dirt: each kind's count is Poisson with the area, times how dirty this sheet is."""
    height, width = size
    area = width * height / sheet.px_per_mm**2 / 820
    filth = rng.choice([0.3, 1.0, 2.2])
    return [
        kind(rng, sheet, rng.uniform(0, width), rng.uniform(0, height))
        for kind, rate in KINDS
        for _ in range(int(rng.poisson(rate * filth * area)))
    ]
