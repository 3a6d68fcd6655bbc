"""The procedural renderer: the demo's camera, the tests' camera and the first training set.

A frame is a surface (`weld.py`, `scratch.py`) with defects and dirt pressed into it (`weld_defects.py`, `dirt.py`),
seen through a camera (`optics.py`). The truth comes from the geometry drawn, never from the picture. Everything
follows from the seed: the same call gives the same bytes. No clock, no files, no global randomness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from inspection.render import optics as lens
from inspection.render.scene import CONTRAST, FLICKER, LIGHT, OPTICS, PLAN, SENSOR, build, clip_truth, plan_defects
from inspection.render.seam import Seam
from inspection.render.spec import TASKS, DefectSpec, Field, Optics, Rendered, TaskSpec, TrueDefect, task_spec
from inspection.render.texture import rng_for

__all__ = [
    "TASKS",
    "DefectSpec",
    "Optics",
    "Rendered",
    "Seam",
    "TaskSpec",
    "TrueDefect",
    "render",
    "rendered_samples",
]

GOLDEN = 0.6180339887498949


def render(
    task: str,
    seed: int,
    *,
    defects: Sequence[DefectSpec] | None = None,
    width_px: int | None = None,
    height_px: int | None = None,
    px_per_mm: float | None = None,
    optics: Optics | None = None,
) -> Rendered:
    """One frame. `defects` None draws them by the seed (about half of the frames are good); [] gives a good frame.

    Sizes and `px_per_mm` default to the task's; `optics` None draws a camera by the seed. Raises ValueError for an
    unknown task or class. About 0.1 s for 640 x 512 px on one core.
    """
    spec = task_spec(task)
    size = (height_px or spec.height_px, width_px or spec.width_px)
    scale = px_per_mm or spec.px_per_mm
    if defects is None:
        rng = rng_for(seed, PLAN)
        count = 0 if rng.random() < 0.5 else int(rng.choice([1, 2, 3], p=[0.7, 0.22, 0.08]))
        defects = plan_defects(rng, spec, count)
    scene = build(spec, seed, size, scale, defects, loop=False)
    radiance = _lit(task, seed, scene.radiance, scale)
    image = lens.expose(rng_for(seed, SENSOR), radiance, optics or lens.draw_optics(rng_for(seed, OPTICS)))
    mask = scene.surface.mask
    parts = (clip_truth(p, 0, size, mask) for p in scene.painted)
    return Rendered(image, mask, tuple(p for p in parts if p is not None), scale, task, seed)


def _lit(task: str, seed: int, radiance: Field, px_per_mm: float) -> Field:
    """The light of the moment: lamps, and for a weld the arc, which may be the only light there is."""
    rng = rng_for(seed, LIGHT, 1)
    size = radiance.shape[:2]
    field = lens.light_field(rng, size)
    if task == "weld":
        arc = lens.arc_field(rng, size)
        mood = rng.random()
        lamps, burning = (1.0, 0.0) if mood < 0.45 else (0.8, rng.uniform(0.05, 0.5))
        if mood > 0.85:
            lamps, burning = rng.uniform(0.10, 0.2), rng.uniform(0.25, 0.6)
        field = field * np.float32(lamps) + arc * np.float32(burning)
    radiance = radiance * field
    flicker = rng_for(seed, FLICKER)
    if task == "weld" and flicker.random() < 0.3:
        flash = lens.spatter_flash(flicker, size, px_per_mm, int(flicker.integers(1, 14))).astype(np.float32) / 255
        glow = cv2.GaussianBlur(flash, (0, 0), 0.5 * px_per_mm)
        radiance = radiance + 1.1 * flash + 0.9 * glow
    return np.asarray(radiance, np.float32)


def rendered_samples(
    task: str,
    count: int,
    seed: int,
    *,
    good_share: float = 0.5,
    width_px: int | None = None,
    height_px: int | None = None,
    px_per_mm: float | None = None,
    optics: Optics | None = None,
) -> Iterator[Rendered]:
    """`count` frames for training or tests, lazily; the k-th is the same whatever `count` is.

    Stratified rather than drawn: classes take turns and lengths sweep their range evenly in the logarithm, so that
    even a small set holds small and borderline defects. Every fourth defective frame holds a second defect.
    """
    spec = task_spec(task)
    bad = 0
    for k in range(count):
        own_seed = int(np.random.SeedSequence((seed, k)).generate_state(1)[0])
        defects: list[DefectSpec] = []
        if math.floor((k + 1) * (1 - good_share)) > math.floor(k * (1 - good_share)):
            defects = _stratum(spec, bad, rng_for(own_seed, PLAN))
            bad += 1
        yield render(
            task,
            own_seed,
            defects=defects,
            width_px=width_px,
            height_px=height_px,
            px_per_mm=px_per_mm,
            optics=optics,
        )


def _stratum(spec: TaskSpec, k: int, rng: np.random.Generator) -> list[DefectSpec]:
    turn, cls = divmod(k, len(spec.classes))
    low, high = spec.length_mm[spec.classes[cls]]
    # golden-ratio steps fill the range evenly however many there are
    length = low * (high / low) ** ((0.5 + turn * GOLDEN) % 1.0)
    first = DefectSpec(spec.classes[cls], length, contrast=float(rng.uniform(*CONTRAST)))
    return [first, *plan_defects(rng, spec, 1)] if k % 4 == 3 else [first]
