"""From a camera into the inbox, on its own thread; a camera that fails is opened again, and is silent meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from edge.inbox import Inbox
from edge.ports import Camera
from inspection.errors import CameraError

log = structlog.get_logger()

AGAIN_S = 2.0


class CameraPump:
    """Silence is what the guard reacts to, so a failing camera needs no other message to the line than none."""

    def __init__(self, name: str, open_camera: Callable[[], Camera], inbox: Inbox) -> None:
        self.name = name
        self.camera: Camera | None = None
        self.failures = 0
        self.ended = False
        self._open, self._inbox = open_camera, inbox
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"camera-{name}", daemon=True)

    def start(self, camera: Camera | None = None) -> None:
        """`camera`: already opened, by a start that wants to know at once whether it can be."""
        self.camera = camera
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self.camera:
            self.camera.close()

    def _work(self) -> None:
        while not self._closing.is_set() and not self.ended:
            try:
                self.camera = self.camera or self._open()
                self._pump(self.camera)
            except CameraError as e:
                self.failures += 1
                log.warning("camera failed, opening it again", camera=self.name, error=str(e))
                if self.camera:
                    self.camera.close()
                self.camera = None
                self._closing.wait(AGAIN_S)

    def _pump(self, camera: Camera) -> None:
        while not self._closing.is_set():
            frame = camera.read()
            if frame is None:
                self.ended = True
                log.info("camera has no more frames", camera=self.name)
                return
            self._inbox.put(frame)
