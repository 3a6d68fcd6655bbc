"""A whole station for tests and faults: real broker, real edge, real plc-sim, a model with known answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from benchmarks.tiny_bundle import picture, write_bundle
from deploy.broker import die_with_parent
from edge.config import MqttConfig
from edge.line.connection import Received
from edge.line.plc_sim import PlcSim
from inspection.messages import Permit, Topics
from inspection.watchdog import WatchdogLimits

VARIANTS = 7
TOPICS = Topics("test", "line1", "st1")
YAML = """\
station: {{site: test, line: line1, station: {station}}}
cameras:
  - {{name: cam1, type: folder, source: {pictures}, fps: {fps}, px_per_mm: 10}}
bundle: {{path: {bundle}}}
state_dir: {state}
mqtt: {{port: {port}, protocol: "{protocol}"}}
policy: {{{policy}}}
status: {{port: {status}}}
live: {{fps: 2}}
{more}
"""


def write_station(
    folder: Path,
    port: int,
    *,
    pictures: list[float] | None = None,
    fps: float = 30,
    policy: str = "k: 2, n: 3",
    protocol: str = "5",
    status: int = 0,
    station: str = "st1",
    more: str = "",
) -> Path:
    """`edge.yaml` for a camera that shows bars of these lengths in mm, over and over. Default: always good."""
    shown = folder / "pictures"
    if not shown.exists():
        _write_pictures(shown, pictures or [0.0] * VARIANTS)
    bundles = folder / "models"
    bundle = bundles / "red-1.0.0"
    if not bundle.exists():
        write_bundle(bundles)
    memory = folder / "state" / "state.json"
    if not memory.exists():  # its first start is number 1, and its first halt 10001, whatever the clock says
        memory.parent.mkdir()
        memory.write_text('{"boot": 0, "open_halt": null}')
    config = folder / "edge.yaml"
    values: dict[str, Any] = {"pictures": shown, "fps": fps, "bundle": bundle, "state": folder / "state", "port": port}
    values |= {"policy": policy, "protocol": protocol, "status": status, "more": more, "station": station}
    config.write_text(YAML.format(**values))
    return config


def _write_pictures(folder: Path, lengths_mm: list[float]) -> None:
    """One PNG per frame; frames alike are links to one of a few, whose noise differs so that none looks frozen."""
    folder.mkdir(parents=True)
    for k, mm in enumerate(lengths_mm):
        original = folder.parent / f"{mm:g}mm-{k % VARIANTS}.png"
        if not original.exists():
            cv2.imwrite(str(original), picture(mm, seed=k % VARIANTS))
        os.link(original, folder / f"{k:05d}.png")


def start_edge(config: Path, env: Mapping[str, str] = os.environ) -> subprocess.Popen[bytes]:
    args = [sys.executable, "-m", "haltline", "edge", "run", str(config)]
    log = (config.parent / "edge.log").open("ab")
    env = {**env, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen(args, stderr=log, stdout=log, env=env, preexec_fn=partial(die_with_parent, signal.SIGKILL))


def end(child: subprocess.Popen[bytes], timeout_s: float = 8) -> int:
    """SIGTERM, then SIGKILL; the exit code. A child that had died by itself has its last words printed."""
    died = child.poll()
    if died is None:
        child.send_signal(signal.SIGCONT)
        child.terminate()
    elif died != -signal.SIGKILL:
        print(f"{child.args!r} had ended by itself with {died}\n{_last_words(child)}")
    try:
        return child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        print(f"{child.args!r} did not end on SIGTERM\n{_last_words(child)}")
        child.kill()
        return child.wait()


def _last_words(child: subprocess.Popen[bytes]) -> str:
    args = child.args if isinstance(child.args, list) else []
    log = Path(str(args[-1])).parent / "edge.log" if args else Path()
    return log.read_text(errors="replace")[-3000:] if log.is_file() else ""


@contextmanager
def plc_on(
    port: int, watchdog_ms: int = 1000, topics: Topics = TOPICS, hear: Callable[[Received], None] | None = None
) -> Iterator[PlcSim]:
    """A PLC simulator that is connected or will be; `hear` gets each permit too."""
    plc = PlcSim(MqttConfig(port=port), topics, WatchdogLimits(watchdog_ms=watchdog_ms))
    if hear:
        plc.connection.on(topics.of(Permit), 0, hear)
    plc.start()
    try:
        yield plc
    finally:
        plc.close()


def wait_for(done: Callable[[], Any], timeout_s: float = 15, what: str = "") -> Any:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if answer := done():
            return answer
        time.sleep(0.005)
    raise AssertionError(f"not within {timeout_s} s: {what or done}")


def run_line(plc: PlcSim, timeout_s: float = 20) -> None:
    """Press START as soon as the permit is good; nothing to do where the line runs already."""
    wait_for(lambda: plc.view()["state"] == "RUNNING" or plc.press_start(), timeout_s, "a good permit")


def trip_after(plc: PlcSim, injected_ns: int, timeout_s: float = 10) -> tuple[float, str]:
    """Seconds from the injection to the line's trip, and why it tripped."""

    def tripped() -> tuple[float, str] | None:
        for at_ns, state, why in list(plc.transitions):
            if at_ns > injected_ns and state != "RUNNING":
                return (at_ns - injected_ns) / 1e9, why
        return None

    found: tuple[float, str] = wait_for(tripped, timeout_s, "a trip")
    return found


def state_file(config: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((config.parent / "state" / "state.json").read_text())
    return known
