"""A weld bead across a plate: crown, ripples, toes, heat tint. Defects sit on its geometry (`weld_defects.py`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from inspection.render.spec import Field
from inspection.render.surface import Light, Lobe, Surface
from inspection.render.texture import clouds, grain, noise, smoothstep, wander

# Oxide colours of steel from the toe outwards, as BGR factors on the plate: thick oxide is grey, thinner oxide goes
# through blue and purple to brown and straw.
TINT_AT = (0.0, 0.14, 0.32, 0.46, 0.58, 0.72, 0.88, 1.0)
TINT_BGR = (
    (0.80, 0.78, 0.76),
    (0.98, 0.92, 0.85),
    (0.96, 0.70, 0.56),
    (0.72, 0.52, 0.54),
    (0.44, 0.52, 0.68),
    (0.56, 0.76, 0.90),
    (0.80, 0.95, 1.02),
    (1.00, 1.00, 1.00),
)


@dataclass(frozen=True, slots=True)
class Bead:
    """Where the bead lies: per column its centre line and the distance to either toe, all px."""

    centre_px: Field
    above_px: Field
    below_px: Field
    px_per_mm: float

    def column(self, x: float) -> int:
        return round(x) % len(self.centre_px)

    def toe_px(self, x: Field, side: int) -> Field:
        """y of the toe at columns `x`; `side` -1 is the upper one."""
        cols = np.round(x).astype(int) % len(self.centre_px)
        half = self.above_px if side < 0 else self.below_px
        return np.asarray(self.centre_px[cols] + side * half[cols], np.float32)


def draw_bead(rng: np.random.Generator, shape: tuple[int, int], px_per_mm: float, loop: bool) -> Bead:
    height, width = shape
    half = rng.uniform(2.4, 5.2) * px_per_mm
    half = min(half, 0.2 * height)
    tilt = 0.0 if loop else rng.uniform(-0.045, 0.045)
    middle = height * rng.uniform(0.36, 0.64)
    sway = rng.uniform(0.1, 0.7) * px_per_mm * wander(rng, width, 18 * px_per_mm, loop)
    x = np.arange(width, dtype=np.float32)
    centre = middle + tilt * (x - width / 2) + sway
    rough = rng.uniform(0.02, 0.07)
    swell = 1 + 0.05 * wander(rng, width, 14 * px_per_mm, loop)
    above, below = (half * (swell + rough * wander(rng, width, 2.2 * px_per_mm, loop)) for _ in range(2))
    return Bead(centre.astype(np.float32), above.astype(np.float32), below.astype(np.float32), px_per_mm)


def weld_surface(
    rng: np.random.Generator, shape: tuple[int, int], px_per_mm: float, loop: bool
) -> tuple[Surface, Bead]:
    bead = draw_bead(rng, shape, px_per_mm, loop)
    y = np.arange(shape[0], dtype=np.float32)[:, None] - bead.centre_px[None, :]
    u = np.where(y < 0, y / bead.above_px, y / bead.below_px)
    outside_px = np.where(y < 0, -y - bead.above_px, y - bead.below_px)  # beyond the toe, negative on the bead
    on_bead = smoothstep(-0.6, 0.6, -outside_px)
    surface = _plate(rng, shape, px_per_mm, loop)
    if rng.random() < 0.4:  # a fillet: either plate leans its own way and mirrors another part of the shop
        surface.albedo *= np.where(y < 0, np.float32(rng.uniform(0.65, 1.0)), np.float32(rng.uniform(0.8, 1.25)))[
            ..., None
        ]
    _tint(rng, surface, y, outside_px, px_per_mm, loop)
    _crown(rng, surface, bead, u, on_bead, loop)
    return surface, bead


@dataclass(frozen=True, slots=True)
class Finish:
    """How a plate was made: grey tone, strength of its brush marks, patchiness, speckle."""

    tone: float
    rub: float
    patchy: float
    speckle: float


FINISHES = (
    Finish(0.46, 0.050, 0.035, 0.04),  # brushed stainless
    Finish(0.40, 0.020, 0.060, 0.07),  # cold rolled
    Finish(0.22, 0.012, 0.130, 0.10),  # mill scale
    Finish(0.50, 0.085, 0.030, 0.04),  # ground
)


def _plate(rng: np.random.Generator, shape: tuple[int, int], px_per_mm: float, loop: bool) -> Surface:
    finish = FINISHES[int(rng.integers(len(FINISHES)))]
    vary = [rng.uniform(0.65, 1.4) for _ in range(3)]
    tone = finish.tone * rng.uniform(0.8, 1.2)
    marks = grain(rng, shape, rng.uniform(8, 30) * px_per_mm, max(1.0, 0.08 * px_per_mm), loop)
    tonal = 1 + vary[0] * finish.rub * marks
    tonal += vary[1] * finish.patchy * clouds(rng, shape, rng.uniform(2, 9) * px_per_mm, loop, 5)
    speck = noise(rng, shape, (1.3, 1.3), loop)
    tonal += vary[2] * finish.speckle * (0.6 * speck + 0.6 * noise(rng, shape, (2.5, 3.5), loop))
    tonal *= tone * _reflections(rng, shape, px_per_mm, loop)
    warmth = rng.uniform(-0.03, 0.05)
    colour = np.array([1 - warmth, 1.0, 1 + warmth], np.float32)
    albedo = np.clip(tonal, 0.04, 1.0)[..., None] * colour
    height = 0.4 * finish.rub * marks + 0.05 * speck
    gloss = np.full(shape, 0.25 * tone, np.float32)
    return Surface(height.astype(np.float32), albedo.astype(np.float32), gloss, loop)


def _reflections(rng: np.random.Generator, shape: tuple[int, int], px_per_mm: float, loop: bool) -> Field:
    """What a half-shiny plate mirrors of the shop: broad soft shapes, drawn out across the grain."""
    reach = (rng.uniform(25, 60) * px_per_mm, rng.uniform(8, 25) * px_per_mm)
    shapes = noise(rng, shape, reach, loop)
    return np.asarray(1 + rng.uniform(0.0, 0.26) * np.tanh(rng.uniform(0.8, 3.0) * shapes), np.float32)


def _tint(
    rng: np.random.Generator, surface: Surface, y: Field, outside_px: Field, px_per_mm: float, loop: bool
) -> None:
    """Heat tint beside the bead, and the soot line at its toes. Either side cools in its own way."""
    width = outside_px.shape[1]
    strength = np.float32(rng.uniform(0.15, 0.95))
    thickest = rng.choice([0.0, 0.0, 0.25, 0.5])  # where the oxide is thinner, the row of colours begins later
    table = np.stack([np.interp(np.linspace(thickest, 1, 256), TINT_AT, [c[k] for c in TINT_BGR]) for k in range(3)], 1)
    table = (1 + strength * (table - 1)).astype(np.float32)
    base = rng.uniform(2.5, 8.5) * px_per_mm
    reach = [base * rng.uniform(0.75, 1.25) * (1 + 0.10 * wander(rng, width, 12 * px_per_mm, loop)) for _ in range(2)]
    t = outside_px / np.where(y < 0, reach[0], reach[1])
    t = t + 0.035 * noise(rng, outside_px.shape, (0.8 * px_per_mm, 2.5 * px_per_mm), loop)
    index = np.clip(t * 255, 0, 255).astype(np.uint8)
    surface.albedo *= table[index]
    soot = rng.uniform(0.2, 0.75)
    ragged = np.clip(0.6 + 0.5 * noise(rng, outside_px.shape, (0.4 * px_per_mm, 0.7 * px_per_mm), loop), 0, 1.2)
    line = (
        soot * ragged * cv2.exp(-np.abs(outside_px).astype(np.float32) / np.float32(rng.uniform(0.25, 0.9) * px_per_mm))
    )
    surface.albedo *= np.clip(1 - line, 0.12, 1.0)[..., None]


def _crown(rng: np.random.Generator, surface: Surface, bead: Bead, u: Field, on_bead: Field, loop: bool) -> None:
    """The bead itself: a rounded crown, frozen ripples trailing the pool as crescents, a rough skin."""
    shape, ppm = u.shape, bead.px_per_mm
    inside = np.clip(1 - u * u, 0, 1)
    crown = (
        rng.uniform(0.10, 0.24)
        * float(bead.above_px.mean() + bead.below_px.mean())
        * np.sqrt(inside + 0.02)
        * inside**0.3
    )
    phase = _ripple_phase(rng, shape[1], ppm, loop)
    lag = rng.uniform(0.35, 1.1) * float(rng.choice([-1, 1])) * float(bead.above_px.mean())
    # the phase is looked up where the crescent through this pixel crosses the centre line
    shift = lag * u * u + 0.22 * ppm * noise(rng, shape, (1.2 * ppm, 1.6 * ppm), loop)
    x = np.arange(shape[1], dtype=np.float32)[None, :] + shift
    turns = _lookup(phase, x)
    saw = turns - np.floor(turns)
    ripple = np.where(saw < 0.75, saw / 0.75, (1 - saw) / 0.25).astype(np.float32)
    ripple = ripple * ripple * (3 - 2 * ripple)
    height = crown + rng.uniform(0.04, 0.13) * ppm * ripple * np.sqrt(inside)
    height += 0.035 * ppm * clouds(rng, shape, 0.9 * ppm, loop, 3) * on_bead
    surface.height *= 1 - on_bead
    surface.height += (height * on_bead).astype(np.float32)
    tone = rng.uniform(0.26, 0.5)
    patina = 1 + 0.10 * clouds(rng, shape, 3 * ppm, loop, 3) - 0.16 * (1 - ripple)
    cool = rng.uniform(-0.06, 0.10)
    colour = np.array([1 + cool, 1.0, 1 - cool], np.float32)
    metal = np.clip(tone * patina, 0.04, 1)[..., None] * colour
    edge = np.asarray(on_bead, np.float32)[..., None]
    surface.albedo += edge * (metal * (0.55 + 0.45 * np.sqrt(inside))[..., None] - surface.albedo)
    surface.gloss += on_bead * (rng.uniform(0.35, 0.75) - surface.gloss)


def _ripple_phase(rng: np.random.Generator, width: int, px_per_mm: float, loop: bool) -> Field:
    """(W + 1,) turns of the ripple along the centre line; a whole number of them on a looping strip."""
    pitch = rng.uniform(0.55, 1.7) * px_per_mm * np.exp(0.22 * wander(rng, width, 3 * px_per_mm, loop))
    turns = np.concatenate([[0.0], np.cumsum(1 / np.maximum(pitch, 2.5))])
    if loop:
        turns *= round(turns[-1]) / turns[-1]
    return turns.astype(np.float64)


def _lookup(turns: Field, x: Field) -> Field:
    """Turns at columns `x`, which may lie outside: the curve goes on with its own total per width."""
    width = len(turns) - 1
    laps = np.floor(x / width)
    inner = x - laps * width
    low = np.minimum(inner.astype(np.int32), width - 1)
    value = turns[low] + (inner - low) * (turns[low + 1] - turns[low]) + laps * turns[-1]
    return np.asarray(value)


def weld_light(rng: np.random.Generator) -> Light:
    angle = rng.uniform(0, 2 * math.pi)
    lobes = [Lobe(0.0, 0.0, 0.10, rng.uniform(0.1, 0.35))]
    for _ in range(int(rng.integers(2, 4))):
        turn, lean = rng.uniform(0, 2 * math.pi), rng.uniform(0.12, 0.55)
        lobes.append(
            Lobe(lean * math.cos(turn) * 0.6, lean * math.sin(turn), rng.uniform(0.08, 0.2), rng.uniform(0.4, 1.1))
        )
    return Light(0.55 * math.cos(angle), 0.55 * math.sin(angle), tuple(lobes))
