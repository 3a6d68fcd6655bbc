"""Faults 5 and 6: the network between edge and broker is cut, or slow and lossy while clocks are set wrong.

Trips are measured at a PLC simulator with a 1,000 ms watchdog, as in `fault_line`.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from benchmarks.clock_step import HOUR_S, SteppedClock
from benchmarks.fault_line import Bench, station
from benchmarks.figures import Figure, percentile
from benchmarks.proxy import BadNetwork
from benchmarks.station import TOPICS, run_line, start_edge, wait_for
from deploy.broker import mosquitto_conf, mosquitto_path, wait_for_port
from edge.config import MqttConfig
from edge.line.connection import Connection, Received
from edge.line.plc_sim import PlcSim
from inspection.messages import HaltEvent

log = structlog.get_logger()

FPS = 30
DEFECT = [6.0] * 4
PATIENCE_S = 60.0
COLOR = re.compile(r"\x1b\[[0-9;]*m")
BLIND = re.compile(r" guard .*new=blind .*why=(.*)")
STEPS_S = (HOUR_S, -HOUR_S, HOUR_S, 0, -HOUR_S, 0)
"""What the wall clock of edge and broker is set off by, in turn: steps of one hour and of two, both ways."""


def fault_5(times: int, cuts_s: tuple[float, ...] = (0.5, 1.1, 5.0, 60.0)) -> list[Figure]:
    """The network between edge and broker is cut, without a reset, and comes back."""
    proxies: list[BadNetwork] = []

    def behind(port: int) -> int:
        proxies.append(BadNetwork(port))
        return proxies[0].port

    figures = []
    with station(edge_port=behind) as b:
        network = proxies[0]
        for cut_s in cuts_s:
            tripped, stale = 0, 0
            for _ in range(times):
                before = len(b.plc.transitions)
                network.cut()
                time.sleep(cut_s)  # the fault itself
                was_running = b.plc.view()["state"] == "RUNNING"
                network.mend()
                time.sleep(1.0)  # what waited in the network arrives now: none of it may start the line
                tripped += any(state != "RUNNING" for _, state, _ in list(b.plc.transitions)[before:])
                stale += not was_running and b.plc.view()["state"] == "RUNNING"
                run_line(b.plc)
            goal = "<= 0" if cut_s < 1 else f">= {times}"
            figures.append(Figure(f"network cut {cut_s:g} s x{times}: trips", tripped, "", goal))
            figures.append(Figure(f"network cut {cut_s:g} s: ran on a stale permit", stale, "", "<= 0"))
        network.close()
    return figures


@dataclass(slots=True)
class Hour:
    """What was seen: how long each halt took in ms, trips that were none, and how the clocks went."""

    halts_ms: list[float] = field(default_factory=list)
    false_trips: list[str] = field(default_factory=list)
    steps: int = 0
    steps_seen: int = 0
    resets: int = 0


def fault_6(seconds: float, halt_every_s: float = 36.0) -> list[Figure]:
    """50 +- 20 ms of delay and 2 % loss between edge and broker for a while, in which a defect passes now and then.

    After each halt the wall clock of edge and broker is set elsewhere, by an hour or two; the PLC's stays. A halt
    is timed from the frame that completes its evidence to the trip of the PLC.
    """
    pictures = [0.0] * (round(halt_every_s * FPS) - len(DEFECT)) + DEFECT
    with _bad_hour(pictures) as (b, clock, halts):
        hour, end_s = Hour(), time.monotonic() + seconds
        seen = len(b.plc.transitions)
        while time.monotonic() < end_s:
            seen = _until_halt(b, seen, hour, end_s)
            if seen < 0:
                break
            halted_ns = b.plc.transitions[seen - 1][0]
            _time_halt(hour, halts, b.plc, halted_ns, clock)
            _reset_and_start(b.plc, hour)
            seen = len(b.plc.transitions)
            _step(b.plc, clock, hour)
    return _figures(hour, seconds)


@contextmanager
def _bad_hour(pictures: list[float]) -> Iterator[tuple[Bench, SteppedClock, list[HaltEvent]]]:
    proxies: list[BadNetwork] = []
    halts: list[HaltEvent] = []

    def behind(port: int) -> int:
        proxies.append(BadNetwork(port, delay_ms=50, jitter_ms=20, loss=0.02))
        return proxies[0].port

    def broker(port: int, folder: Path) -> subprocess.Popen[bytes]:
        conf = folder / "mosquitto.conf"
        conf.write_text(mosquitto_conf(port))
        child = subprocess.Popen([str(mosquitto_path()), "-c", str(conf)], env=clock.env)
        wait_for_port(port, child)
        return child

    def heard(received: Received) -> None:
        halts.append(HaltEvent.decode(received.payload))

    with tempfile.TemporaryDirectory() as name:
        clock = SteppedClock(Path(name))
        try:
            with station(
                pictures=pictures,
                edge_port=behind,
                launch=lambda config: start_edge(config, clock.env),
                launch_broker=broker,
            ) as b:
                ear = Connection(MqttConfig(port=b.port), "ear")
                ear.on(TOPICS.of(HaltEvent), 1, heard)
                ear.start()
                try:
                    yield b, clock, halts
                except AssertionError as e:
                    e.add_note(f"{b.plc.view()}\n{(b.folder / 'edge.log').read_text(errors='replace')[-3000:]}")
                    raise
                finally:
                    ear.stop()
        finally:
            clock.close()
            for proxy in proxies:
                proxy.close()


def _until_halt(b: Bench, seen: int, hour: Hour, end_s: float) -> int:
    """How many transitions there were with the next halt's, other trips noted and started again; -1 at the end."""
    plc = b.plc
    while time.monotonic() < end_s:
        for number, (_, state, why) in enumerate(list(plc.transitions)[seen:], seen + 1):
            if state == "RUNNING":
                continue
            if "code 1" in why:
                return number
            time.sleep(0.2)  # the edge's log may come after its permit
            hour.false_trips.append(f"{why}: {_edge_said(b.folder / 'edge.log')}")
            log.warning("false trip", why=hour.false_trips[-1])
            # A defect may pass while the line stands: that halt is reset, but nobody could time it.
            wait_for(lambda: plc.view()["halt"] or plc.view()["state"] == "RUNNING" or plc.press_start(), PATIENCE_S)
            _reset_and_start(plc, hour)
            seen = len(plc.transitions)
            break
        time.sleep(0.02)
    return -1


def _edge_said(edge_log: Path) -> str:
    """The edge's own reason for having gone blind last."""
    lines = [COLOR.sub("", line) for line in edge_log.read_text(errors="replace").splitlines()[-40:]]
    reasons = [found[1] for line in lines if (found := BLIND.search(line))]
    return reasons[-1].strip() if reasons else "no reason in its log"


def _time_halt(hour: Hour, halts: list[HaltEvent], plc: PlcSim, halted_ns: int, clock: SteppedClock) -> None:
    """The edge's own wall time of the frame, its clock's offset taken off, against this process's of the trip."""
    tripped_ms = (time.time_ns() - (time.monotonic_ns() - halted_ns)) / 1e6
    halt = plc.view()["halt"]
    event: HaltEvent = wait_for(
        lambda: next((e for e in list(halts) if e.halt == halt), None), 20, f"the event of halt {halt}"
    )
    hour.halts_ms.append(tripped_ms - (event.ts_ms - clock.offset_s * 1000))


def _reset_and_start(plc: PlcSim, hour: Hour) -> None:
    """As a person would: press RESET, look, press again after two seconds; then START."""
    deadline_s = time.monotonic() + 60
    while plc.view()["halt"]:
        if time.monotonic() > deadline_s:
            raise AssertionError("the halt could not be reset for 60 s")
        hour.resets += 1
        plc.press_reset("kim")
        again_s = time.monotonic() + 2
        while plc.view()["halt"] and time.monotonic() < again_s:
            time.sleep(0.02)
    run_line(plc, PATIENCE_S)


def _step(plc: PlcSim, clock: SteppedClock, hour: Hour) -> None:
    clock.step(STEPS_S[hour.steps % len(STEPS_S)])
    hour.steps += 1
    time.sleep(1)  # four permits made by the stepped clock
    permit = plc.newest
    off_s = permit.ts_ms / 1000 - time.time() if permit else float("nan")
    hour.steps_seen += abs(off_s - clock.offset_s) < 3


def _figures(hour: Hour, seconds: float) -> list[Figure]:
    note = "; ".join(hour.false_trips[:3])
    halts = f"{len(hour.halts_ms)} halts, p50 {percentile(hour.halts_ms, 0.5):.0f} ms, {hour.resets} presses of RESET"
    return [
        Figure(f"50+-20 ms, 2 % loss for {seconds:g} s: false trips", len(hour.false_trips), "", "<= 0", note),
        Figure("the same: frame -> HALT, p99", round(percentile(hour.halts_ms, 0.99)), "ms", "<= 400", halts),
        Figure(
            f"the same: steps of the edge's and broker's clock by 1 or 2 h, of {hour.steps}, seen in permits",
            hour.steps_seen, "", f">= {max(1, hour.steps)}",
        ),
    ]  # fmt: skip
