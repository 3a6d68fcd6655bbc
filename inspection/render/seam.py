"""A strip that moves under a camera: drawn once, then cut, lit and given its noise frame by frame.

Everything per frame works on bytes and on fields drawn beforehand: a frame must cost less than the camera's period.
Light, vignette and noise stay with the camera; the metal, its dirt and its defects move. The strip closes on itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from inspection.render import optics as lens
from inspection.render.scene import FLICKER, LIGHT, PLAN, SENSOR, build, clip_truth, plan_defects
from inspection.render.spec import DefectSpec, Field, Image, Optics, Rendered, TrueDefect, task_spec
from inspection.render.texture import rng_for

LEVELS = 12  # of arc brightness; between two of them nobody sees a step in a flickering light
NOISE_SLACK_PX = 64
WELL_EXPOSED = 0.44  # mean of full scale
SPACING_MM = 120.0  # between defects on a strip nobody asked for anything particular on


class Seam:
    """A moving seam or sheet of `length_mm`, seen by a fixed camera; the strip then begins again, without a joint.

    `frame(k)` may be asked in any order and gives the same bytes every time. A frame of 640 x 512 px takes about
    2 ms on one core; building the strip takes one to two seconds. Motion is in whole px, so that the truth is exact.
    """

    def __init__(
        self,
        task: str,
        seed: int,
        *,
        length_mm: float = 600.0,
        defects: Sequence[DefectSpec] | None = None,
        speed_mm_s: float = 10.0,
        fps: float = 30.0,
        width_px: int | None = None,
        height_px: int | None = None,
        px_per_mm: float | None = None,
        optics: Optics | None = None,
    ) -> None:
        spec = task_spec(task)
        self.task, self.seed = task, seed
        self.px_per_mm = px_per_mm or spec.px_per_mm
        self.width_px, self.height_px = width_px or spec.width_px, height_px or spec.height_px
        self.step_px = speed_mm_s / fps * self.px_per_mm
        self.strip_px = max(round(length_mm * self.px_per_mm), self.width_px)
        if defects is None:
            count = max(1, round(length_mm / SPACING_MM))
            spread = length_mm / count
            rng = rng_for(seed, PLAN)
            height_mm = self.height_px / self.px_per_mm
            defects = [
                DefectSpec(
                    d.cls,
                    d.length_mm,
                    d.contrast,
                    ((k + rng.uniform(0.3, 0.7)) * spread, rng.uniform(0.2, 0.8) * height_mm),
                )
                for k, d in enumerate(plan_defects(rng, spec, count))
            ]
        scene = build(spec, seed, (self.height_px, self.strip_px), self.px_per_mm, defects, loop=True)
        self._painted, self._optics = scene.painted, optics or _set_up(scene.radiance)
        # the first frame's width again at the end: every cut is then one plain slice
        loop = np.arange(self.strip_px + self.width_px) % self.strip_px
        self._strip = self._to_bytes(scene.radiance)[:, loop]
        self._mask = scene.surface.mask[:, loop]
        self._fields = self._light_fields()
        self._noise = self._noise_bank()

    def frame(self, index: int, flicker: int | None = None) -> Rendered:
        """The index-th frame. `flicker` numbers its light and noise where those go on while the seam stands still."""
        offset = round(index * self.step_px) % self.strip_px
        rng = rng_for(self.seed, FLICKER, index if flicker is None else flicker)
        cut = self._strip[:, offset : offset + self.width_px]
        level = int(rng.integers(0, LEVELS)) if self.task == "weld" else int(rng.integers(0, 3))
        image = cv2.multiply(cut, self._fields[level], scale=1 / 128)
        if self.task == "weld" and rng.random() < 0.35:
            size = (self.height_px, self.width_px)
            flash = lens.spatter_flash(rng, size, self.px_per_mm, int(rng.integers(1, 8)))
            image = cv2.add(image, lens.grey(flash) if self._optics.monochrome else flash)
        image = self._with_noise(image, rng)
        mask = np.ascontiguousarray(self._mask[:, offset : offset + self.width_px])
        return Rendered(image, mask, self._truth(offset, mask), self.px_per_mm, self.task, self.seed)

    def _truth(self, offset: int, mask: Image) -> tuple[TrueDefect, ...]:
        size = (self.height_px, self.width_px)
        seen = []
        for painted in self._painted:
            for lap in (-1, 0, 1):
                part = clip_truth(painted, offset + lap * self.strip_px, size, mask)
                if part is not None:
                    seen.append(part)
        return tuple(seen)

    def _to_bytes(self, radiance: Field) -> Image:
        """The strip as the lens sees it. Chunked: a whole strip in floats, twice, would be a third of a gigabyte."""
        out = np.empty(radiance.shape, np.uint8)
        width, pad = radiance.shape[1], 8
        for start in range(0, width, 1024):
            stop = min(width, start + 1024)
            part = radiance[:, np.arange(start - pad, stop + pad) % width]
            part = cv2.GaussianBlur(part, (0, 0), max(0.2, self._optics.blur_px))
            if self._optics.monochrome:
                part = part @ lens.LUMA
            part = lens.shoulder(part * np.float32(self._optics.exposure))[:, pad : pad + stop - start]
            out[:, start:stop] = np.clip(part * 255 + 0.5, 0, 255)
        return out

    def _light_fields(self) -> list[Image]:
        """LEVELS light fields as bytes, 128 = unchanged."""
        rng = rng_for(self.seed, LIGHT, 1)
        size = (self.height_px, self.width_px)
        still = lens.light_field(rng, size) * lens.vignette_field(self._optics.vignette, size)[..., None]
        arc = np.clip(lens.arc_field(rng, size), 0, 3)
        share = rng.uniform(0.08, 0.22) if self.task == "weld" else 0.0
        fields = []
        for level in range(LEVELS):
            glow = (1 - share) + share * 2 * (level / (LEVELS - 1)) * arc if share else 0.99 + 0.01 * level
            lit = np.asarray(still * glow, np.float32)
            if self._optics.monochrome:
                lit = lit @ lens.LUMA
            fields.append(np.clip(lit * 128, 0, 255).astype(np.uint8))
        return fields

    def _noise_bank(self) -> tuple[Image, Image]:
        """Positive and negative halves of one noise picture, larger than a frame; each frame cuts it elsewhere."""
        rng = rng_for(self.seed, SENSOR)
        size = (self.height_px + NOISE_SLACK_PX, self.width_px + NOISE_SLACK_PX)
        grey = rng.standard_normal(size, dtype=np.float32)[..., None]
        colour = np.float32(0 if self._optics.monochrome else 0.6) * rng.standard_normal((*size, 3), dtype=np.float32)
        noise = (0.8 * grey + colour) * np.float32(self._optics.noise)
        return np.clip(noise + 0.5, 0, 255).astype(np.uint8), np.clip(-noise + 0.5, 0, 255).astype(np.uint8)

    def _with_noise(self, image: Image, rng: np.random.Generator) -> Image:
        y, x = (int(v) for v in rng.integers(0, NOISE_SLACK_PX, 2))
        here = (slice(y, y + self.height_px), slice(x, x + self.width_px))
        flip = int(rng.integers(0, 2))
        up, down = self._noise[flip][here], self._noise[1 - flip][here]
        return np.asarray(cv2.subtract(cv2.add(image, up), down), np.uint8)


def _set_up(radiance: Field) -> Optics:
    """A camera whose exposure somebody set for this metal. In coarse steps, so that a defect more does not move it."""
    wished = WELL_EXPOSED / max(0.01, float(radiance[::7, ::7].mean()))
    return Optics(exposure=float(np.clip(round(wished * 10) / 10, 0.6, 2.5)))
