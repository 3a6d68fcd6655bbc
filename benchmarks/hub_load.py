"""200 stations on a real broker, in a process of their own: `python -m benchmarks.hub_load PORT SECONDS STATIONS FILE`.

Each station says its permit four times a second and one event a second: a record, or now and then a halt. What the
hub acknowledges is counted, and what it does not is sent again after 10 s, as an edge's spool does. At the end FILE
holds {"sent", "again", "missing", "late", "halts": {uid: ms it was first sent}} as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from inspection.messages import AckEvent, Conn, HaltEvent, Message, Permit, PlcState, RecordEvent, Topics

CLIENTS = 8
HALT_EVERY_S = 2.0
"""Over the whole floor: 1,800 an hour are far more than people bear, and what the pages must bear."""
HELD_S = 4.0
"""How long a station's permit names its halt before its own panel resets it."""
PERMIT_S = 0.25
AGAIN_S = 10.0
"""`edge.uploader.AGAIN_S`: so long an edge waits for an acknowledgement."""
ACK_WAIT_S = 120.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Floor:
    """`stations` share a few connections: the hub sees topics, and the broker's work is the same."""

    def __init__(self, port: int, stations: int) -> None:
        self.topics = [Topics("plant", f"line-{(n + 1) % 10}", f"s{n + 1:03d}") for n in range(stations)]
        self.sent: set[str] = set()
        self.acked: set[str] = set()
        self.again = 0
        """How often something was sent again."""
        self._waiting: dict[str, tuple[int, Message, float]] = {}
        """uid -> (station, message, when it was sent last), until it is acknowledged."""
        self.halts: dict[str, int] = {}
        self._open: dict[int, tuple[int, float]] = {}
        self._seq, self._lock = 0, threading.Lock()
        self._clients = [self._connect(port, n) for n in range(min(CLIENTS, stations))]

    def _connect(self, port: int, n: int) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"floor-{n}", protocol=mqtt.MQTTv5)
        client.max_inflight_messages_set(200)
        client.max_queued_messages_set(0)
        client.on_message = self._heard
        client.connect("127.0.0.1", port)
        for topics in self.topics[n::CLIENTS]:
            client.subscribe(topics.of(AckEvent), 1)
        client.loop_start()
        return client

    def _heard(self, _client: mqtt.Client, _data: object, raw: mqtt.MQTTMessage) -> None:
        uids = AckEvent.decode(bytes(raw.payload)).uids
        with self._lock:
            self.acked.update(uids)
            for uid in uids:
                self._waiting.pop(uid, None)

    def tell(self, station: int, message: RecordEvent | HaltEvent) -> None:
        """Say it, and again until the hub has it."""
        self.sent.add(message.uid)
        with self._lock:
            self._waiting[message.uid] = (station, message, time.monotonic())
        self.say(station, message)

    def remind(self) -> None:
        """Send again what has waited for so long."""
        now_s = time.monotonic()
        with self._lock:
            late = [(uid, *what) for uid, what in self._waiting.items() if now_s - what[2] > AGAIN_S]
            for uid, station, message, _ in late:
                self._waiting[uid] = (station, message, now_s)
        for _, station, message, _ in late:
            self.say(station, message)
        self.again += len(late)

    def say(self, station: int, message: Message) -> None:
        client = self._clients[station % len(self._clients)]
        client.publish(self.topics[station].of(type(message)), message.encode(), message.QOS, message.RETAIN)

    def begin(self) -> None:
        for n in range(len(self.topics)):
            self.say(n, Conn(state="ONLINE", boot=7, edge="bench"))
            self.say(n, PlcState(state="RUNNING", why="", ts_ms=now_ms()))

    def permit(self, station: int, at_s: float) -> None:
        halt, since = self._open.get(station, (0, 0.0))
        if halt and at_s - since > HELD_S:
            del self._open[station]
            halt = 0
        self._seq += 1
        level = {"run": int(not halt), "code": int(bool(halt)), "halt": halt}
        self.say(
            station,
            Permit.model_validate(level | {"boot": 7, "seq": self._seq, "echo": 0, "age_ms": 5, "ts_ms": now_ms()}),
        )

    def record(self, station: int) -> None:
        self.tell(
            station,
            RecordEvent(
                uid=uuid.uuid4().hex, why=("audit",), camera="cam", frame_id=len(self.sent) + 1, ts_ms=now_ms(),
                call="pass", scores={"porosity": 0.1, "undercut": 0.02}, px_per_mm=10.0, width_px=640, height_px=512,
                model="weld-0.1.0", policy="3f9a1c77be02", label_book="weld@1",
            ),
        )  # fmt: skip

    def halt(self, station: int, at_s: float) -> None:
        uid, number = uuid.uuid4().hex, 2_000_000_000 + len(self.halts)
        self._open[station] = (number, at_s)
        self.permit(station, at_s)
        self.halts[uid] = now_ms()
        self.tell(
            station,
            HaltEvent(
                halt=number, uid=uid, code=1, cls="porosity", score=0.97, limit=0.62, length_mm=1.6, limit_mm=0.5,
                reason="porosity 1.6 mm at or above its limit of 0.5 mm", model="weld-0.1.0", ts_ms=self.halts[uid],
            ),
        )  # fmt: skip

    def missing(self) -> int:
        with self._lock:
            return len(self.sent - self.acked)

    def close(self) -> None:
        for client in self._clients:
            client.disconnect()
            client.loop_stop()


def due(stations: int, seconds: float) -> Iterator[tuple[float, int, bool]]:
    """(when, station, whether it is an event or else a permit), evenly over each second."""
    for tick in range(round(seconds / PERMIT_S)):
        for n in range(stations):
            yield tick * PERMIT_S + n * PERMIT_S / stations, n, (tick + n) % round(1 / PERMIT_S) == 0


def run(port: int, seconds: float, stations: int, told: Path) -> None:
    floor = Floor(port, stations)
    floor.begin()
    began, next_halt, next_look, late = time.monotonic() + 1, HALT_EVERY_S, 1.0, 0.0
    for when, station, is_event in due(stations, seconds):
        wait = began + when - time.monotonic()
        if wait > 0.002:
            time.sleep(wait)
        late = max(late, -wait)
        if when >= next_look:
            floor.remind()
            next_look += 1
        if is_event and when >= next_halt and station not in floor._open:
            floor.halt(station, when)
            next_halt += HALT_EVERY_S
        elif is_event:
            floor.record(station)
        else:
            floor.permit(station, when)
    end = time.monotonic() + ACK_WAIT_S
    while floor.missing() and time.monotonic() < end:
        time.sleep(0.1)
        floor.remind()
    floor.close()
    missing = sorted(floor.sent - floor.acked)
    told.write_text(
        json.dumps(
            {"sent": len(floor.sent), "again": floor.again, "missing": missing, "late": late, "halts": floor.halts}
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    run(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
