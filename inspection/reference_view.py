"""What a camera showed when it was set up, and how far from it a picture may be: learned, stored, compared.

Limits of light and sharpness come from single frames with a margin, and what is compared later is smoothed over
frames: so they hold for a line that stands still on one scene as well as for one that moves.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from inspection import static_view
from inspection.errors import InputError
from inspection.look import Look, Thumb, look_at
from inspection.static_view import StaticLimits
from inspection.types import Image

LEAST_FRAMES = 100
MOST_FRAMES = 3000
LEARN_AGAIN = "learn it again: haltline edge learn-view"


class ReferenceView(BaseModel):
    """One camera's view. Limits are of the smoothed numbers of `Look`; None where the view gives no ground for one.

    `still`: 0 to 1, how alike the view stays while the work moves: below 0.5 nothing in it stands still, and a moved
    camera cannot be noticed. `unsteady`: share of the second half of the frames that limits from the first half would
    have called unfit: above 0 the view should be learned over a longer time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    id: str = ""
    camera: str
    created_utc: str
    frames: int
    width_px: int
    height_px: int
    sharpness_low: float
    detail_low: float
    contrast_low: float
    median_range: tuple[float, float]
    bright_range: tuple[float, float]
    still: float
    step: float
    likeness_low: float | None
    gain_high: float | None
    unsteady: float = 0.0
    thumb_shape: tuple[int, int]
    mean: str
    """The mean thumbnail; like the other two float16, zlib, base64. See `StaticLimits`."""
    tolerance: str
    momentary: str

    def static_limits(self, dirt_share: float) -> StaticLimits:
        mean, tolerance, momentary = (
            _unpack(text, self.thumb_shape) for text in (self.mean, self.tolerance, self.momentary)
        )
        return StaticLimits(
            mean, tolerance, momentary, self.step, self.likeness_low, self.gain_high, dirt_share=dirt_share
        )

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"


def parse_view(data: bytes, where: object) -> ReferenceView:
    """InputError when it is no reference view, or was changed by hand after it was learned."""
    try:
        view = ReferenceView.model_validate_json(data)
        view.static_limits(0)
    except (ValueError, zlib.error) as e:
        raise InputError(where, f"is no reference view: {e}", LEARN_AGAIN) from e
    if view.id != _id_of(view):
        raise InputError(where, "was changed after it was learned", LEARN_AGAIN)
    return view


class ViewLearner:
    """Frames in, a reference view out. `add` every frame of a time in which the line does what it usually does."""

    def __init__(self) -> None:
        self._looks: list[Look] = []
        self._size = (0, 0)

    def __len__(self) -> int:
        return len(self._looks)

    def add(self, image: Image) -> None:
        height, width = image.shape[:2]
        if self._looks and (width, height) != self._size:
            raise InputError("camera", f"the picture's size changed from {self._size}", "learn with one size")
        self._size = (width, height)
        if len(self._looks) < MOST_FRAMES:
            self._looks.append(look_at(image))

    def view(self, camera: str, created_utc: str) -> ReferenceView:
        """InputError when there are too few frames to learn from."""
        if len(self._looks) < LEAST_FRAMES:
            raise InputError("camera", f"{len(self._looks)} frames are too few", f"at least {LEAST_FRAMES}")
        return self._view_of(self._looks, camera, created_utc)

    def halves(self) -> tuple[ReferenceView, list[Look]]:
        """A view learned from the first half, and the second half to try it on."""
        half = len(self._looks) // 2
        return self._view_of(self._looks[:half], "half", ""), self._looks[half:]

    def _view_of(self, looks: list[Look], camera: str, created_utc: str) -> ReferenceView:
        width, height = self._size
        static, still = static_view.learn(np.stack([look.thumb for look in looks]))
        view = ReferenceView(
            camera=camera,
            created_utc=created_utc,
            frames=len(looks),
            width_px=width,
            height_px=height,
            sharpness_low=_low((look.sharpness for look in looks), 0.1),
            detail_low=_low((look.detail for look in looks), 0.25),
            contrast_low=_low((look.contrast for look in looks), 0.4),
            median_range=_range(look.median for look in looks),
            bright_range=_range(look.bright for look in looks),
            still=round(still, 3),
            step=static.step,
            likeness_low=static.likeness_low,
            gain_high=static.gain_high,
            thumb_shape=(static.mean.shape[0], static.mean.shape[1]),
            mean=_pack(static.mean),
            tolerance=_pack(static.tolerance),
            momentary=_pack(static.momentary),
        )
        return with_id(view)


def with_id(view: ReferenceView) -> ReferenceView:
    return view.model_copy(update={"id": _id_of(view)})


def _low(values: Iterable[float], margin: float) -> float:
    """The lowest that was seen, less a margin and a quarter of the width of all that was seen."""
    seen = list(values)
    return min(seen) - margin - 0.25 * (max(seen) - min(seen))


def _range(values: Iterable[float]) -> tuple[float, float]:
    seen = list(values)
    margin = 4 + 0.05 * min(seen) + 0.25 * (max(seen) - min(seen))
    return max(0.0, min(seen) - margin), max(seen) + margin


def _id_of(view: ReferenceView) -> str:
    return hashlib.sha256(view.model_copy(update={"id": ""}).model_dump_json().encode()).hexdigest()[:12]


def _pack(values: NDArray[np.floating]) -> str:
    return base64.b64encode(zlib.compress(np.asarray(values, np.float16).tobytes())).decode()


def _unpack(text: str, shape: tuple[int, int]) -> Thumb:
    data = zlib.decompress(base64.b64decode(text, validate=True))
    return np.frombuffer(data, np.float16).reshape(shape).astype(np.float32)
