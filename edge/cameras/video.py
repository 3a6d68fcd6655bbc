"""Video files as a camera. Live devices are read in a child process, see `child.py`: a file does not hang."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from edge.cameras.pacing import Pace
from edge.config import CameraConfig
from inspection.errors import CameraError
from inspection.types import Frame


class VideoCamera:
    """Implements `ports.Camera` for a file, played at the configured rate and again from the start if it loops."""

    def __init__(self, config: CameraConfig) -> None:
        self.name = config.name
        self._config = config
        if not Path(config.source).is_file():
            raise CameraError(f"{config.source} is no file")
        self._pace = Pace(config.fps)
        self._video = _open(config.source)
        self._frame_id = -1

    def read(self) -> Frame | None:
        ok, image = self._video.read()
        if not ok and self._config.loop and self._frame_id >= 0:
            # Not by seeking: a film of one frame, or without its index, as of a recorder that lost power, has no start.
            self._video.release()
            self._video = _open(self._config.source)
            ok, image = self._video.read()
        if not ok:
            if self._frame_id < 0 or self._config.loop:
                raise CameraError(f"{self._config.source} has no frame OpenCV can decode")
            return None
        if not self._pace.wait():
            return None
        self._frame_id += 1
        return _frame(self.name, self._frame_id, image, self._config.px_per_mm)

    def close(self) -> None:
        self._pace.stop()


def _open(source: str) -> cv2.VideoCapture:
    video = cv2.VideoCapture(source)
    if not video.isOpened():
        raise CameraError(f"OpenCV cannot open {source!r}")
    return video


def _frame(name: str, frame_id: int, image: object, px_per_mm: float) -> Frame:
    now_ns, wall_ms = time.monotonic_ns(), time.time_ns() // 1_000_000
    pixels = np.asarray(image, dtype=np.uint8)
    if pixels.ndim == 2:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    return Frame(name, frame_id, now_ns, wall_ms, pixels, px_per_mm)
