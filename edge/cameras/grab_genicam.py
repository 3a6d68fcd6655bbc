"""GigE Vision and USB3 Vision cameras through Aravis (libaravis-0.8, LGPL), called by ctypes. Runs in the child.

By ctypes and not by its Python binding, because that binding is tied to the system's own Python. `source` is the
camera's id as `arv-tool-0.8` lists it, its serial number or its IP address; empty = the first one found.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import time
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np

from edge.cameras.clock import DeviceClock, WholeIds
from edge.cameras.pixels import picture
from edge.cameras.reader import Grab

BUFFERS = 8
WAIT_US = 200_000
SUCCESS = 0


class GError(ctypes.Structure):
    _fields_ = [("domain", ctypes.c_uint32), ("code", c_int), ("message", c_char_p)]


Failed = POINTER(GError)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "arv_camera_new": (c_void_p, [c_char_p, POINTER(Failed)]),
    "arv_camera_create_stream": (c_void_p, [c_void_p, c_void_p, c_void_p, POINTER(Failed)]),
    "arv_camera_get_payload": (c_uint, [c_void_p, POINTER(Failed)]),
    "arv_camera_set_region": (None, [c_void_p, c_int, c_int, c_int, c_int, POINTER(Failed)]),
    "arv_camera_set_frame_rate": (None, [c_void_p, c_double, POINTER(Failed)]),
    "arv_camera_start_acquisition": (None, [c_void_p, POINTER(Failed)]),
    "arv_buffer_new_allocate": (c_void_p, [c_size_t]),
    "arv_stream_push_buffer": (None, [c_void_p, c_void_p]),
    "arv_stream_timeout_pop_buffer": (c_void_p, [c_void_p, c_uint64]),
    "arv_buffer_get_status": (c_int, [c_void_p]),
    "arv_buffer_get_data": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "arv_buffer_get_image_width": (c_int, [c_void_p]),
    "arv_buffer_get_image_height": (c_int, [c_void_p]),
    "arv_buffer_get_image_pixel_format": (ctypes.c_uint32, [c_void_p]),
    "arv_buffer_get_frame_id": (c_uint64, [c_void_p]),
    "arv_buffer_get_timestamp": (c_uint64, [c_void_p]),
}


def load() -> Any:
    name = ctypes.util.find_library("aravis-0.8")
    if name is None:
        raise OSError("libaravis-0.8 is not installed (Debian: libaravis-0.8-0)")
    library = ctypes.CDLL(name)
    for function, (returns, takes) in FUNCTIONS.items():
        bound = getattr(library, function)
        bound.restype, bound.argtypes = returns, takes
    return library


class AravisGrabber:
    """A frame with a lost packet is no frame: it is left out, and its number is missing."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._arv = load()
        source = str(settings["source"])
        self._camera = self._do("arv_camera_new", source.encode() or None)
        if settings.get("width_px") and settings.get("height_px"):
            self._do("arv_camera_set_region", self._camera, 0, 0, settings["width_px"], settings["height_px"])
        self._do("arv_camera_set_frame_rate", self._camera, float(settings.get("fps", 30)))
        self._stream = self._do("arv_camera_create_stream", self._camera, None, None)
        payload = self._do("arv_camera_get_payload", self._camera)
        for _ in range(BUFFERS):
            self._arv.arv_stream_push_buffer(self._stream, self._arv.arv_buffer_new_allocate(payload))
        self._do("arv_camera_start_acquisition", self._camera)
        self._clock, self._ids = DeviceClock(), WholeIds()
        self._held: int | None = None

    def grab(self) -> Grab:
        arv = self._arv
        if self._held:  # its pixels were the last picture's
            arv.arv_stream_push_buffer(self._stream, self._held)
            self._held = None
        while True:
            buffer = arv.arv_stream_timeout_pop_buffer(self._stream, WAIT_US)
            arrived_ns = time.monotonic_ns()
            if not buffer:
                continue  # the edge decides how long is too long
            if arv.arv_buffer_get_status(buffer) == SUCCESS:
                self._held = buffer
                return self._grab_of(buffer, arrived_ns)
            arv.arv_stream_push_buffer(self._stream, buffer)

    def _grab_of(self, buffer: int, arrived_ns: int) -> Grab:
        arv, size = self._arv, c_size_t()
        at = arv.arv_buffer_get_data(buffer, byref(size))
        data = np.ctypeslib.as_array((ctypes.c_uint8 * size.value).from_address(at))
        width, height = arv.arv_buffer_get_image_width(buffer), arv.arv_buffer_get_image_height(buffer)
        image = picture(data, width, height, arv.arv_buffer_get_image_pixel_format(buffer))
        captured_ns = self._clock.captured(arv.arv_buffer_get_timestamp(buffer), arrived_ns)
        return Grab(image, self._ids.whole(arv.arv_buffer_get_frame_id(buffer)), captured_ns)

    def _do(self, function: str, *args: Any) -> Any:
        failed = Failed()
        found = getattr(self._arv, function)(*args, byref(failed))
        if failed:
            raise OSError(f"{function}: {(failed.contents.message or b'').decode()}")
        if found is None and FUNCTIONS[function][0] is not None:
            raise OSError(f"{function} gave nothing: is the camera there?")
        return found


def open_grabber(settings: dict[str, Any]) -> AravisGrabber:
    return AravisGrabber(settings)
