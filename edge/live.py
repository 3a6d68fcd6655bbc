"""The small live picture of each camera for the pages, a few times a second: scaled, JPEG, QoS 0, never in the frame
path. What is inspected and where it is hot goes with it as numbers and a tiny map; the page lays them over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray

from edge.cameras.framing import Framing
from edge.config import CameraConfig, LiveConfig
from edge.line.outbox import Outbox
from edge.ports import Moment
from edge.recorder import Numbers
from inspection.events import Event, Judged
from inspection.live_picture import LivePicture, LiveRegion
from inspection.policy import Policy, judge
from inspection.types import Call, Frame

log = structlog.get_logger()

HEAT_W_PX = 160
WARM = 32
"""Of 255. Below it a map is cold and not worth sending."""
WORST = (Call.PASS, Call.UNCERTAIN, Call.FAULT, Call.DEFECT)


class LiveView:
    """One thread that wakes `fps` times a second and sends the newest picture of each camera, if it is a new one.

    `python -m benchmarks.live_cost` measures what it takes (docs/hub.md)."""

    def __init__(
        self,
        config: LiveConfig,
        numbers: Numbers,
        outbox: Outbox,
        policy: Callable[[], Policy],
        cameras: Sequence[tuple[CameraConfig, Framing]],
    ) -> None:
        self._config, self._numbers, self._outbox, self._policy = config, numbers, outbox, policy
        self._cameras = cameras
        self._sent: dict[str, int] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="live", daemon=True)

    def start(self) -> None:
        if self._config.fps > 0:
            self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def _work(self) -> None:
        while not self._closing.wait(1 / self._config.fps):
            for camera, framing in self._cameras:
                try:
                    self._send(camera, framing.latest)
                except Exception:
                    log.exception("live picture failed")

    def _send(self, camera: CameraConfig, frame: Frame | None) -> None:
        eyes = {eye: moment for eye in camera.eyes if (moment := self._numbers.last_of.get(eye))}
        if frame is None or not eyes or self._sent.get(camera.name) == frame.frame_id:
            return
        if not self._outbox.takes_live(camera.name):  # the newest of later on instead, when the link is ready for it
            return
        self._sent[camera.name] = frame.frame_id
        calls = {eye: call_of(moment.event, self._policy()) for eye, moment in eyes.items()}
        worst = max(calls.values(), key=WORST.index)
        regions = regions_of(camera, frame, calls)
        self._outbox.publish_live(picture_of(frame, worst.value, self._config, regions, heat_of(camera, frame, eyes)))


def call_of(event: Event, policy: Policy) -> Call:
    return judge(event.scores, event.findings, policy).call if isinstance(event, Judged) else Call.FAULT


def regions_of(camera: CameraConfig, frame: Frame, calls: Mapping[str, Call]) -> tuple[LiveRegion, ...]:
    """What of the picture is judged, as shares of it; the whole when the camera has no regions."""
    height, width = frame.image.shape[:2]
    places = [(f"{camera.name}/{r.name}", r.x, r.y, r.w, r.h) for r in camera.regions]
    return tuple(
        LiveRegion(
            name=eye, x=round(x / width, 4), y=round(y / height, 4), w=round(w / width, 4), h=round(h / height, 4),
            call=calls.get(eye, Call.FAULT).value,
        )
        for eye, x, y, w, h in places or [(camera.name, 0, 0, width, height)]
    )  # fmt: skip


def heat_of(camera: CameraConfig, frame: Frame, eyes: Mapping[str, Moment]) -> bytes:
    """Where any class is hot in any region, as a grey PNG HEAT_W_PX wide over the whole picture; empty when cold."""
    height, width = frame.image.shape[:2]
    shrink = HEAT_W_PX / width
    size = (HEAT_W_PX, max(1, round(height * shrink)))
    corners = {f"{camera.name}/{r.name}": (r.x, r.y) for r in camera.regions}
    whole: NDArray[np.uint8] | None = None
    for eye, moment in eyes.items():
        seen = moment.prediction
        if seen is None:
            continue
        heat = np.max(seen.heat, axis=0)
        if heat.max(initial=0) < WARM:
            continue
        affine = np.array(seen.heat_to_frame, np.float64)
        affine[:, 2] += corners.get(eye, (0, 0))
        part = np.asarray(cv2.warpAffine(heat, affine * shrink, size, flags=cv2.INTER_LINEAR), np.uint8)
        whole = part if whole is None else np.maximum(whole, part)
    if whole is None:
        return b""
    ok, png = cv2.imencode(".png", whole, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return bytes(png) if ok else b""


def picture_of(
    frame: Frame, call: str, config: LiveConfig, regions: tuple[LiveRegion, ...] = (), heat: bytes = b""
) -> LivePicture:
    image = frame.image
    if image.shape[1] > config.width_px:
        height = round(image.shape[0] * config.width_px / image.shape[1])
        image = cv2.resize(image, (config.width_px, height), interpolation=cv2.INTER_AREA).astype("uint8", copy=False)
    ok, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality])
    return LivePicture(frame.camera, frame.frame_id, frame.wall_ms, call, bytes(jpeg) if ok else b"", regions, heat)
