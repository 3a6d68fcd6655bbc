"""Fault 9: two edges with one client id throw each other out at the broker. The line stops, and the edges say why."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.station import (
    TOPICS,
    end,
    plc_on,
    run_line,
    start_edge,
    state_file,
    trip_after,
    wait_for,
    write_station,
)
from deploy.broker import free_port, start_mosquitto
from edge.config import MqttConfig
from edge.line.connection import Connection, Received
from edge.line.mqtt import RIVALS_NS
from edge.line.plc_sim import PlcSim
from inspection.messages import Conn, Permit

RIVALRIES = {"same start": ((1, 1), "5"), "newer, MQTT 3.1.1": ((1, 2), "3.1.1")}
"""How often the two have started, and their protocol: the PLC takes the word of the one with more starts."""


class Ear:
    """Every permit and every ONLINE, with the time it came."""

    def __init__(self, port: int) -> None:
        self.permits: list[tuple[int, Permit]] = []
        self.online: list[tuple[int, int]] = []
        self.connection = Connection(MqttConfig(port=port), "ear")
        self.connection.on(TOPICS.of(Permit), 0, self._permit)
        self.connection.on(TOPICS.of(Conn), 1, self._conn)

    def _permit(self, received: Received) -> None:
        if not received.retained:
            self.permits.append((time.monotonic_ns(), Permit.decode(received.payload)))

    def _conn(self, received: Received) -> None:
        conn = Conn.decode(received.payload)
        if conn.state == "ONLINE" and not received.retained:
            self.online.append((time.monotonic_ns(), conn.boot))

    def any_run(self, since_ns: int) -> bool:
        return any(permit.run for at_ns, permit in list(self.permits) if at_ns > since_ns)


@contextmanager
def listening(port: int) -> Iterator[Ear]:
    ear = Ear(port)
    ear.connection.start()
    wait_for(lambda: ear.connection.connected, what="the broker")
    try:
        yield ear
    finally:
        ear.connection.stop()


@dataclass(frozen=True, slots=True)
class Rivalry:
    """From the moment the second edge is online: seconds to the trip and to the alarm (code 6 on the wire). Whether
    each edge's log names the other; whether, once both know, either gave a permit or the line ran; and whether the one
    that is left gives it again."""

    trip_s: float
    why: str
    alarm_s: float
    both_say_so: bool
    quiet: bool
    recovered: bool


def rivalry(folder: Path, name: str) -> Rivalry:
    """One meeting of two edges under one name, at a broker of its own."""
    boots, protocol = RIVALRIES[name]
    port = free_port()
    with ExitStack() as stack:
        stack.callback(end, start_mosquitto(port, folder))
        first, second = (write_station(folder / side, port, protocol=protocol) for side in ("first", "second"))
        for config, boot in zip((first, second), boots, strict=True):
            for _ in range(boot - 1):
                _start_once(config)
        plc, ear = stack.enter_context(plc_on(port)), stack.enter_context(listening(port))
        edge = start_edge(first)
        stack.callback(end, edge)
        run_line(plc, 60)
        time.sleep(0.6)  # two permits and more: the line runs on the first edge alone
        known = len(ear.online)
        other = start_edge(second)
        stack.callback(lambda: other.poll() is None and end(other))
        wait_for(lambda: len(ear.online) > known, 60, "the second edge")
        taken_ns = ear.online[known][0]
        # The broker ends the first edge's connection before the second one says ONLINE.
        trip_s, why = trip_after(plc, taken_ns - 50_000_000)
        alarms = wait_for(lambda: [at for at, p in list(ear.permits) if at > taken_ns and p.code == 6], 10, "code 6")
        both = _both_say_so(first, second)
        quiet = _stays_quiet(plc, ear)
        end(other)
        recovered = _recovers(ear)
        if recovered and boots[0] >= boots[1]:  # a PLC that knows a newer start goes on refusing the older one's word
            wait_for(lambda: plc.view()["state"] == "READY", 5, "a good permit")
        return Rivalry(trip_s, why, (alarms[0] - taken_ns) / 1e9, both, quiet, recovered)


def _start_once(config: Path) -> None:
    count = state_file(config)["boot"]
    edge = start_edge(config)
    wait_for(lambda: state_file(config)["boot"] > count, 60, "the start")
    time.sleep(0.5)  # its start is on disk before it is told to end
    end(edge)


def _both_say_so(*configs: Path) -> bool:
    logs = [config.parent / "edge.log" for config in configs]
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        if all("another edge runs" in log.read_text(errors="replace") for log in logs):
            return True
        time.sleep(0.05)
    return False


def _stays_quiet(plc: PlcSim, ear: Ear) -> bool:
    time.sleep(2)  # both edges have noticed each other and what was on its way has arrived
    settled_ns = time.monotonic_ns()
    time.sleep(3)  # twelve permits' time in which neither may say run
    return not ear.any_run(settled_ns) and plc.view()["state"] == "TRIPPED"


def _recovers(ear: Ear) -> bool:
    alone_ns = time.monotonic_ns()
    end_s = time.monotonic() + RIVALS_NS / 1e9 + 8
    while time.monotonic() < end_s:
        if ear.any_run(alone_ns):
            return True
        time.sleep(0.02)
    return False


def fault_9(times: int) -> list[Figure]:
    """The two kinds of rivalry in turn."""
    found = []
    for number in range(times):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            found.append(rivalry(Path(name), list(RIVALRIES)[number % len(RIVALRIES)]))
    slowest = max(found, key=lambda r: r.trip_s)
    return [
        Figure(f"slowest HALT of {times} after the second came", round(slowest.trip_s, 3), "s", "<= 1.05", slowest.why),
        Figure("slowest alarm: code 6 on the wire", round(max(r.alarm_s for r in found), 2), "s", "<= 5"),
        Figure("edges that did not name the other in their log", sum(not r.both_say_so for r in found), "", "<= 0"),
        Figure("permits given, or a line that ran, while both were there", sum(not r.quiet for r in found), "", "<= 0"),
        Figure("no permit once one of them had gone", sum(not r.recovered for r in found), "", "<= 0"),
    ]
