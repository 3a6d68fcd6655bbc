"""A Sparkplug B edge node beside the line contract: group = site, node = edge, device = camera.

For SCADA and historians. Never the stop path: its messages are QoS 0 by the specification, it has a connection of its
own, and it is fed as a recorder, after the line was told. What happens while the broker is away is told later, marked
historical.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog

from edge.config import MqttConfig, SparkplugConfig
from edge.line.connection import Connection, Received, client_id
from edge.line.sparkplug_payload import DataType, Metric, Value, commands, encode
from edge.ports import Moment
from inspection.events import Action, CannotJudge, Judged, RaiseHalt, SetPermit, StateChanged
from inspection.messages import Topics

log = structlog.get_logger()

REBIRTH = "Node Control/Rebirth"
PERIOD_S = 1.0
GONE_S = 5.0
"""A camera without a frame for so long is dead to a host (DDEATH). The line has stopped after policy.max_silence_ms."""

LINE: dict[str, tuple[DataType, Value]] = {
    "Line/Run": (DataType.BOOLEAN, False),
    "Line/Code": (DataType.INT32, 5),
    "Line/Halt": (DataType.INT64, 0),
    "Line/State": (DataType.STRING, "starting"),
    "Line/Reason": (DataType.STRING, ""),
    "Halt/Class": (DataType.STRING, ""),
    "Halt/Score": (DataType.DOUBLE, 0.0),
    "Halt/Length mm": (DataType.DOUBLE, 0.0),
    "Bundle": (DataType.STRING, ""),
}
CAMERA: dict[str, tuple[DataType, Value]] = {
    "Frames/Judged": (DataType.INT64, 0),
    "Frames/Not judged": (DataType.INT64, 0),
    "Score": (DataType.DOUBLE, 0.0),
}


@dataclass(slots=True)
class _Camera:
    values: dict[str, Value]
    seen_s: float = 0.0
    alive: bool = False
    changed: bool = False


class SparkplugNode:
    """Implements `ports.Recorder`. One thread speaks, so that seq and births are in order."""

    def __init__(self, config: SparkplugConfig, mqtt: MqttConfig, topics: Topics, cameras: Iterable[str]) -> None:
        self.group = config.group or topics.site
        self.node = config.node or f"{topics.line}-{topics.station}"
        self._lock = threading.Lock()
        self._line: dict[str, Value] = {name: value for name, (_, value) in LINE.items()}
        self._cameras = {camera: _Camera({name: value for name, (_, value) in CAMERA.items()}) for camera in cameras}
        self._waiting: deque[Metric] = deque(maxlen=config.history)
        self._bd_seq = -1
        self._seq = 0
        self._birth_due = False
        self._born = -1
        self._closing = False
        self._wake = threading.Event()
        self.connection = Connection(mqtt, client_id(topics, "spb"), keepalive_s=10)
        self.connection.before_connect(self._before_connect)
        self.connection.on(self._topic("NCMD"), 1, self._on_command)
        self.connection.on_up(self._ask_birth)
        self._thread = threading.Thread(target=self._work, name="sparkplug", daemon=True)

    def start(self) -> None:
        self.connection.start()
        self._thread.start()

    def close(self) -> None:
        """The death certificate first: a will is not sent when one leaves in order."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=2)
        self.connection.publish(self._topic("NDEATH"), self._death(), qos=1)
        self.connection.stop()

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        """On the frame path: notes what changed, never blocks on anything but its own short lock."""
        now_ms = time.time_ns() // 1_000_000
        with self._lock:
            self._note_frame(moment)
            for action in actions:
                for name, value in _told_by(action, moment).items():
                    if self._line[name] != value:
                        self._line[name] = value
                        self._waiting.append(Metric(name, LINE[name][0], value, now_ms))
        if self._waiting:
            self._wake.set()

    def _note_frame(self, moment: Moment) -> None:
        event = moment.event
        if isinstance(event, Judged | CannotJudge) and (camera := self._cameras.get(event.camera)):
            camera.seen_s, camera.changed = time.monotonic(), True
            name = "Frames/Judged" if isinstance(event, Judged) else "Frames/Not judged"
            camera.values[name] = int(camera.values[name]) + 1
            if isinstance(event, Judged):
                camera.values["Score"] = max(event.scores.values(), default=0.0)

    # ── the node's own thread ───────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        told_s = 0.0
        while not self._closing:
            self._wake.wait(PERIOD_S / 4)
            self._wake.clear()
            try:
                if self._birth_due:
                    self._give_birth()
                self._tell_line()
                if time.monotonic() - told_s >= PERIOD_S:
                    told_s = time.monotonic()
                    self.connection.supervise()
                    self._tell_cameras(told_s)
            except Exception:
                log.exception("sparkplug failed")

    def _live(self) -> bool:
        """Whether this very MQTT session has seen our birth; without it no data may be sent."""
        return self.connection.connected and self._born == self._bd_seq

    def _give_birth(self) -> None:
        """NBIRTH with seq 0 and every metric, then each living camera."""
        self._birth_due = False
        if not self.connection.connected:
            return
        session, now_ms = self._bd_seq, time.time_ns() // 1_000_000
        with self._lock:
            metrics = [Metric(name, LINE[name][0], value, now_ms) for name, value in self._line.items()]
            late = [replace(m, historical=True) for m in self._waiting]
            self._waiting.clear()
        own = [Metric("bdSeq", DataType.INT64, session, now_ms), Metric(REBIRTH, DataType.BOOLEAN, False, now_ms)]
        self._seq = 0
        for camera in self._cameras.values():
            camera.alive = False
        if self._send("NBIRTH", [*own, *metrics], now_ms):
            self._born = session
            self._tell_cameras(time.monotonic())
            if late and not self._send("NDATA", late, now_ms):
                self._keep(late)
        else:
            self._keep(late)

    def _tell_line(self) -> None:
        if not self._live():
            return
        with self._lock:
            metrics = list(self._waiting)
            self._waiting.clear()
        if metrics and not self._send("NDATA", metrics, time.time_ns() // 1_000_000):
            self._keep(metrics)

    def _keep(self, metrics: list[Metric]) -> None:
        with self._lock:
            room = (self._waiting.maxlen or 0) - len(self._waiting)
            self._waiting.extendleft(reversed(metrics[-room:] if room else []))

    def _tell_cameras(self, now_s: float) -> None:
        if not self._live():
            return
        for name, camera in self._cameras.items():
            fresh = camera.seen_s > 0 and now_s - camera.seen_s < GONE_S
            with self._lock:
                values, changed, camera.changed = dict(camera.values), camera.changed, False
            now_ms = time.time_ns() // 1_000_000
            metrics = [Metric(key, CAMERA[key][0], value, now_ms) for key, value in values.items()]
            if fresh and not camera.alive:
                camera.alive = self._send("DBIRTH", metrics, now_ms, name)
            elif not fresh and camera.alive:
                camera.alive = not self._send("DDEATH", [], now_ms, name)
            elif camera.alive and changed:
                self._send("DDATA", metrics, now_ms, name)

    def _send(self, verb: str, metrics: list[Metric], now_ms: int, camera: str = "") -> bool:
        sent = self.connection.publish(self._topic(verb, camera), encode(metrics, now_ms, self._seq))
        if sent:
            self._seq = (self._seq + 1) % 256
        return sent

    # ── the session ─────────────────────────────────────────────────────────────────────────────────────────────

    def _before_connect(self) -> None:
        """Each CONNECT has a will with the next bdSeq, by which a host tells a late death from a new one."""
        self._bd_seq = (self._bd_seq + 1) % 256
        self.connection.set_will(self._topic("NDEATH"), self._death(), retain=False)

    def _death(self) -> bytes:
        now_ms = time.time_ns() // 1_000_000
        return encode([Metric("bdSeq", DataType.INT64, self._bd_seq, now_ms)], now_ms, None)

    def _on_command(self, received: Received) -> None:
        if commands(received.payload).get(REBIRTH):
            self._ask_birth()

    def _ask_birth(self) -> None:
        self._born, self._birth_due = -1, True
        self._wake.set()

    def _topic(self, verb: str, camera: str = "") -> str:
        # A region of a camera is `camera/region`, and a level of a topic has no slash.
        device = f"/{camera.replace('/', ':')}" if camera else ""
        return f"spBv1.0/{self.group}/{verb}/{self.node}{device}"


def _told_by(action: Action, moment: Moment) -> dict[str, Value]:
    match action:
        case SetPermit(run=run, code=code, halt=halt, changed=True):
            return {"Line/Run": run, "Line/Code": int(code), "Line/Halt": halt, "Bundle": moment.model}
        case StateChanged(_, new, why):
            return {"Line/State": new.value, "Line/Reason": why}
        case RaiseHalt(report):
            return {"Halt/Class": report.cls, "Halt/Score": report.score, "Halt/Length mm": report.length_mm}
        case _:
            return {}
