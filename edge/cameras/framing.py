"""From a camera's picture to the frames that are judged: the lens straightened, the regions cut out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from edge.config import LIVE, CameraConfig, RegionConfig
from inspection.calibration import Calibration, parse_calibration, straightener
from inspection.errors import CameraError, ConfigError
from inspection.types import Frame, Image


class Framing:
    """Frames keep their number, so that a lost picture is a gap in each of its regions.

    ConfigError when the calibration cannot be read, CameraError when it or a region does not fit the picture, or when a
    live camera gives pictures of another size than its first.
    """

    def __init__(self, config: CameraConfig) -> None:
        self._config = config
        self.calibration = calibration_of(config)
        self._maps = straightener(self.calibration) if self.calibration else None
        self._size: tuple[int, int] | None = None
        self.latest: Frame | None = None
        """The whole picture that was cut last, straightened: for people who look at the camera."""
        self.trouble = ""
        """Why the last picture could not be cut; empty when it could."""

    def frames(self, frame: Frame) -> Iterator[Frame]:
        """All of a picture's eyes or none: the first ones alone would look like a camera that is frozen."""
        try:
            self.latest = self._straight(frame)
            eyes = list(self._eyes(self.latest))
        except CameraError as e:
            self.trouble = str(e)
            raise
        self.trouble = ""
        return iter(eyes)

    def newest(self) -> list[Frame]:
        """The frames of the picture that was cut last; none before the first, nor of one that a region does not fit,
        which no model gets to see. From any thread."""
        try:
            return list(self._eyes(self.latest)) if self.latest else []
        except CameraError:
            return []

    def _eyes(self, frame: Frame) -> Iterator[Frame]:
        if not self._config.regions:
            yield frame
        for region in self._config.regions:
            image = _cut(frame, region)
            yield replace(frame, camera=f"{frame.camera}/{region.name}", image=image)

    def _check_size(self, width: int, height: int) -> None:
        """`px_per_mm` is of one size. A device that came back with its default one shows parts smaller or larger, which
        the model takes within its tolerance: a mark of 2 mm would be 1.6 mm, and too short to stop for."""
        if self._config.type not in LIVE:
            return
        size = self._size = self._size or (width, height)
        if (width, height) != size:
            was = f"{width}x{height} px, and was {size[0]}x{size[1]}, which px_per_mm is of"
            raise CameraError(
                f"{self._config.name}: the picture is {was}: set width_px and height_px, or restart the edge where the "
                "new size is meant"
            )

    def _straight(self, frame: Frame) -> Frame:
        known = self.calibration
        height, width = frame.image.shape[:2]
        if known is None:
            self._check_size(width, height)
            return frame
        if (width, height) != (known.width_px, known.height_px):
            size = f"{width}x{height} px, its calibration {known.width_px}x{known.height_px}"
            raise CameraError(f"{frame.camera}: the picture is {size}: calibrate again")
        if self._maps is None:
            return replace(frame, px_per_mm=known.px_per_mm)
        image = cv2.remap(frame.image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return replace(frame, px_per_mm=known.px_per_mm, image=np.asarray(image, np.uint8))


def _cut(frame: Frame, region: RegionConfig) -> Image:
    height, width = frame.image.shape[:2]
    if region.x + region.w > width or region.y + region.h > height:
        raise CameraError(f"{frame.camera}/{region.name} reaches beyond the picture of {width}x{height} px")
    return np.ascontiguousarray(frame.image[region.y : region.y + region.h, region.x : region.x + region.w])


def calibration_of(config: CameraConfig) -> Calibration | None:
    if config.calibration is None:
        return None
    try:
        data = config.calibration.read_bytes()
    except OSError as e:
        raise ConfigError(config.calibration, e.strerror or str(e), "make it: haltline edge calibrate") from e
    return parse_calibration(data, config.calibration)
