"""Fault 3: inference hangs while MQTT lives on. The permit must end by itself: nobody is left to withdraw it.

`python -m benchmarks.fault_inference FILE edge.yaml` is an edge whose model hangs for as long as FILE exists. The PLC
simulator's watchdog is set to 5 s here, so that what trips the line is the edge's own word and not its silence.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.station import end, plc_on, run_line, trip_after, wait_for, write_station
from deploy.broker import free_port, start_mosquitto
from edge.line.plc_sim import PlcSim
from inspection.types import Image

WATCHDOG_MS = 5000
GOAL_S = 0.5
"""From the moment the runtime is handed the frame on which it hangs. That frame's deadline is later, so this is the
strictest reading of "within 500 ms of the frame's deadline"."""


def fault_3(times: int) -> list[Figure]:
    """Inference hangs for 1.5 s, again and again, between two frames or inside one."""
    trips, resumed, lapsed = [], 0, 0
    with _station() as (plc, flag):
        for number in range(times):
            time.sleep(0.2 + 0.007 * (number % 5))  # not always at the same place in the permit's period
            injected = time.monotonic_ns()
            flag.touch()
            trip_s, why = trip_after(plc, injected)
            trips.append(trip_s - (int(_began(flag).read_text()) - injected) / 1e9)
            lapsed += "code 6" in why
            time.sleep(max(0.0, 1.5 - trip_s))
            connected = plc.connection.connected and plc.newest is not None
            flag.unlink()
            _began(flag).unlink()
            wait_for(lambda: plc.view()["state"] == "READY", what="the permit after the hang")
            time.sleep(0.3)
            resumed += plc.view()["state"] == "RUNNING" or not connected
            run_line(plc)
    return [
        Figure(f"inference stuck: slowest HALT of {times}", round(max(trips), 3), "s", f"<= {GOAL_S}", _spread(trips)),
        Figure("inference stuck: tripped by the edge's own word", lapsed, "", f">= {times}"),
        Figure("inference stuck: line ran on by itself after it", resumed, "", "<= 0"),
    ]


def _began(flag: Path) -> Path:
    """Where the edge writes when its model began to hang, on the machine's monotonic clock."""
    return flag.with_name("hang-began")


def _spread(trips: list[float]) -> str:
    return (
        f"median {sorted(trips)[len(trips) // 2]:.3f} s after the hang began; lease 400 ms, watchdog {WATCHDOG_MS} ms"
    )


@contextmanager
def _station() -> Iterator[tuple[PlcSim, Path]]:
    """Broker, an edge that hangs on demand and a running line; the file that makes it hang."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        port = free_port()
        broker = start_mosquitto(port, folder)
        stack.callback(end, broker)
        plc = stack.enter_context(plc_on(port, watchdog_ms=WATCHDOG_MS))
        config, flag = write_station(folder, port), folder / "hang"
        log = stack.enter_context((folder / "edge.log").open("ab"))
        args = [sys.executable, "-m", "benchmarks.fault_inference", str(flag), str(config)]
        edge = subprocess.Popen(args, stderr=log, stdout=log)
        stack.callback(end, edge)
        run_line(plc)
        yield plc, flag


def hang_while(flag: Path) -> None:
    """Let the served model hang inside `step`, as a driver or a runtime would, while this file exists."""
    from edge.memory import State
    from edge.model_base import BundleModel, Outputs

    step = BundleModel.step

    def hanging(self: BundleModel, image: Image, state: State) -> tuple[Outputs, State]:
        if flag.exists():
            _began(flag).write_text(str(time.monotonic_ns()))
        while flag.exists():
            time.sleep(0.01)
        return step(self, image, state)

    BundleModel.step = hanging  # type: ignore[method-assign]


if __name__ == "__main__":
    from edge.cli import run as run_edge

    hang_while(Path(sys.argv[1]))
    run_edge(Path(sys.argv[2]))
