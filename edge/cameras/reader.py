"""The child process that reads one camera: `python -m edge.cameras.reader`, started by `child.py`, never by hand.

It may be killed at any moment, which is the point: a driver's read can hang for good, a thread cannot be killed, a
process can. It reads as fast as the camera delivers, so that no old picture waits in a driver's queue. It loads
OpenCV and NumPy only, and ends by itself when the edge is gone.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cameras import wire

GRABBERS = {
    "opencv": "edge.cameras.grab_opencv",
    "genicam": "edge.cameras.grab_genicam",
    "pylon": "edge.cameras.grab_pylon",
}
"""Camera type -> the module whose `open_grabber(settings)` opens it."""


@dataclass(frozen=True, slots=True)
class Grab:
    """One picture off a device. `image` is (H, W) or (H, W, 3 BGR) uint8 and valid until the next grab.

    `frame_id` is the device's own number, growing, so that a gap is loss, or None where the device has none.
    `captured_ns` is on this machine's monotonic clock.
    """

    image: NDArray[np.uint8]
    frame_id: int | None
    captured_ns: int


class Grabber(Protocol):
    """One device, opened. Whatever it raises ends the child with that message."""

    def grab(self) -> Grab | None:
        """The next picture, blocking as long as the device does; None at the end of a finite source."""


class Slots:
    """The child's side of the shared memory, and the thread that hears which slots are free again."""

    def __init__(self, memory_fd: int, free_fd: int) -> None:
        self._memory_fd, self._free_fd = memory_fd, free_fd
        self._free: deque[int] = deque(range(wire.SLOTS))
        self._shape: tuple[int, ...] = ()
        self._memory: mmap.mmap | None = None
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        while freed := os.read(self._free_fd, 64):
            self._free.extend(freed)
        os._exit(0)  # the edge is gone; the main thread may be stuck in a driver

    def put(self, image: NDArray[np.uint8]) -> int | None:
        """Copy a picture into a free slot; None when the edge holds them all."""
        if self._memory is None:
            self._shape = (*image.shape[:2], 3)
            size = self._shape[0] * self._shape[1] * 3 * wire.SLOTS
            os.ftruncate(self._memory_fd, size)
            self._memory = mmap.mmap(self._memory_fd, size)
        if image.shape[:2] != self._shape[:2]:
            raise ValueError(f"the picture's size changed from {self._shape} to {image.shape}")
        if not self._free:
            return None
        slot = self._free.popleft()
        target = np.ndarray(self._shape, np.uint8, self._memory, slot * self._shape[0] * self._shape[1] * 3)
        if image.ndim == 2:
            cv2.cvtColor(image, cv2.COLOR_GRAY2BGR, dst=target)
        else:
            np.copyto(target, image)
        return slot


def serve(grabber: Grabber, slots: Slots, out_fd: int) -> None:
    """Pictures to the edge until the source ends."""
    count = -1
    while (grab := grabber.grab()) is not None:
        count = count + 1 if grab.frame_id is None else grab.frame_id
        slot = slots.put(grab.image)
        if slot is None:
            continue  # a gap in frame_id, which the guard counts
        height, width = grab.image.shape[:2]
        # wall time at the moment of capture, not at that of sending
        wall_ms = (time.time_ns() - (time.monotonic_ns() - grab.captured_ns)) // 1_000_000
        os.write(out_fd, wire.Header(wire.FRAME, slot, 0, height, width, count, grab.captured_ns, wall_ms).encode())
    os.write(out_fd, wire.Header(wire.END).encode())


def main() -> None:
    out_fd, free_fd, memory_fd = (int(arg) for arg in sys.argv[1:4])
    try:
        # By the pipe and not by the arguments: a URL may hold a password, and everybody may list arguments.
        settings: dict[str, Any] = json.loads(_line(free_fd))
        cv2.setNumThreads(1)  # one camera must not take the cores that inference needs
        open_grabber = importlib.import_module(GRABBERS[settings["type"]]).open_grabber
        slots = Slots(memory_fd, free_fd)
        grabber = open_grabber(settings)
        os.write(out_fd, wire.Header(wire.OPEN).encode())
        serve(grabber, slots, out_fd)
    except BrokenPipeError:
        pass
    except Exception as e:
        os.write(out_fd, wire.error(str(e) or type(e).__name__))
    os._exit(0)  # destructors of drivers may hang too


def _line(fd: int) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        if not (more := os.read(fd, 1)):
            os._exit(0)
        data += more
    return data


if __name__ == "__main__":
    main()
