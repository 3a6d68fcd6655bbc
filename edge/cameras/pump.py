"""From a camera into the inbox, on its own thread; a camera that fails is opened again, and is silent meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from edge.inbox import Inbox
from edge.ports import Camera, Ready
from inspection.errors import CameraError
from inspection.types import Frame

log = structlog.get_logger()

FIRST_AGAIN_S, AGAIN_S = 0.2, 2.0
"""A camera that worked is opened again almost at once; one that does not come back is asked now and then."""


def whole(frame: Frame) -> Iterable[Frame]:
    return (frame,)


class CameraPump:
    """Silence is what the guard reacts to, so a failing camera needs no other message to the line than none.

    `view` makes of a camera's picture the frames that are judged, on the camera's thread. Frame numbers go on over
    every reopening: a number given twice would be two records with one name.
    """

    def __init__(
        self,
        name: str,
        open_camera: Callable[[], Camera],
        inbox: Inbox,
        view: Callable[[Frame], Iterable[Frame | Ready]] = whole,
    ) -> None:
        self.name = name
        self.camera: Camera | None = None
        self.failures = 0
        self.ended = False
        self._open, self._inbox, self._view = open_camera, inbox, view
        self._next_id, self._offset = 0, 0
        self._delivered = 0
        """Pictures that could be opened, read and viewed."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"camera-{name}", daemon=True)

    def start(self, camera: Camera | None = None) -> None:
        """`camera`: already opened, by a start that wants to know at once whether it can be."""
        self.camera = camera
        self._thread.start()

    def close(self) -> None:
        """Ends a blocked read too; a camera that is just being opened is closed by the thread itself."""
        self._closing.set()
        if camera := self.camera:
            camera.close()

    def _work(self) -> None:
        again_s, said, seen = FIRST_AGAIN_S, "", 0
        while not self._closing.is_set() and not self.ended:
            try:
                self.camera = self.camera or self._open()
                self._pump(self.camera)
            except Exception as e:
                # A thread that died would leave a camera silent for ever; the guard has withdrawn the permit by then.
                if self._closing.is_set():
                    break
                if self._delivered != seen:
                    again_s, said, seen = FIRST_AGAIN_S, "", self._delivered
                if repr(e) != said:  # once for each reason, it may be tried for days
                    tell = log.warning if isinstance(e, CameraError) else log.exception
                    tell("camera failed, opening it again until it works", camera=self.name, error=str(e))
                said = repr(e)
            else:
                continue
            self.failures += 1
            self._drop()
            self._closing.wait(again_s)
            again_s = min(AGAIN_S, 2 * again_s)
        self._drop()

    def _drop(self) -> None:
        camera, self.camera = self.camera, None
        if camera:
            camera.close()

    def _pump(self, camera: Camera) -> None:
        first = True
        while not self._closing.is_set():
            frame = camera.read()
            if frame is None:
                self.ended = not self._closing.is_set()
                log.info("camera has no more frames" if self.ended else "camera closed", camera=self.name)
                return
            if first:
                # its own numbers as long as they grow; after a reopening from where they were
                self._offset = max(0, self._next_id - frame.frame_id)
                first = False
            self._next_id = frame.frame_id + self._offset + 1
            numbered = replace(frame, frame_id=self._next_id - 1) if self._offset else frame
            for seen in self._view(numbered):
                self._inbox.put(seen)
            self._delivered += 1
