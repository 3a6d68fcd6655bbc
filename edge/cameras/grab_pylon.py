"""Basler cameras through pypylon (BSD, brings pylon with it). Runs in the child.

`source` is the camera's serial number; empty = the first one found. A picture with lost packets is left out, and its
number is missing.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

from edge.cameras.clock import DeviceClock, WholeIds
from edge.cameras.pixels import picture
from edge.cameras.reader import Grab

WAIT_MS = 1000


class PylonGrabber:
    def __init__(self, settings: dict[str, Any]) -> None:
        try:
            pylon = importlib.import_module("pypylon.pylon")
            genicam = importlib.import_module("pypylon.genicam")
        except ImportError as e:
            raise OSError("pypylon is not installed: pip install 'haltline[basler]'") from e
        self._pylon, self._error = pylon, genicam.GenericException
        try:
            self._camera = pylon.InstantCamera(_device(pylon, str(settings["source"])))
            self._camera.Open()
            for name, key in (("Width", "width_px"), ("Height", "height_px")):
                if settings.get(key):
                    getattr(self._camera, name).Value = settings[key]
            _set_rate(self._camera, float(settings.get("fps", 30)))
            self._camera.StartGrabbing(pylon.GrabStrategy_OneByOne)
        except genicam.GenericException as e:
            raise OSError(str(e).splitlines()[0]) from e
        self._clock, self._ids = DeviceClock(), WholeIds()

    def grab(self) -> Grab:
        while True:
            try:
                result = self._camera.RetrieveResult(WAIT_MS, self._pylon.TimeoutHandling_Return)
            except self._error as e:
                raise OSError(str(e).splitlines()[0]) from e
            arrived_ns = time.monotonic_ns()
            if result is None or not result.IsValid():
                if self._camera.IsCameraDeviceRemoved():
                    raise OSError("the camera was unplugged")
                continue
            try:
                if result.GrabSucceeded():
                    image = picture(result.Array.reshape(-1), result.Width, result.Height, result.PixelType)
                    captured_ns = self._clock.captured(result.TimeStamp, arrived_ns)
                    return Grab(image.copy(), self._ids.whole(result.BlockID), captured_ns)
            finally:
                result.Release()


def _device(pylon: Any, serial: str) -> Any:
    factory = pylon.TlFactory.GetInstance()
    if not serial:
        return factory.CreateFirstDevice()
    wanted = pylon.DeviceInfo()
    wanted.SetSerialNumber(serial)
    return factory.CreateDevice(wanted)


def _set_rate(camera: Any, fps: float) -> None:
    """Cameras name their rate differently, and some have none."""
    for name in ("AcquisitionFrameRate", "AcquisitionFrameRateAbs"):
        if (node := camera.GetNodeMap().GetNode(name)) is not None:
            camera.AcquisitionFrameRateEnable.Value = True
            node.Value = fps
            return


def open_grabber(settings: dict[str, Any]) -> PylonGrabber:
    return PylonGrabber(settings)
