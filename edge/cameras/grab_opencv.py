"""Whatever OpenCV opens: USB devices by number or path, RTSP and HTTP by URL. Runs in the reader's child process."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np

from edge.cameras.reader import Grab

OLDEST_NS = 5_000_000_000
"""A driver's time stamp that is older than this, or in the future, is on another clock and is not used."""


class OpenCvGrabber:
    """`settings`: those of `CameraConfig`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        source, options = str(settings["source"]), []
        if settings.get("fourcc"):
            options += [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*settings["fourcc"])]
        for prop, key in ((cv2.CAP_PROP_FRAME_WIDTH, "width_px"), (cv2.CAP_PROP_FRAME_HEIGHT, "height_px")):
            if settings.get(key):
                options += [prop, int(settings[key])]
        self._device = source.isdigit() or source.startswith("/dev/")
        backend = cv2.CAP_V4L2 if source.startswith("/dev/") else cv2.CAP_ANY
        self._video = cv2.VideoCapture(int(source) if source.isdigit() else source, backend)
        if not self._video.isOpened():
            raise OSError("OpenCV cannot open it")
        if self._device:
            for prop, value in zip(options[::2], options[1::2], strict=True):
                self._video.set(prop, value)
            self._video.set(cv2.CAP_PROP_FPS, float(settings.get("fps", 30)))
            # A deep driver buffer would hand over frames that are seconds old after a stall.
            self._video.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._v4l2 = self._device and self._video.getBackendName() == "V4L2"

    def grab(self) -> Grab:
        if not self._video.grab():
            raise OSError("it stopped delivering")
        captured_ns = self._stamp(time.monotonic_ns())
        ok, image = self._video.retrieve()
        if not ok:
            raise OSError("it delivered a picture that cannot be decoded")
        if image.dtype != np.uint8:
            raise OSError(f"it delivers {image.dtype} pixels, not 8 bits")
        return Grab(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image, None, captured_ns)

    def _stamp(self, now_ns: int) -> int:
        """The driver's own time stamp where it is on the monotonic clock, as V4L2's is."""
        if not self._v4l2:
            return now_ns
        driver_ns = round(self._video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return driver_ns if 0 <= now_ns - driver_ns < OLDEST_NS else now_ns


def open_grabber(settings: dict[str, Any]) -> OpenCvGrabber:
    return OpenCvGrabber(settings)
