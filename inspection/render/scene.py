"""A surface with its defects pressed in and the truth about them: what a frame and a seam have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inspection.render.dirt import dirt
from inspection.render.scratch import Sheet, scratch, sheet_light, sheet_surface
from inspection.render.spatter import spatter_and_slag
from inspection.render.spec import DefectSpec, Field, TaskSpec, TrueDefect
from inspection.render.surface import Painted, Stamp, Surface
from inspection.render.texture import rng_for
from inspection.render.weld import Bead, weld_light, weld_surface
from inspection.render.weld_defects import DRAW

# Each stream of randomness has its own number, so that a frame with and without a defect is the same frame.
SURFACE, DIRT, PLAN, DEFECT, LIGHT, OPTICS, SENSOR, FLICKER = range(8)

# Of random defects: the faintest still stands out of the noise of a bad camera in the dark.
CONTRAST = (0.5, 1.3)
LEAST_PX = 3.0  # a shorter defect is drawn this long: it must leave a mask


@dataclass(frozen=True, slots=True)
class Scene:
    radiance: Field
    surface: Surface
    painted: tuple[Painted, ...]


def plan_defects(rng: np.random.Generator, spec: TaskSpec, count: int) -> list[DefectSpec]:
    """Random defects, uniform over classes and over the logarithm of length: small ones are where the work is."""
    plan = []
    for _ in range(count):
        cls = str(rng.choice(spec.classes))
        low, high = spec.length_mm[cls]
        length = math.exp(rng.uniform(math.log(low), math.log(high)))
        plan.append(DefectSpec(cls, length, contrast=float(rng.uniform(*CONTRAST))))
    return plan


def check_defects(spec: TaskSpec, defects: Sequence[DefectSpec]) -> None:
    for defect in defects:
        if defect.cls not in spec.classes:
            raise ValueError(f"task {spec.name!r} has no class {defect.cls!r}; it has {', '.join(spec.classes)}")
        if not (math.isfinite(defect.length_mm) and defect.length_mm > 0):
            raise ValueError(f"a defect's length_mm must be above 0, got {defect.length_mm}")


def build(
    spec: TaskSpec, seed: int, shape: tuple[int, int], px_per_mm: float, defects: Sequence[DefectSpec], loop: bool
) -> Scene:
    """Draw everything but the camera. `shape` is (H, W) px; with `loop` the surface repeats along x."""
    check_defects(spec, defects)
    ground: Bead | Sheet
    if spec.name == "weld":
        surface, bead = weld_surface(rng_for(seed, SURFACE), shape, px_per_mm, loop)
        light, ground = weld_light(rng_for(seed, LIGHT)), bead
        stamps = spatter_and_slag(rng_for(seed, DIRT), bead, shape)
    else:
        surface, sheet = sheet_surface(rng_for(seed, SURFACE), shape, px_per_mm, loop)
        light, ground = sheet_light(rng_for(seed, LIGHT)), sheet
        stamps = dirt(rng_for(seed, DIRT), sheet, shape)
    for stamp in stamps:
        surface.press(stamp)
    painted = []
    for k, wanted in enumerate(defects):
        for attempt in range(8):
            stamp, path = _draw(rng_for(seed, DEFECT, k, attempt), ground, shape, wanted, loop)
            # one defect over another would leave a truth that no mask can show
            if wanted.at_mm is not None or not _covers(surface, stamp):
                break
        class_id = spec.classes.index(wanted.cls) + 1
        surface.press(stamp.faded(wanted.contrast), class_id)
        painted.append(Painted(TrueDefect(wanted.cls, wanted.length_mm, _box(stamp)), class_id, path))
    return Scene(surface.shade(light), surface, tuple(painted))


def _covers(surface: Surface, stamp: Stamp) -> bool:
    y0, x0 = max(0, stamp.y0), max(0, stamp.x0)
    return bool(surface.mask[y0 : stamp.y0 + stamp.height.shape[0], x0 : stamp.x0 + stamp.height.shape[1]].any())


def _draw(
    rng: np.random.Generator, ground: Bead | Sheet, shape: tuple[int, int], wanted: DefectSpec, loop: bool
) -> tuple[Stamp, Field]:
    height, width = shape
    ppm = ground.px_per_mm
    length_mm = max(wanted.length_mm, LEAST_PX / ppm)
    x, y = _place(rng, width, length_mm * ppm, loop), _place(rng, height, length_mm * ppm, False)
    if wanted.at_mm is not None:
        x, y = wanted.at_mm[0] * ppm, wanted.at_mm[1] * ppm
    if isinstance(ground, Bead):
        return DRAW[wanted.cls](rng, ground, x, length_mm)
    return scratch(rng, ground, (x, y), length_mm)


def _place(rng: np.random.Generator, span: int, length: float, loop: bool) -> float:
    """Where a defect's middle goes: anywhere it lies wholly inside."""
    margin = 0.0 if loop else min(span / 2, length / 2 + 3)
    return float(rng.uniform(margin, span - margin))


def _box(stamp: Stamp) -> tuple[float, float, float, float]:
    assert stamp.mask is not None
    rows, cols = np.flatnonzero(stamp.mask.any(1)), np.flatnonzero(stamp.mask.any(0))
    width, height = cols[-1] - cols[0] + 1, rows[-1] - rows[0] + 1
    return float(stamp.x0 + cols[0]), float(stamp.y0 + rows[0]), float(width), float(height)


def clip_truth(painted: Painted, offset_px: float, size: tuple[int, int], mask: np.ndarray) -> TrueDefect | None:
    """The part of a defect inside a frame that begins `offset_px` along the surface; None where nothing shows."""
    height, width = size
    x, y, w, h = painted.truth.box_px
    x -= offset_px
    x0, y0, x1, y1 = max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)
    if x1 <= x0 or y1 <= y0:
        return None
    if not (mask[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)] == painted.class_id).any():
        return None
    share = 1.0
    if (x0, y0, x1, y1) != (x, y, x + w, y + h):
        share = _share_inside(painted.path_px - np.array([offset_px, 0], np.float32), width, height)
    return TrueDefect(painted.truth.cls, painted.truth.length_mm * share, (x0, y0, x1 - x0, y1 - y0))


def _share_inside(path: Field, width: int, height: int) -> float:
    t = np.linspace(0, len(path) - 1, 200)
    x, y = (np.interp(t, np.arange(len(path)), path[:, k]) for k in (0, 1))
    return max(0.005, float(np.mean((x >= 0) & (x <= width) & (y >= 0) & (y <= height))))
