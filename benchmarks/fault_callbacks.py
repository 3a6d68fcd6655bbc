"""Fault 11: an exception in every callback and in every step of the frame path.

Where the line's permit depends on a step, the line must stop; elsewhere nothing may change. The exception is raised by
an edge that is as shipped but for one function: see `sabotage`.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.fault_line import Bench, station, worst
from benchmarks.figures import Figure, percentile
from benchmarks.station import TOPICS, trip_after, wait_for
from deploy.broker import die_with_parent
from edge.config import MqttConfig
from edge.line.connection import Connection
from inspection.messages import Resume, Trigger

SABOTAGED = (
    "edge.runner:observe",
    "inspection.decision:LineGuard.handle",
    "edge.line.mqtt:MqttLine._set_level",
    "edge.line.mqtt:MqttLine._publish",
    "edge.recorder:Numbers.offer",
    "edge.recorder:Evidence.offer",
)
"""Where an exception must not leave a running line behind. `observe` raising anything but ModelError is our own bug."""

HARMLESS = (
    "edge.line.mqtt:MqttLine._on_resume",
    "edge.line.mqtt:MqttLine._on_trigger",
    "edge.line.mqtt:MqttLine._on_conn",
    "edge.live:picture_of",
    "edge.uploader:Uploader._send",
)
"""Where an exception must change nothing: the handler is wrapped, the frame path goes on."""

HEARTBEAT = "edge.line.mqtt:MqttLine._on_heartbeat"
"""Between the two: halts go out as ever, but the echo stands still, and 4 counts later the PLC takes no permit."""

KEPT = {"policy": "k: 2, n: 3, audit_share: 1.0", "more": "hub: {url: 'http://127.0.0.1:9'}"}
"""Every frame is kept for a hub that is not there, so that the uploader has something to fail at."""


def fault_11(times: int) -> list[Figure]:
    """Every function of both lists, `times` each; a supervisor restarts what exits."""
    found = [sabotaged(target) for _ in range(times) for target in SABOTAGED]
    stopped = sum(not harmless() for _ in range(times))
    backs = [back_s for _, back_s in found]
    deaf = [trip_s(HEARTBEAT) for _ in range(times)]
    return [
        worst([tripped_s for tripped_s, _ in found], "exception in the frame path"),
        Figure(
            "a supervisor restarts it: good permit after", round(max(backs), 2), "s", "<= 5",
            f"p50 {percentile(backs, 0.5):.2f} s, p99 {percentile(backs, 0.99):.2f} s",
        ),
        Figure(f"exception in {len(HARMLESS)} other callbacks: lines that stopped", stopped, "", "<= 0"),
        Figure(
            "exception in the heartbeat's callback: trip after", round(max(deaf), 2), "s", None,
            "4 counts and the watchdog; halts go out meanwhile",
        ),
    ]  # fmt: skip


@contextmanager
def _station(target: str, policy: str = "k: 2, n: 3", more: str = "") -> Iterator[tuple[Bench, Path]]:
    """A running line, and the file at whose touch `target` begins to raise."""
    flags: list[Path] = []

    def launch(config: Path) -> subprocess.Popen[bytes]:
        flags.append(config.parent / "sabotage")
        log = (config.parent / "edge.log").open("ab")
        args = [sys.executable, "-m", "benchmarks.sabotage", target, str(flags[0]), str(config)]
        return subprocess.Popen(args, stderr=log, stdout=log, preexec_fn=partial(die_with_parent, signal.SIGKILL))

    with station(launch=launch, policy=policy, more=more) as b:
        yield b, flags[0]


def trip_s(target: str) -> float:
    """Seconds to the trip."""
    with _station(target) as (b, flag):
        return _trip_s(b, flag)


def sabotaged(target: str) -> tuple[float, float]:
    """Seconds to the trip, and from there to the good permit of an edge started again."""
    with _station(target) as (b, flag):
        tripped_s = _trip_s(b, flag)
        # What systemd does: an exit starts the edge again, and the watchdog ends a process that hangs.
        tripped = time.monotonic()
        wait_for(lambda: b.edge.poll() is not None or time.monotonic() - tripped > 2, what="the exit")
        flag.unlink()
        b.restart_edge()
        wait_for(lambda: b.plc.view()["state"] == "READY", what="the permit after the restart")
        return tripped_s, time.monotonic() - tripped


def _trip_s(b: Bench, flag: Path) -> float:
    injected = time.monotonic_ns()
    flag.touch()
    return trip_after(b.plc, injected)[0]


def harmless() -> bool:
    """Whether the line ran on through exceptions that were really raised in each of `HARMLESS`, as the log says."""
    with _station(",".join(HARMLESS), **KEPT) as (b, flag):
        before = len(b.plc.transitions)
        flag.touch()
        _call_all(b)
        log = b.folder / "edge.log"
        for target in HARMLESS:
            wait_for(partial(_says, log, f"sabotaged {target}"), what=f"an exception in {target}")
        time.sleep(1.5)  # longer than the PLC's watchdog: what the exceptions broke would show as a trip by now
        return b.edge.poll() is None and len(b.plc.transitions) == before and b.plc.view()["state"] == "RUNNING"


def _says(log: Path, words: str) -> bool:
    return words in log.read_text(errors="replace")


def _call_all(b: Bench) -> None:
    """A message for each callback of the line's connection that only others bring about."""
    sender = Connection(MqttConfig(port=b.port), "sender")
    sender.start()
    wait_for(lambda: sender.connected, what="the broker")
    nonce = secrets.token_hex(8)
    sender.publish(TOPICS.of(Resume), Resume(halt=1, who="kim", nonce=nonce, boot=1, seq=1).encode(), qos=1)
    trigger = Trigger(part="p1", inspection=1, deadline_ms=500)
    sender.publish(TOPICS.of(Trigger), trigger.encode(), qos=1)
    sender.publish(TOPICS.base + "/state/conn", b"{}", qos=1)
    time.sleep(0.3)  # publishing only queues: what is sent must leave before the connection ends
    sender.stop()
