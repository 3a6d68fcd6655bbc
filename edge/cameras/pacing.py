"""Frames at a stated rate from sources that have no clock of their own."""

from __future__ import annotations

import threading
import time


class Pace:
    """Wait for the next frame's time. After a stall it goes on from now: a camera does not deliver late frames."""

    def __init__(self, fps: float) -> None:
        self._period_ns = round(1e9 / fps)
        self._next_ns = 0
        self._stop = threading.Event()

    def wait(self) -> bool:
        """False when stopped meanwhile."""
        now_ns = time.monotonic_ns()
        if self._next_ns < now_ns - self._period_ns:
            self._next_ns = now_ns
        if self._next_ns > now_ns and self._stop.wait((self._next_ns - now_ns) / 1e9):
            return False
        self._next_ns += self._period_ns
        return not self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()
