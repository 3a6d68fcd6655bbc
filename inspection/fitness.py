"""Whether a picture can be judged at all. What cannot be judged is never called good.

Two kinds of checks. The hard ones need to know nothing: no light, burnt out, nothing to see, frozen. The others
compare with what the camera showed when it was set up (`reference_view.py`): covered, wrong exposure, blurred, moved,
dirt on the lens. A single picture may look odd, so these speak only when it lasts, and take back what they said only
when it is over for as long.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from inspection.look import Look, look_at
from inspection.reference_view import ReferenceView, ViewLearner, with_id
from inspection.static_view import StaticView
from inspection.types import Image


class FitnessLimits(BaseModel):
    """Grey levels are of the brightest channel, on every 8th px of every 8th row. A limit of 0 switches a check off."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dark_p99: float = Field(default=12.0, ge=0, le=255)
    """The 99th percentile below this means no light."""
    dark_frames: int = Field(default=1, ge=1, le=10_000)
    """So many dark frames in a row are a fault. Above 1 where dark frames are normal, as under a flickering arc:
    shorter runs of them are judged by nobody, and a run longer than policy.max_silence_ms stops the line anyway."""
    burnt_p10: float = Field(default=250.0, ge=0, le=255)
    """The 10th percentile above this means no contrast left."""
    flat_std: float = Field(default=2.0, ge=0, le=255)
    """A standard deviation below this means that there is nothing to see."""
    frozen_frames: int = Field(default=5, ge=0, le=10_000)
    """So many frames in a row without a difference mean a stuck camera; sensor noise makes even two unlikely."""
    frozen_within: int = Field(default=16, ge=1, le=64)
    """A frame is compared with so many before it: a driver that is stuck may hand out its few buffers in turn. Unset, 1
    for files and `simulated`, which may show few pictures over and over on purpose."""
    frozen_diff: float = Field(default=0.0, ge=0, le=255)
    """Frames that differ by no more than this, in mean grey levels, count as one: above 0 for a camera whose encoder
    sends a stuck picture with traces of its own."""
    lasting_frames: int = Field(default=12, ge=1, le=10_000)
    """What differs from the reference view must last so many frames."""
    smooth_frames: int = Field(default=12, ge=1, le=10_000)
    """Time constant with which light and sharpness are averaged before they are compared."""
    dirt_share: float = Field(default=0.003, ge=0, le=1)
    """A connected spot that stays, of at least this share of the picture, is dirt on the lens."""


class Fitness:
    """One camera's pictures over time. Costs about 0.05 ms for 640x512 px, 0.2 ms with a reference view.

    After `check`, `pending` says that the picture is not fit, but not for long enough to be a fault: nobody should
    judge it.
    """

    def __init__(self, limits: FitnessLimits | None = None, reference: ReferenceView | None = None) -> None:
        self.limits = limits or FitnessLimits()
        self.pending = False
        self._shown: deque[bytes] = deque(maxlen=self.limits.frozen_within)
        """Grids of the last frames with light in them, the newest first."""
        self._same, self._back, self._dark = 1, 0, 0
        self.against = Comparison(self.limits, reference) if reference else None

    def check(self, image: Image) -> str:
        """Why this picture cannot be judged; empty when it can, or when that is `pending`."""
        self.pending = False
        grid = np.ascontiguousarray(image[::8, ::8])
        unlit = self._unlit(grid)
        # Without light and without noise one picture is like another, and nobody judges it anyway.
        frozen = "" if self._dark else self._frozen(grid)
        if frozen or unlit or self.pending:
            return frozen or unlit
        return self.against.check(image) if self.against else ""

    def _frozen(self, grid: Image) -> str:
        # Noise differs in every pixel, so a grid of them is enough to tell an old picture from a still scene.
        pixels = grid.tobytes()
        back = next((n for n, before in enumerate(self._shown, 1) if self._differ_little(before, pixels)), 0)
        self._shown.appendleft(pixels)
        self._same, self._back = (self._same + 1, max(self._back, back)) if back else (1, 0)
        if not self.limits.frozen_frames or self._same < self.limits.frozen_frames:
            return ""
        if self._back > 1:
            return f"frozen: {self._same - 1} frames in a row repeat one of the {self._back} before them"
        return f"frozen: {self._same} frames without a difference"

    def _differ_little(self, before: bytes, pixels: bytes) -> bool:
        if self.limits.frozen_diff == 0 or len(before) != len(pixels):
            return before == pixels
        between = cv2.norm(np.frombuffer(before, np.uint8), np.frombuffer(pixels, np.uint8), cv2.NORM_L1)
        return between <= self.limits.frozen_diff * len(pixels)

    def _unlit(self, grid: Image) -> str:
        blue, green, red = cv2.split(grid)
        grey = cv2.max(cv2.max(blue, green), red)
        mean, std = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
        # Percentiles cost as much as all the rest, and the mean clears nearly every picture: where 99 % lie below a
        # limit it is at most 0.99 of it and a hundredth of 255, where 90 % lie above one at least 0.9 of it.
        limits, p99 = self.limits, 255
        if mean <= 0.99 * limits.dark_p99 + 2.55:
            p99 = _percentile(grey, 0.99)
        self._dark = self._dark + 1 if p99 < limits.dark_p99 else 0
        if self._dark:
            self.pending = self._dark < limits.dark_frames
            return "" if self.pending else f"dark: 99 % of the picture is below {p99 + 1} of 255"
        if limits.burnt_p10 and mean >= 0.9 * limits.burnt_p10 and (p10 := _percentile(grey, 0.1)) > limits.burnt_p10:
            return f"burnt out: 90 % of the picture is above {p10 - 1} of 255"
        return f"covered: grey levels vary by only {std:.1f}" if std < limits.flat_std else ""


def _percentile(grey: Image, share: float) -> int:
    """The grey level at or below which this share of the picture lies."""
    # Python's own tools on 256 numbers: between two inferences NumPy's are cold, and cost five times as much.
    below = list(accumulate(cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().tolist()))
    return bisect_left(below, share * grey.size)


class Comparison:
    """Pictures beside the reference view, smoothed over frames."""

    def __init__(self, limits: FitnessLimits, reference: ReferenceView) -> None:
        self._limits, self._reference = limits, reference
        self._view = StaticView(reference.static_limits(limits.dirt_share))
        self._numbers = np.zeros(5)
        self._frames = 0
        self._lasting = 0
        self._said = ""

    def check(self, image: Image) -> str:
        height, width = image.shape[:2]
        known = self._reference
        if (width, height) != (known.width_px, known.height_px):
            size = f"{width}x{height} px, the reference view {known.width_px}x{known.height_px}"
            return f"the picture is {size}: learn the view again"
        return self.check_look(look_at(image))

    def check_look(self, look: Look) -> str:
        now = np.array((look.sharpness, look.detail, look.contrast, look.median, look.bright))
        self._frames += 1
        self._numbers += (now - self._numbers) / min(self._frames, self._limits.smooth_frames)
        self._view.take(look.thumb)
        return self._settle(self._numbers_say() or self._view.says)

    def nearness(self, usual: Look) -> float:
        """How near light, sharpness and view are to a limit, 1 = at one; `usual`: what this camera mostly shows."""
        known, (sharpness, detail, contrast, median, bright) = self._reference, self._numbers
        near = [self._view.nearness()]
        for value, low, middle in (
            (sharpness, known.sharpness_low, usual.sharpness),
            (detail, known.detail_low, usual.detail),
            (contrast, known.contrast_low, usual.contrast),
        ):
            near.append((middle - value) / max(1e-6, middle - low))
        for value, (low, high), middle in (
            (median, known.median_range, usual.median),
            (bright, known.bright_range, usual.bright),
        ):
            near.append((middle - value) / max(1e-6, middle - low))
            near.append((value - middle) / max(1e-6, high - middle))
        return float(max(near))

    def _numbers_say(self) -> str:
        known, (sharpness, detail, contrast, median, bright) = self._reference, self._numbers
        if contrast < known.contrast_low:
            return f"covered: {_share(contrast, known.contrast_low)} of the least structure known here"
        for value, (low, high), what in (
            (median, known.median_range, "half"),
            (bright, known.bright_range, "90 %"),
        ):
            if not low <= value <= high:
                return f"wrong exposure: {what} of the picture is below {value:.0f}, known are {low:.0f} to {high:.0f}"
        for value, low in ((sharpness, known.sharpness_low), (detail, known.detail_low)):
            if value < low:
                return f"blurred: {_share(value, low)} of the least sharpness known here"
        return ""

    def _settle(self, why: str) -> str:
        """Speak when it lasts; be silent again when it is over for as long."""
        lasting = self._limits.lasting_frames
        self._lasting = min(lasting, max(0, self._lasting + (1 if why else -1)))
        if why and self._lasting == lasting:
            self._said = why
        elif self._lasting == 0:
            self._said = ""
        return self._said


def learned(learner: ViewLearner, camera: str, created_utc: str) -> ReferenceView:
    """The view, with how well half of it foretells the other half."""
    view = learner.view(camera, created_utc)
    half, rest = learner.halves()
    trial = Comparison(FitnessLimits(), half)
    unfit = sum(bool(trial.check_look(look)) for look in rest)
    return with_id(view.model_copy(update={"unsteady": round(unfit / len(rest), 4)}))


def _share(value: float, limit: float) -> str:
    return f"{np.exp(value - limit):.0%}"
