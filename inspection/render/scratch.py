"""A brushed sheet, the scratches in it, and the dirt on it that is no scratch (`dirt.py`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from inspection.render.spec import Field
from inspection.render.surface import Light, Lobe, Stamp, Surface
from inspection.render.texture import clouds, grain, wander

BROKEN_FROM_MM = 1.2


@dataclass(frozen=True, slots=True)
class Sheet:
    """How a sheet lies: the direction its grain runs in, radians from x, and how strongly it is brushed."""

    grain_rad: float
    px_per_mm: float
    rub: float


def sheet_surface(
    rng: np.random.Generator, shape: tuple[int, int], px_per_mm: float, loop: bool
) -> tuple[Surface, Sheet]:
    upright = bool(rng.random() < 0.25) and not loop
    tilt = 0.0 if loop else math.radians(rng.normal(0, 2.5))
    marks = _marks(rng, shape, px_per_mm, loop, upright, tilt)
    tone = rng.uniform(0.34, 0.62)
    rub = math.exp(rng.uniform(math.log(0.018), math.log(0.10)))
    patchy = rng.uniform(0.01, 0.06)
    tonal = tone * (1 + rub * marks + patchy * clouds(rng, shape, 12 * px_per_mm, loop, 3))
    tonal *= 1 + _sheen(rng, shape, px_per_mm, loop, upright)
    warmth = rng.normal(0, 0.02)
    colour = np.array([1 - warmth, 1.0, 1 + 0.8 * warmth], np.float32)
    albedo = np.clip(tonal, 0.04, 0.95).astype(np.float32)[..., None] * colour
    surface = Surface((0.12 * marks).astype(np.float32), albedo, np.full(shape, 0.08 * tone, np.float32), loop)
    return surface, Sheet((math.pi / 2 if upright else 0.0) + tilt, px_per_mm, rub)


def _marks(
    rng: np.random.Generator, shape: tuple[int, int], ppm: float, loop: bool, upright: bool, tilt: float
) -> Field:
    """Grain at its angle: drawn along x on a larger sheet, then turned and cut out."""
    height, width = shape
    length, fine = rng.uniform(6, 40) * ppm, max(1.0, rng.uniform(0.02, 0.06) * ppm)
    if tilt == 0.0:
        return grain(rng, shape, length, fine, loop)
    side = (width, height) if upright else (height, width)
    slack = math.ceil(abs(math.sin(tilt)) * max(shape)) + 4
    large = grain(rng, (side[0] + 2 * slack, side[1] + 2 * slack), length, fine, False)
    if upright:
        large = np.ascontiguousarray(large.T)
    middle = (large.shape[1] / 2, large.shape[0] / 2)
    turn = cv2.getRotationMatrix2D(middle, -math.degrees(tilt), 1.0)
    turn[:, 2] += (width / 2 - middle[0], height / 2 - middle[1])
    turned = cv2.warpAffine(large, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned * np.float32(1.15), np.float32)  # interpolation took some of the contrast


def _sheen(rng: np.random.Generator, shape: tuple[int, int], ppm: float, loop: bool, upright: bool) -> Field:
    """The lamp's reflection, which brushed metal draws out into a band across its grain."""
    height, width = shape
    if loop:
        return np.asarray(0.06 * wander(rng, width, 25 * ppm, True), np.float32)[None, :]
    span = height if upright else width
    at, wide = rng.uniform(-0.2, 1.2) * span, rng.uniform(0.15, 0.6) * span
    s = np.arange(span, dtype=np.float32)
    band = rng.uniform(-0.15, 0.35) * np.exp(-(((s - at) / wide) ** 2)) + 0.03 * wander(rng, span, 0.2 * span, False)
    band = band.astype(np.float32)
    return np.asarray(band[:, None] if upright else band[None, :])


def scratch(
    rng: np.random.Generator, sheet: Sheet, at_px: tuple[float, float], length_mm: float
) -> tuple[Stamp, Field]:
    """A groove `length_mm` along its path: one flank lit, the other dark, tapered at its ends, sometimes skipping."""
    ppm = sheet.px_per_mm
    length = length_mm * ppm
    wide = max(1.0, ppm * min(rng.uniform(0.03, 0.25), 0.05 + 0.06 * length_mm))
    # within 10 degrees of the grain nobody could tell a scratch from the grain, so none is drawn there
    turn = sheet.grain_rad + rng.choice([-1, 1]) * math.radians(rng.uniform(10, 90))
    # the stroke's round ends count: from tip to tip it is as long as was asked for
    path = _path(rng, at_px, max(0.5 * length, length - wide), turn)
    stamp = Stamp.window(
        (float(path[:, 0].min()), float(path[:, 0].max())), (float(path[:, 1].min()), float(path[:, 1].max())), wide + 3
    )
    signed, along = _distances(stamp, path)
    across = np.abs(signed)
    taper = np.clip(np.minimum(along, 1 - along) * length / (1.5 * wide) + 0.35, 0, 1)
    press = 1 + 0.25 * wander(rng, 256, 40, False)[(along * 255).astype(int)]
    # a scratch of a few px must not fade at its ends, or nothing would be left of it
    strength = np.clip(taper * press, 0.8 if length_mm < 0.5 else 0.35, 1.3)
    strength *= 0.12 + 0.88 * _skips(rng, along, length_mm)
    # many a tool sinks in slowly and leaves in a point
    point = np.clip(np.minimum(along, 1 - along) * rng.choice([2.2, 5.0, 40.0]) + 0.3, 0, 1)
    sigma = np.maximum(0.8, 0.42 * wide * point) * (1 + 0.12 * wander(rng, 256, 20, False)[(along * 255).astype(int)])
    # the ends are round: beyond them, across already holds the distance to the end point
    groove = cv2.exp((-0.5 * (across / sigma) ** 2).astype(np.float32)) * strength
    groove *= np.clip(wide / 2 + 2.7 - across, 0, 1)
    flank = np.clip(signed / sigma, -1.2, 1.2)
    bright = rng.random() < 0.6
    # against strong brush marks only a deep scratch is one that anybody would call
    depth = rng.uniform(0.38, 0.62) + 1.5 * sheet.rub
    body = depth if bright else -depth
    tilt = rng.choice([-1, 1]) * rng.uniform(0.35, 0.65)
    factor = 1 + groove * (body + tilt * flank)
    stamp.albedo *= np.clip(factor, 0.12, 2.2).astype(np.float32)[..., None]
    stamp.glint += (rng.uniform(0.05, 0.16) * groove * (1 if bright else 0)).astype(np.float32)
    stamp.mask = np.asarray(across <= np.maximum(0.75, wide / 2 * point))
    return stamp, path


def _path(rng: np.random.Generator, at_px: tuple[float, float], length: float, turn: float) -> Field:
    """A slightly bent line of exactly `length` px, its middle at `at_px`."""
    count = max(8, min(64, int(length / 3)))
    s = np.linspace(-0.5, 0.5, count)
    bend = rng.normal(0, 0.16) + rng.normal(0, 0.3) * s
    heading = turn + bend * s * 2 * min(1.0, length / 40)
    step = length / (count - 1)
    mid = (heading[1:] + heading[:-1]) / 2
    x = np.concatenate([[0], np.cumsum(step * np.cos(mid))])
    y = np.concatenate([[0], np.cumsum(step * np.sin(mid))])
    path = np.stack([x, y], 1)
    path += np.array(at_px) - (path.max(0) + path.min(0)) / 2
    return path.astype(np.float32)


def _distances(stamp: Stamp, path: Field) -> tuple[Field, Field]:
    """Per pixel of the window: signed distance to the path in px, and how far along it the nearest point is, 0 to 1."""
    height, width = stamp.height.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    best = np.full((height, width), np.inf, np.float32)
    side, along = np.ones_like(best), np.zeros_like(best)
    origin = np.array([stamp.x0, stamp.y0], np.float32)
    points = path - origin
    for k in range(len(points) - 1):
        (ax, ay), (bx, by) = points[k], points[k + 1]
        ux, uy = bx - ax, by - ay
        t = np.clip(((x - ax) * ux + (y - ay) * uy) / max(1e-6, ux * ux + uy * uy), 0, 1)
        dx, dy = x - (ax + t * ux), y - (ay + t * uy)
        d2 = dx * dx + dy * dy
        nearer = d2 < best
        best = np.where(nearer, d2, best)
        side = np.where(nearer, np.sign(ux * dy - uy * dx), side)
        along = np.where(nearer, (k + t) / (len(points) - 1), along)
    return np.sqrt(best) * side, np.asarray(along, np.float32)


def _skips(rng: np.random.Generator, along: Field, length_mm: float) -> Field:
    """1 where the tool touched; a long scratch may lift off once or twice for up to a tenth of its length."""
    touch = np.ones_like(along)
    if length_mm < BROKEN_FROM_MM or rng.random() < 0.6:
        return touch
    for _ in range(int(rng.integers(1, 3))):
        at, half = rng.uniform(0.2, 0.8), rng.uniform(0.015, 0.05)
        touch *= np.clip((np.abs(along - at) - half) / 0.02 + 0.5, 0, 1)
    return touch


def sheet_light(rng: np.random.Generator) -> Light:
    angle = rng.uniform(0, 2 * math.pi)
    lean = rng.uniform(0.05, 0.2)
    lobe = Lobe(lean * math.cos(angle), lean * math.sin(angle), 0.12, rng.uniform(0.2, 0.8))
    return Light(0.35 * math.cos(angle), 0.35 * math.sin(angle), (lobe,))
