"""A moving weld, frame after frame, where one frame cannot tell.

A glowing bubble in the solidified bead is a defect: it stays and moves with the metal. A droplet of spatter that flies
past looks the same for one or two frames, and is none. Both are drawn by the same lines from the same distributions, so
that nothing but time tells them apart. The arc flickers, and somebody changes the exposure in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from inspection.render.scene import SURFACE
from inspection.render.seam import Seam
from inspection.render.spec import DefectSpec, Rendered, TrueDefect, task_spec
from inspection.render.texture import rng_for
from inspection.render.weld import Bead, draw_bead

CLIP = 40  # its own stream of randomness beside the scene's
SIZE = (192, 160)
PX_PER_MM = 5.0
FPS = 30.0
RADIUS_MM = (0.45, 1.0)
GLOW = (0.35, 0.9)  # how much of the metal's own colour the spot covers
HOT_BGR = (95.0, 175.0, 250.0)
ON_BEAD = 0.7  # of the way from the bead's centre line to its toe


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """What happens in a clip. `flashes_per_frame` is the mean number of droplets that appear with each frame.

    `bubbles` in the stretch that passes; `speed_mm_s` of the seam; `exposure_step`: whether the exposure jumps once;
    `ambient` multiplies all light, from the first frame on; `ordinary`: the seam also has the task's usual defects.
    """

    frames: int = 48
    bubbles: int = 0
    flashes_per_frame: float = 0.3
    speed_mm_s: float = 10.0
    exposure_step: bool = True
    ambient: float = 1.0
    ordinary: bool = False

    def __post_init__(self) -> None:
        if self.frames < 1 or self.ambient <= 0 or self.flashes_per_frame < 0:
            raise ValueError(f"a clip needs a frame, light above 0 and no negative rate, not {self}")


@dataclass(frozen=True, slots=True)
class _Spot:
    """A bright disc with a dark rim. `x_px` along the strip for a bubble, in the frame for a droplet."""

    x_px: float
    y_px: float
    radius_px: float
    glow: float
    first: int = 0
    last: int = 1 << 30


def render_clip(seed: int, spec: ClipSpec | None = None) -> Iterator[Rendered]:
    """The frames of one clip, (160, 192, 3) at 5 px/mm and 30 a second. Bubbles are the weld's class porosity.

    The same seed and spec give the same bytes. About 1 ms a frame, and 0.2 s for the strip.
    """
    spec = spec or ClipSpec()
    rng = rng_for(seed, CLIP)
    width, height = SIZE
    run_px = spec.frames * spec.speed_mm_s / FPS * PX_PER_MM
    length_mm = (run_px + 2 * width) / PX_PER_MM
    seam = Seam(
        "weld",
        seed,
        length_mm=length_mm,
        defects=None if spec.ordinary else list[DefectSpec](),
        speed_mm_s=spec.speed_mm_s,
        width_px=width,
        height_px=height,
        px_per_mm=PX_PER_MM,
    )
    # The seam's own bead: drawn again from the same stream, which costs less than a strip that tells its geometry.
    bead = draw_bead(rng_for(seed, SURFACE), (height, seam.strip_px), PX_PER_MM, loop=True)
    bubbles = [_spot(rng, bead, rng.uniform(0.15 * width, run_px + 0.85 * width)) for _ in range(spec.bubbles)]
    droplets = list(_droplets(rng, spec, bead, seam.step_px))
    gains = _gains(rng, spec)
    class_id = task_spec("weld").classes.index("porosity") + 1
    for k in range(spec.frames):
        frame = seam.frame(k)
        image = np.clip(frame.image * gains[k], 0, 255).astype(np.float32)
        mask, found = frame.mask.copy(), list(frame.defects)
        offset = round(k * seam.step_px)
        for b in bubbles:
            x = b.x_px - offset
            if 0 <= x < width:
                _draw(image, b, x, gains[k])
                cv2.circle(mask, (round(x), round(b.y_px)), max(1, round(b.radius_px)), class_id, -1)
                found.append(_truth(b, x))
        for d in droplets:
            if d.first <= k <= d.last:
                _draw(image, d, d.x_px, gains[k])
        yield Rendered(np.clip(image, 0, 255).astype(np.uint8), mask, tuple(found), PX_PER_MM, "weld", seed)


def _spot(rng: np.random.Generator, bead: Bead, x_px: float) -> _Spot:
    """On the bead at column `x_px` of the strip."""
    column, away = bead.column(x_px), rng.uniform(-ON_BEAD, ON_BEAD)
    half = bead.above_px if away < 0 else bead.below_px
    y = float(bead.centre_px[column] + away * half[column])
    return _Spot(x_px, y, rng.uniform(*RADIUS_MM) * PX_PER_MM, rng.uniform(*GLOW))


def _droplets(rng: np.random.Generator, spec: ClipSpec, bead: Bead, step_px: float) -> Iterator[_Spot]:
    """They last one frame, every third two, and do not move with the metal."""
    for k in range(spec.frames):
        for _ in range(int(rng.poisson(spec.flashes_per_frame))):
            offset = round(k * step_px)
            s = _spot(rng, bead, offset + rng.uniform(4, SIZE[0] - 4))
            yield _Spot(s.x_px - offset, s.y_px, s.radius_px, s.glow, k, k + int(rng.random() < 1 / 3))


def _gains(rng: np.random.Generator, spec: ClipSpec) -> np.ndarray:
    """(frames,) what the light and the exposure make of a frame."""
    gains = spec.ambient * np.exp(rng.normal(0, 0.08, spec.frames))
    if spec.exposure_step:
        ratio = math.exp(rng.choice([-1, 1]) * rng.uniform(0.25, 0.6))
        gains[int(rng.integers(0, spec.frames)) :] *= ratio
    return np.asarray(gains, np.float32)


def _draw(image: np.ndarray, spot: _Spot, x_px: float, gain: float) -> None:
    """Add the spot to float pixels in place. What glows is exposed like everything else."""
    reach = math.ceil(2 * spot.radius_px)
    x0, y0 = max(0, int(x_px) - reach), max(0, int(spot.y_px) - reach)
    part = image[y0 : int(spot.y_px) + reach + 1, x0 : int(x_px) + reach + 1]
    if not part.size:
        return
    y, x = np.mgrid[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]].astype(np.float32)
    r = np.sqrt((x - x_px) ** 2 + (y - spot.y_px) ** 2) / spot.radius_px
    core = (spot.glow * np.clip(3 * (1.1 - r), 0, 1))[..., None]
    rim = np.exp(-(((r - 1.2) / 0.25) ** 2))[..., None]
    part *= 1 - 0.5 * rim
    part += core * (np.array(HOT_BGR, np.float32) * gain - part)


def _truth(spot: _Spot, x_px: float) -> TrueDefect:
    r, width = spot.radius_px, SIZE[0]
    x0, x1 = max(0.0, x_px - r), min(float(width), x_px + r)
    return TrueDefect("porosity", 2 * r / PX_PER_MM, (x0, spot.y_px - r, x1 - x0, 2 * r))


def clip_spec(seed: int, k: int, frames: int = 48, ordinary: bool = True) -> ClipSpec:
    """The k-th clip of a training set: half with one or two bubbles, every weather from calm to a storm."""
    rng = rng_for(seed, CLIP, 1, k)
    return ClipSpec(
        frames=frames,
        bubbles=int(rng.integers(1, 3)) if k % 2 else 0,
        flashes_per_frame=float(rng.choice([0.0, 0.1, 0.4, 1.0])),
        speed_mm_s=float(rng.uniform(4, 16)),
        exposure_step=bool(rng.random() < 0.6),
        ambient=float(math.exp(rng.uniform(-0.5, 0.5))),
        ordinary=ordinary and k % 3 == 2,
    )
