"""Whatever OpenCV opens: USB devices by number or path, RTSP and HTTP by URL. Runs in the reader's child process."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cameras.reader import Grab

OLDEST_NS = 5_000_000_000
"""A driver's time stamp that is older than this, or in the future, is on another clock and is not used."""

PADDED_BYTES = 4096
"""Of a JPEG's end, in which it must be over."""
CUT_OFF = 30
"""So many pictures in a row of which the end is missing are no glitch of the line, and the camera is opened again."""


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
        # FFmpeg makes a picture of half a JPEG: the rest of it is the one before, and would be judged as new. No option
        # of OpenCV's keeps it from that, so the JPEGs of a stream are taken as they came and decoded here.
        jpegs = int(self._video.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG")
        self._jpegs = jpegs and not self._device and self._video.set(cv2.CAP_PROP_FORMAT, -1)
        self._number = -1

    def grab(self) -> Grab:
        for _ in range(CUT_OFF):
            if grab := self._next():
                return grab
        raise OSError("its pictures are cut off: their end is missing")

    def _next(self) -> Grab | None:
        """The next picture; None where its end is missing, which is a lost frame."""
        if not self._video.grab():
            raise OSError("it stopped delivering")
        self._number += 1
        captured_ns = self._stamp(time.monotonic_ns())
        ok, image = self._video.retrieve()
        if not ok:
            raise OSError("it delivered a picture that cannot be decoded")
        if self._jpegs:
            if not _is_whole(image):
                return None
            image = cv2.imdecode(image, cv2.IMREAD_COLOR)
            if image is None:
                raise OSError("it delivered a picture that cannot be decoded")
        if image.dtype != np.uint8:
            raise OSError(f"it delivers {image.dtype} pixels, not 8 bits")
        return Grab(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image, self._number, captured_ns)

    def _stamp(self, now_ns: int) -> int:
        """The driver's own time stamp where it is on the monotonic clock, as V4L2's is."""
        if not self._v4l2:
            return now_ns
        driver_ns = round(self._video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return driver_ns if 0 <= now_ns - driver_ns < OLDEST_NS else now_ns


def _is_whole(jpeg: NDArray[np.uint8]) -> bool:
    """Whether its end is there; some cameras fill up behind it."""
    return jpeg.ravel()[-PADDED_BYTES:].tobytes().rstrip(b"\0\xff\r\n").endswith(b"\xff\xd9")


def open_grabber(settings: dict[str, Any]) -> OpenCvGrabber:
    return OpenCvGrabber(settings)
