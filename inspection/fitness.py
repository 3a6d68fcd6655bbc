"""Whether a picture can be judged at all. Dark, burnt out, featureless or frozen pictures are never called good."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from inspection.types import Image


@dataclass(frozen=True, slots=True)
class FitnessLimits:
    """Grey levels are of the brightest channel, on every 8th px of every 8th row.

    `dark_p99`: the 99th percentile below this means no light. `burnt_p10`: the 10th percentile above this means no
    contrast left. `flat_std`: a standard deviation below this means a covered lens. `frozen_frames`: so many
    byte-identical frames in a row mean a stuck camera; sensor noise makes even two unlikely.
    """

    dark_p99: float = 12.0
    burnt_p10: float = 250.0
    flat_std: float = 2.0
    frozen_frames: int = 5


class Fitness:
    """One camera's pictures over time. Costs about 0.1 ms for 640x512."""

    def __init__(self, limits: FitnessLimits | None = None) -> None:
        self.limits = limits or FitnessLimits()
        self._digest = 0
        self._same = 0

    def check(self, image: Image) -> str:
        """Why this picture cannot be judged; empty when it can."""
        grid = np.ascontiguousarray(image[::8, ::8])
        digest = zlib.crc32(grid.data)
        # Noise differs in every pixel, so a grid of them is enough to tell a frozen picture from a still scene.
        self._same = self._same + 1 if digest == self._digest else 1
        self._digest = digest
        if self._same >= self.limits.frozen_frames:
            return f"frozen: {self._same} identical frames"
        grey = grid.max(axis=2)
        p10, p99 = np.percentile(grey, (10, 99))
        if p99 < self.limits.dark_p99:
            return f"dark: 99 % of the picture is below {p99:.0f} of 255"
        if p10 > self.limits.burnt_p10:
            return f"burnt out: 90 % of the picture is above {p10:.0f} of 255"
        if (std := float(grey.std())) < self.limits.flat_std:
            return f"covered: grey levels vary by only {std:.1f}"
        return ""
