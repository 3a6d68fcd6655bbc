"""Defects of a weld, drawn on its bead's geometry.

A defect's truth mask is the shape it was drawn with. Its length is what an inspector would measure: the greatest extent
of a pore group or of a hole's lip, the run along the toe of an undercut.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from inspection.render.spec import Field
from inspection.render.surface import Stamp
from inspection.render.texture import noise, smoothstep
from inspection.render.weld import Bead

Drawn = tuple[Stamp, Field]


def porosity(rng: np.random.Generator, bead: Bead, x_px: float, length_mm: float) -> Drawn:
    """One gas pore up to about 1.5 mm; beyond that more often a row or a cluster, `length_mm` from end to end."""
    ppm = bead.px_per_mm
    length = length_mm * ppm
    half = float(min(bead.above_px[bead.column(x_px)], bead.below_px[bead.column(x_px)]))
    single = length_mm <= 1.5 or (length_mm <= 3 and rng.random() < 0.5)
    spread = max(0.0, 0.72 * half - (length / 2 if single else 0.4 * ppm))
    y_px = float(bead.centre_px[bead.column(x_px)]) + rng.uniform(-1, 1) * min(spread, 0.55 * half)
    pores = [(x_px, y_px, length / 2)] if single else _group(rng, x_px, y_px, length, ppm, half)
    stamp = Stamp.window((x_px - length / 2, x_px + length / 2), (y_px - length / 2, y_px + length / 2), 1.6 * ppm)
    stamp.mask = np.zeros(stamp.height.shape, bool)
    for pore in pores:
        _pore(rng, stamp, pore, ppm)
    ends = pores[:2] if len(pores) > 1 else [(x_px - length / 2, y_px, 0.0), (x_px + length / 2, y_px, 0.0)]
    return stamp, np.array([(p[0], p[1]) for p in ends], np.float32)


def _group(
    rng: np.random.Generator, x: float, y: float, length: float, ppm: float, half: float
) -> list[tuple[float, float, float]]:
    row = rng.random() < 0.5
    # a long group must lie along the bead, or it would leave it
    lean = math.asin(min(0.9, 0.9 * half / length)) if length > half else 1.2
    turn = rng.uniform(-1, 1) * (0.12 if row else min(1.2, lean))
    cos, sin = math.cos(turn), math.sin(turn)
    biggest = min(0.55 * ppm, length / 4)
    radii = [max(1.6, rng.uniform(0.45, 1.0) * biggest) for _ in range(int(rng.integers(3, 8)) + 2)]
    places = [(-length / 2 + radii[0], 0.0), (length / 2 - radii[1], 0.0)]
    for _ in radii[2:]:
        along = rng.uniform(-1, 1) * (length / 2 - 1.5 * biggest)
        across = rng.uniform(-1, 1) * (
            0.25 * biggest if row else 0.3 * length * math.sqrt(max(0.0, 1 - (2 * along / length) ** 2))
        )
        places.append((along, float(np.clip(across, -0.5 * half, 0.5 * half))))
    return [(x + a * cos - b * sin, y + a * sin + b * cos, r) for (a, b), r in zip(places, radii, strict=True)]


def _pore(rng: np.random.Generator, stamp: Stamp, pore: tuple[float, float, float], ppm: float) -> None:
    px, py, radius = pore
    x, y = stamp.grid()
    dx, dy = x - px, y - py
    theta = np.arctan2(dy, dx)
    r = np.sqrt(dx * dx + dy * dy)
    if radius >= 5:  # a smaller one has no shape to speak of; along x it keeps the length that was asked for
        r /= 1 - np.sin(theta) ** 2 * (rng.uniform(0.0, 0.2) + 0.07 * np.cos(3 * theta + rng.uniform(0, 6.3)))
    hole = smoothstep(-1.0, 0.8, radius - r)
    lip_px = max(0.9, 0.10 * ppm, 0.16 * radius)
    lip = cv2.exp(-(((r - radius - 0.5 * lip_px) / lip_px) ** 2)) * (1 - hole)
    lit = rng.uniform(0, 2 * math.pi)
    facing = np.cos(theta - lit)
    # the wall turned to the light shows some of itself, the rest is black
    floor = rng.uniform(0.04, 0.14) + 0.42 * smoothstep(0.35, 1.05, r / radius) * np.clip(facing, 0, 1)
    stamp.albedo *= (1 - hole * (1 - floor))[..., None]
    stamp.albedo *= (1 + lip * (0.30 * facing - rng.uniform(0.0, 0.3)))[..., None]
    stamp.gloss *= 1 - 0.97 * hole
    stamp.height += rng.uniform(0.1, 0.4) * lip_px * lip * (1 - hole)
    stamp.glint = stamp.glint * (1 - hole) + rng.uniform(0.1, 0.5) * lip * np.clip(facing, 0, 1) ** 3
    if radius > 4 and rng.random() < 0.6:  # the light's own picture at the bottom of a wet-looking pore
        gx, gy = px - 0.45 * radius * math.cos(lit), py - 0.45 * radius * math.sin(lit)
        stamp.glint += rng.uniform(0.05, 0.35) * cv2.exp(-((x - gx) ** 2 + (y - gy) ** 2) / (0.06 * radius**2 + 0.5))
    assert stamp.mask is not None
    stamp.mask |= r <= max(radius, 0.8)


def undercut(rng: np.random.Generator, bead: Bead, x_px: float, length_mm: float) -> Drawn:
    """A groove melted into the plate along one toe and not filled again, tapered at both ends."""
    ppm = bead.px_per_mm
    length, side = length_mm * ppm, int(rng.choice([-1, 1]))
    wide = max(2.6, rng.uniform(0.4, 0.95) * ppm * min(1.0, 0.6 + length_mm / 8))
    path_x = np.arange(x_px - length / 2, x_px + length / 2 + 1, 2.0, dtype=np.float32)
    toe = bead.toe_px(path_x, side) + np.float32(side * 0.38 * wide)
    stamp = Stamp.window((x_px - length / 2, x_px + length / 2), (float(toe.min()), float(toe.max())), wide + 1.0 * ppm)
    x, y = stamp.grid()
    middle = bead.toe_px(x[0], side) + np.float32(side * 0.38 * wide)
    along = (x - x_px) / (length / 2)
    swell = 1 + 0.2 * noise(rng, (1, x.shape[1]), (1, 1.6 * ppm)) + 0.1 * noise(rng, (1, x.shape[1]), (1, 0.4 * ppm))
    inside_end = np.abs(along) <= 1
    half = np.where(inside_end, np.maximum(0.5 * wide * swell * np.clip(1 - along**4, 0, 1) ** 0.5, 0.9), 0.0)
    d = side * (y - middle[None, :])  # positive outwards, away from the bead
    across = d / np.maximum(half, 1)
    core = smoothstep(-1.1, 1.1, half - np.abs(d)) * inside_end
    # deepest and darkest under the bead's edge; the outer wall climbs back into the light, unevenly
    uneven = 1 + 0.4 * noise(rng, x.shape, (0.35 * ppm, 0.9 * ppm))
    shaded = rng.uniform(0.10, 0.22) + rng.uniform(0.25, 0.5) * np.clip(0.25 + 0.6 * across, 0, 1) * uneven
    stamp.albedo *= (1 - core * (1 - np.clip(shaded, 0.06, 0.75)))[..., None]
    stamp.gloss *= 1 - 0.9 * core
    stamp.height -= 0.35 * wide * core * np.clip(1 - across**2, 0, 1)
    edge = cv2.exp(-(((d - half - 0.8) / max(0.9, 0.09 * ppm)) ** 2)) * inside_end * (half > 1.2)
    broken = np.clip(0.1 + 0.7 * noise(rng, x.shape, (3, 0.6 * ppm)), 0, 1)
    stamp.glint += (rng.uniform(0.1, 0.35) * edge * broken * (1 - core)).astype(np.float32)
    stamp.mask = np.asarray((np.abs(d) <= half) & inside_end)
    return stamp, np.stack([path_x, toe], 1)


def burn_through(rng: np.random.Generator, bead: Bead, x_px: float, length_mm: float) -> Drawn:
    """The pool fell through: a black hole, a sagging lip around it, burnt oxide beyond the lip."""
    ppm = bead.px_per_mm
    radius = length_mm * ppm / 2
    y_px = float(bead.centre_px[bead.column(x_px)]) + rng.uniform(-0.25, 0.25) * float(bead.above_px.mean())
    stamp = Stamp.window((x_px - radius, x_px + radius), (y_px - radius, y_px + radius), 0.7 * radius + 0.6 * ppm)
    x, y = stamp.grid()
    dx, dy = x - x_px, y - y_px
    theta = np.arctan2(dy, dx)
    r = np.sqrt(dx * dx + dy * dy) / (radius * _outline(rng, theta))
    lumpy = 0.07 * noise(rng, x.shape, (0.7 * ppm, 0.7 * ppm)) + 0.03 * noise(rng, x.shape, (0.3 * ppm, 0.3 * ppm))
    hole_at = rng.uniform(0.52, 0.76) + 0.09 * np.sin(theta + rng.uniform(0, 6.3))
    soft = 1.2 / radius
    ragged = r + lumpy
    hole = smoothstep(-soft, soft, hole_at - ragged)
    lip = smoothstep(-0.12 - soft, 0.12 + soft, 1 - ragged)
    burnt = smoothstep(0.0, 0.6, 1.62 + 2 * lumpy - r) * smoothstep(0.0, 0.25, 1.66 - r) * (1 - lip)
    oxide = np.array([rng.uniform(0.45, 0.85), rng.uniform(0.45, 0.65), rng.uniform(0.5, 0.75)], np.float32)
    stamp.albedo *= 1 - burnt[..., None] * (1 - oxide) * rng.uniform(0.3, 0.9)
    sooty = np.clip(0.72 + 2.5 * lumpy, 0.3, 1.1)
    stamp.albedo *= 1 - lip[..., None] * (1 - sooty[..., None] * oxide)
    stamp.albedo *= 1 - 0.95 * hole[..., None]
    stamp.gloss *= (1 - 0.3 * lip) * (1 - 0.99 * hole)
    # the lip is a rounded roll of metal hanging into the hole: shading, not paint, makes it one
    t = (ragged - hole_at) / (1 - hole_at)
    stamp.height += 0.16 * radius * cv2.exp(-(((t - 0.4) / 0.45) ** 2)) - 0.2 * radius * hole
    facing = np.clip(np.cos(theta - rng.uniform(0, 2 * math.pi)), 0, 1) ** 2
    rim = cv2.exp(-(((ragged - hole_at - 0.06) / 0.06) ** 2)) * (1 - hole)
    stamp.glint += rng.uniform(0.2, 0.6) * rim * facing * np.clip(0.7 + 6 * lumpy, 0, 1.3)
    stamp.mask = np.asarray(r <= 1)
    ends = np.array([(x_px - radius, y_px), (x_px + radius, y_px)], np.float32)
    return stamp, ends


def _outline(rng: np.random.Generator, theta: Field) -> Field:
    """Radius over direction, never above 1 and 1 along x, so that the widest extent is the length asked for."""
    squash = rng.uniform(0.72, 0.95)
    outline = 1 / np.sqrt(np.cos(theta) ** 2 + (np.sin(theta) / squash) ** 2)
    for k in (3, 5, 7, 11):
        outline -= rng.uniform(0.0, 0.2) / k * (1 - np.cos(k * theta + rng.uniform(0, 6.3))) * np.sin(theta) ** 2
    return np.asarray(outline, np.float32)


DRAW = {"porosity": porosity, "undercut": undercut, "burn_through": burn_through}
