"""Faults 1, 2, 4, 7 and 10: what the line does when the edge or the broker fails.

Every trip is measured at a PLC simulator with a 1,000 ms watchdog, behind a real Mosquitto, with the edge as its own
process. Each function injects `times` and returns its figures.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure, percentile
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
from deploy.broker import free_port, start_mosquitto, wait_for_port
from edge.config import MqttConfig
from edge.line.connection import Connection, Received
from edge.line.plc_sim import PlcSim
from inspection.messages import Permit, Resume

TRIP_GOAL = "<= 1.05"
Launch = Callable[[Path], subprocess.Popen[bytes]]
LaunchBroker = Callable[[int, Path], subprocess.Popen[bytes]]


@dataclass(slots=True)
class Bench:
    """One running station. `config` is the edge's; `edge` its process, replaced by those who kill it."""

    folder: Path
    port: int
    plc: PlcSim
    config: Path
    broker: subprocess.Popen[bytes]
    edge: subprocess.Popen[bytes]

    def restart_edge(self) -> None:
        end(self.edge)
        self.edge = start_edge(self.config)


@contextmanager
def station(
    *,
    pictures: list[float] | None = None,
    edge_port: Callable[[int], int] = lambda port: port,
    protocol: str = "5",
    launch: Launch = start_edge,
    launch_broker: LaunchBroker = start_mosquitto,
    policy: str = "k: 2, n: 3",
    more: str = "",
) -> Iterator[Bench]:
    """Broker, edge and plc-sim, running. `edge_port`: where the edge finds the broker, e.g. behind a proxy; `policy`
    and `more` as in `write_station`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        port = free_port()
        broker = launch_broker(port, folder)
        plc = stack.enter_context(plc_on(port))
        file = write_station(folder, edge_port(port), pictures=pictures, protocol=protocol, policy=policy, more=more)
        bench = Bench(folder, port, plc, file, broker, launch(file))
        stack.callback(lambda: end(bench.broker))
        stack.callback(lambda: end(bench.edge))
        run_line(bench.plc)
        yield bench


def worst(trips: list[float], what: str, note: str = "") -> Figure:
    return Figure(f"{what}: slowest trip of {len(trips)}", round(max(trips), 3), "s", TRIP_GOAL, note)


def fault_1(times: int) -> list[Figure]:
    """SIGKILL of the edge while the line runs."""
    trips, ran_by_itself = [], 0
    with station() as b:
        for _ in range(times):
            injected = time.monotonic_ns()
            os.kill(b.edge.pid, signal.SIGKILL)
            trips.append(trip_after(b.plc, injected)[0])
            b.restart_edge()
            wait_for(lambda: b.plc.view()["state"] == "READY", what="the next life's permit")
            ran_by_itself += b.plc.view()["state"] == "RUNNING"
            run_line(b.plc)
    return [worst(trips, "SIGKILL"), Figure("SIGKILL: restarts without START", ran_by_itself, "", "<= 0")]


def fault_2(times: int, stopped_s: float = 10) -> list[Figure]:
    """SIGSTOP, SIGCONT: the process wakes and finds that the world went on."""
    trips, resumed = [], 0
    with station() as b:
        for _ in range(times):
            injected = time.monotonic_ns()
            os.kill(b.edge.pid, signal.SIGSTOP)
            trips.append(trip_after(b.plc, injected)[0])
            time.sleep(max(0.0, stopped_s - trips[-1]))
            os.kill(b.edge.pid, signal.SIGCONT)
            wait_for(lambda: b.plc.view()["state"] == "READY", what="the permit after waking")
            time.sleep(0.5)
            resumed += b.plc.view()["state"] == "RUNNING"
            run_line(b.plc)
    return [worst(trips, f"SIGSTOP {stopped_s:g} s"), Figure("SIGSTOP: resumed by itself", resumed, "", "<= 0")]


def fault_4(times: int) -> list[Figure]:
    """kill -9 of the broker, and its restart half a second after the trip."""
    trips, back = [], []
    with station() as b:
        for _ in range(times):
            injected = time.monotonic_ns()
            b.broker.kill()
            b.broker.wait()
            trips.append(trip_after(b.plc, injected)[0])
            time.sleep(0.5)
            b.broker = start_mosquitto(b.port, b.folder)
            wait_for_port(b.port)
            restarted = time.monotonic()
            wait_for(lambda: b.plc.view()["state"] == "READY", 20, "the permit after the broker's restart")
            back.append(time.monotonic() - restarted)
            run_line(b.plc)
    online = Figure("broker restarted -> good permit, p99", round(percentile(back, 0.99), 2), "s", "<= 5")
    return [worst(trips, "broker kill -9"), online]


def fault_7(times: int) -> list[Figure]:
    """The edge is dead, its RUN is retained at the broker, the PLC restarts and somebody presses START."""
    starts, offered = 0, 0
    with station(protocol="3.1.1") as b:  # 3.1.1: the retained RUN never expires
        os.kill(b.edge.pid, signal.SIGKILL)
        b.edge.wait()
        b.plc.close()  # the old life of the PLC, under whose name the next ones come
        for _ in range(times):
            runs: list[int] = []
            with plc_on(b.port, hear=partial(_note_retained_run, runs)) as restarted:
                wait_for(partial(len, runs), what="the retained permit")
                end_s = time.monotonic() + 0.3
                while time.monotonic() < end_s:
                    starts += restarted.press_start()
                    time.sleep(0.02)
            offered += any(runs)
    return [
        Figure("PLC restarted on a dead edge's retained RUN: starts", starts, "", "<= 0"),
        Figure("PLC restarted: retained RUNs it was given", offered, "", f">= {times}"),
    ]


def _note_retained_run(runs: list[int], received: Received) -> None:
    if received.retained:
        runs.append(Permit.decode(received.payload).run)


def fault_10(times: int) -> list[Figure]:
    """A resume sent while the edge is away must not wait for it."""
    effects = 0
    with station(pictures=[0.0] * 30 + [6.0] * 4 + [0.0] * 2000) as b:
        wait_for(lambda: b.plc.view()["halt"], what="the halt")
        # Killed sooner than its disk has taken it, the next life would not know of the halt: another fault than this.
        wait_for(lambda: state_file(b.config)["open_halt"], what="the halt in the edge's state")
        sender = Connection(MqttConfig(port=b.port), "sender")
        sender.start()
        wait_for(lambda: sender.connected)
        wait_for(lambda: b.plc.view()["seq"] > 4)
        halt = b.plc.view()["halt"]
        for _ in range(times):
            os.kill(b.edge.pid, signal.SIGKILL)
            b.edge.wait()
            seen = b.plc.newest
            assert seen
            resume = Resume(halt=halt, who="night", nonce=secrets.token_hex(8), boot=seen.boot, seq=seen.seq)
            sender.publish(TOPICS.of(Resume), resume.encode(), qos=1)
            b.edge = start_edge(b.config)
            wait_for(partial(_is_newer, b.plc, seen.boot), what="the next life")
            time.sleep(0.4)
            effects += b.plc.view()["halt"] != halt
        sender.stop()
    return [Figure(f"RESUME sent to an edge that is away x{times}: took effect", effects, "", "<= 0")]


def _is_newer(plc: PlcSim, boot: int) -> bool:
    return plc.newest is not None and plc.newest.boot > boot
