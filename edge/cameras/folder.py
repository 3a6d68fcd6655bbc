"""A folder of pictures as a camera: each picture whole, or a window panning over it as over a moving seam."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import structlog

from edge.cameras.pacing import Pace
from edge.config import CameraConfig
from inspection.errors import CameraError
from inspection.types import Frame, Image

log = structlog.get_logger()

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
WINDOW_ASPECT = 1.25
"""Width over height of the panning window, that of a 5:4 sensor."""


class FolderCamera:
    """Implements `ports.Camera`. Pictures come in the order of their names; one that cannot be read is a lost frame."""

    def __init__(self, config: CameraConfig) -> None:
        self.name = config.name
        self._config = config
        self._paths = _pictures(Path(config.source))
        self._pace = Pace(config.fps)
        self._frame_id = -1
        self._unreadable: set[Path] = set()
        self._frames = self._play()

    def read(self) -> Frame | None:
        image = next(self._frames, None)
        if image is None or not self._pace.wait():
            return None
        self._frame_id += 1
        now_ns, wall_ms = time.monotonic_ns(), time.time_ns() // 1_000_000
        return Frame(self.name, self._frame_id, now_ns, wall_ms, image, self._config.px_per_mm)

    def close(self) -> None:
        self._pace.stop()

    def _play(self) -> Iterator[Image]:
        while True:
            seen = False
            for path in self._paths:
                if (image := self._load(path)) is not None:
                    seen = True
                    yield from windows(image, self._config.pan_px)
            if not seen:
                raise CameraError(f"{self._config.source} holds no picture of 8 bits that OpenCV can read")
            if not self._config.loop:
                return

    def _load(self, path: Path) -> Image | None:
        """None, and a gap in the numbers, for one that is half written or no picture: an end there would begin the
        folder anew, and nothing behind it would ever be seen. One that is gone does, with what is there now."""
        # The depth is asked for so that it can be refused, as training does: OpenCV would keep the upper 8 of 16 bits,
        # in which the picture of a 12-bit camera is black, and black passes.
        image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype == np.uint8:
            return np.asarray(image, dtype=np.uint8)
        if not path.exists():
            raise CameraError(f"{path} is gone")
        self._frame_id += 1
        if path not in self._unreadable:
            self._unreadable.add(path)
            why = "no picture OpenCV can read" if image is None else f"of {image.dtype}, and 8 bits are judged"
            log.warning("left out and counted as lost", why=why, camera=self.name, path=str(path))
        return None


def windows(image: Image, pan_px: float) -> Iterator[Image]:
    """The whole picture for pan_px 0, else a window of its full height moving right by pan_px a frame."""
    height, width = image.shape[:2]
    window = round(height * WINDOW_ASPECT)
    if pan_px <= 0 or window >= width:
        yield image
        return
    for step in range(int((width - window) / pan_px) + 1):
        x = round(step * pan_px)
        yield np.ascontiguousarray(image[:, x : x + window])


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CameraError(f"{folder} is no folder")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.is_dir())
    if not paths:
        raise CameraError(f"{folder} holds no picture ({', '.join(sorted(ENDINGS))})")
    return paths
