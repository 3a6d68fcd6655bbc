"""The small live picture for the pages, a few times a second: scaled, JPEG, QoS 0, never in the frame path."""

from __future__ import annotations

import threading
from collections.abc import Callable

import cv2
import structlog

from edge.config import LiveConfig
from edge.line.outbox import Outbox
from edge.recorder import Numbers
from inspection.events import Event, Judged
from inspection.messages import LivePicture
from inspection.policy import Policy, judge
from inspection.types import Call, Frame

log = structlog.get_logger()


class LiveView:
    """One thread that wakes `fps` times a second and sends the newest frame. 640x512 costs about 2 ms of one core."""

    def __init__(self, config: LiveConfig, numbers: Numbers, outbox: Outbox, policy: Callable[[], Policy]) -> None:
        self._config, self._numbers, self._outbox, self._policy = config, numbers, outbox, policy
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="live", daemon=True)

    def start(self) -> None:
        if self._config.fps > 0:
            self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def _work(self) -> None:
        sent = None
        while not self._closing.wait(1 / self._config.fps):
            last = self._numbers.last
            if last is None or last is sent or last.frame is None:
                continue
            sent = last
            try:
                self._outbox.publish_live(picture_of(last.frame, self._call(last.event), self._config))
            except Exception:
                log.exception("live picture failed")

    def _call(self, event: Event) -> str:
        if not isinstance(event, Judged):
            return Call.FAULT.value
        return judge(event.scores, event.findings, self._policy()).call.value


def picture_of(frame: Frame, call: str, config: LiveConfig) -> LivePicture:
    image = frame.image
    if image.shape[1] > config.width_px:
        height = round(image.shape[0] * config.width_px / image.shape[1])
        image = cv2.resize(image, (config.width_px, height), interpolation=cv2.INTER_AREA).astype("uint8", copy=False)
    ok, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality])
    return LivePicture(frame.camera, frame.frame_id, frame.wall_ms, call, bytes(jpeg) if ok else b"")
