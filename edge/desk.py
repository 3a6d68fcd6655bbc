"""What this station tells the hub's engineers: what it really runs on, and what a camera gives right now.

A thread of its own; neither question ever reaches the frame path.
"""

from __future__ import annotations

import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import structlog

from edge.cameras.framing import Framing
from edge.config import CameraConfig, EdgeConfig
from edge.line.connection import Received
from edge.line.outbox import Outbox
from edge.machine import machine
from edge.model_base import BundleModel
from edge.recorder import Numbers
from edge.spool import Spool
from inspection.events import CannotJudge
from inspection.messages import Message
from inspection.station_messages import About, CameraAnswer, CameraTest
from inspection.types import Frame

log = structlog.get_logger()

RENEW_S = 60.0
LOOK_S = 1.0
WATCH_S = 1.0
SILENT_MS = 2000
SAMPLE_PX = 640


class StationDesk:
    """Publishes `About` at the start, after every reconnect, once a minute, and within a second when a camera sees no
    more, for another reason, or again, the broker refuses something, or the state folder cannot be used; answers a
    `CameraTest`."""

    def __init__(
        self,
        config: EdgeConfig,
        boot: int,
        outbox: Outbox,
        numbers: Numbers,
        spool: Spool,
        serving: Callable[[], BundleModel],
        cameras: Sequence[tuple[CameraConfig, Framing]],
        refused: Callable[[], dict[str, str]] = dict,
        unkept: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self._config, self._boot, self._outbox = config, boot, outbox
        self._numbers, self._spool, self._serving, self._refused = numbers, spool, serving, refused
        self._unkept = unkept
        """What of the state folder cannot be written or read -> why, or empty."""
        self._cameras = {camera.name: (camera, framing) for camera, framing in cameras}
        self._asked: queue.Queue[CameraTest | None] = queue.Queue(8)
        self._due_s = 0.0
        self._told: tuple[object, ...] = ()
        self._closing = threading.Event()
        self._machine = machine()
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        outbox.connection.on(outbox.topics.of(CameraTest), 1, self._heard)
        outbox.connection.on_up(self._renew)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._wake(None)

    def _heard(self, received: Received) -> None:
        self._wake(CameraTest.decode(received.payload))

    def _renew(self) -> None:
        self._due_s = 0.0
        self._wake(None)

    def _wake(self, asked: CameraTest | None) -> None:
        try:
            self._asked.put_nowait(asked)
        except queue.Full:
            log.warning("too many camera tests at once, one is not done")

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                troubles = self._troubles()
                if time.monotonic() >= self._due_s or troubles != self._told:
                    told = self._publish(self.about())
                    self._told, self._due_s = troubles, time.monotonic() + (RENEW_S if told else 1.0)
                asked = self._asked.get(timeout=min(LOOK_S, max(0.05, self._due_s - time.monotonic())))
                if asked and not self._closing.is_set():
                    self._publish(self.test(asked))
            except queue.Empty:
                continue
            except Exception:
                log.exception("telling the hub about this station failed")
                self._closing.wait(5)

    def _publish(self, message: Message) -> bool:
        return self._outbox.publish_event(message)

    def _troubles(self) -> tuple[object, ...]:
        """What keeps the station from seeing, without the numbers, which are others with every frame."""
        kinds = {camera: why.partition(":")[0] for camera, why in self._numbers.blind.items()}
        uncut = [framing.trouble for _, framing in self._cameras.values()]
        return self._numbers.state, kinds, uncut, self._not_allowed(), self._unkept()

    def _not_allowed(self) -> dict[str, str]:
        """What the broker refuses, of both connections."""
        return self._refused() | self._outbox.connection.refused

    def about(self) -> About:
        model, counters = self._serving(), self._spool.counters
        free = shutil.disk_usage(self._config.state_dir).free
        facts: dict[str, Any] = {
            "model": {
                "bundle": model.bundle_id,
                "asked_for": self._config.bundle.provider,
                "runs_on": model.provider,
                "runs_how": model.detail,
                "threads": self._config.bundle.threads,
                "golden_error": round(model.golden_error, 6),
            },
            "machine": self._machine,
            "guard": {"state": self._numbers.state, "code": self._numbers.code, "why": self._numbers.why},
            "cameras": {name: self._camera_facts(*both) for name, both in self._cameras.items()},
            "broker": {"refuses": "; ".join(self._not_allowed()) or "nothing"},
            "spool": {"trouble": self._spool.trouble or "none", "refused": counters.refused},
            **{what: {"trouble": why or "none"} for what, why in self._unkept().items()},
        }
        return About(
            boot=self._boot,
            facts=facts,
            config=without_secrets(self._config.model_dump(mode="json")),
            disk_free_bytes=free,
            spool_pending=counters.pending,
            spool_bytes=counters.pending_bytes,
            spool_quota_bytes=self._config.spool.quota_mb * 2**20,
            ts_ms=time.time_ns() // 1_000_000,
        )

    def _camera_facts(self, camera: CameraConfig, framing: Framing) -> dict[str, Any]:
        frame = framing.latest
        blind = [why for eye in camera.eyes if (why := self._numbers.blind.get(eye))]
        return {
            "type": camera.type,
            "frame": f"{frame.image.shape[1]}x{frame.image.shape[0]}" if frame else "none yet",
            "px_per_mm": round(frame.px_per_mm if frame else camera.px_per_mm, 3),
            "regions": len(camera.regions),
            "optional": camera.optional,
            "blind": framing.trouble or (blind[0] if blind else "no"),
        }

    def test(self, asked: CameraTest) -> CameraAnswer:
        """Watches the camera for a second: what the edge uses is tested, not a second connection to the device."""
        now_ms = time.time_ns() // 1_000_000
        if asked.camera not in self._cameras:
            why = f"no camera of this name; there are {sorted(self._cameras)}"
            return CameraAnswer(
                camera=asked.camera, nonce=asked.nonce, ok=False, why=why, state="unknown", ts_ms=now_ms
            )
        camera, framing = self._cameras[asked.camera]
        first = framing.latest
        began = time.monotonic()
        self._closing.wait(WATCH_S)
        last = framing.latest
        seconds = time.monotonic() - began
        frames = last.frame_id - first.frame_id if first and last else 0
        age_ms = (time.monotonic_ns() - last.captured_ns) / 1e6 if last else 0.0
        why = self._why_not(camera, last, age_ms)
        size = last.image.shape if last else (0, 0, 3)
        brightness, sharpness = looks(last) if last else (0.0, 0.0)
        return CameraAnswer(
            camera=camera.name,
            nonce=asked.nonce,
            ok=not why,
            why=why or "frames come and can be judged",
            state="live" if last and age_ms <= SILENT_MS else "silent",
            fps=round(frames / seconds, 1),
            age_ms=round(age_ms, 1),
            width_px=size[1],
            height_px=size[0],
            brightness=round(brightness, 1),
            sharpness=round(sharpness, 1),
            ts_ms=time.time_ns() // 1_000_000,
        )

    def _why_not(self, camera: CameraConfig, last: Frame | None, age_ms: float) -> str:
        if last is None:
            return "no frame since the edge started"
        if age_ms > SILENT_MS:
            return f"no frame for {age_ms / 1000:.0f} s"
        for eye in camera.eyes:
            moment = self._numbers.last_of.get(eye)
            if moment and isinstance(moment.event, CannotJudge):
                return f"{eye}: {moment.event.why}"
        return ""


def looks(frame: Frame) -> tuple[float, float]:
    """(mean grey 0..255, variance of the Laplacian) of every n-th px: enough to compare before and after a wipe."""
    step = max(1, frame.image.shape[1] // SAMPLE_PX)
    grey = cv2.cvtColor(np.ascontiguousarray(frame.image[::step, ::step]), cv2.COLOR_BGR2GRAY)
    return float(grey.mean()), float(cv2.Laplacian(grey, cv2.CV_64F).var())


def without_secrets(value: Any) -> Any:
    """Passwords lie in files; an address may still hold one: rtsp://user:password@camera."""
    if isinstance(value, dict):
        return {key: without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    return re.sub(r"//[^/@\s]*@", "//***@", value) if isinstance(value, str) else value
