"""`python -m benchmarks.halt_window`: how long an open halt is on the wire before the edge's disk has it.

An edge killed within that time starts again without the halt. The time is from the permit with the halt at another
client of the broker to `state.json` naming it; then edges are really killed so many ms after that permit.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.figures import Figure, percentile, tell
from benchmarks.station import TOPICS, end, start_edge, state_file, write_station
from deploy.broker import free_port, start_mosquitto
from edge.config import MqttConfig
from edge.line.connection import Connection, Received
from inspection.log import set_up_logging
from inspection.messages import Permit

KILLED_AFTER_MS = (0, 5, 20)
PICTURES = [0.0] * 30 + [6.0] * 4 + [0.0] * 2000


@dataclass(slots=True)
class Lives:
    """Edges that start from nothing, one after the other, and halt after a second."""

    config: Path
    halted_ns: list[int] = field(default_factory=list)

    def hear(self, received: Received) -> None:
        if not received.retained and Permit.decode(received.payload).halt:
            self.halted_ns.append(time.monotonic_ns())

    def window_ms(self) -> float:
        """From the halt on the wire to the halt on disk."""
        with self._halted() as halted_ns:
            _soon(self._known, "halt in state.json")
            return (time.monotonic_ns() - halted_ns) / 1e6

    def knows_after(self, ms: int) -> bool:
        """Whether an edge killed so long after its halt was on the wire has it on disk."""
        with self._halted() as halted_ns:
            time.sleep(max(0.0, ms / 1e3 - (time.monotonic_ns() - halted_ns) / 1e9))
        return self._known()

    @contextmanager
    def _halted(self) -> Iterator[int]:
        """A halted edge, killed at the end."""
        shutil.rmtree(self.config.parent / "state", ignore_errors=True)
        self.halted_ns.clear()
        edge = start_edge(self.config)
        try:
            _soon(lambda: bool(self.halted_ns), "halt")
            yield self.halted_ns[0]
        finally:
            edge.kill()
            edge.wait()

    def _known(self) -> bool:
        return bool(state_file(self.config)["open_halt"])


def _soon(done: Callable[[], bool], what: str) -> None:
    """`wait_for` looks every 5 ms, which is half of what is measured here."""
    end_s = time.monotonic() + 30
    while not done():
        if time.monotonic() > end_s:
            raise AssertionError(f"no {what} within 30 s")
        time.sleep(0.0002)


def main(
    times: Annotated[int, typer.Option(min=1, help="Halts for the window, and half as many kills each.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="A list of figures.")] = False,
) -> None:
    """Measure the window, then kill edges in it."""
    set_up_logging("quiet")
    tell(measure(times, max(1, times // 2)), as_json=as_json)


def measure(times: int, kills: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        broker = start_mosquitto(port, folder)
        lives = Lives(write_station(folder, port, pictures=PICTURES))
        ear = Connection(MqttConfig(port=port), "ear")
        ear.on(TOPICS.of(Permit), 0, lives.hear)
        ear.start()
        try:
            windows = [lives.window_ms() for _ in range(times)]
            lost = [sum(not lives.knows_after(ms) for _ in range(kills)) for ms in KILLED_AFTER_MS]
        finally:
            ear.stop()
            end(broker)
    note = f"p50 {percentile(windows, 0.5):.1f} ms, {times} halts"
    return [
        Figure("halt on the wire -> on disk, longest", round(max(windows), 1), "ms", None, note),
        *(
            Figure(f"killed {ms} ms after the halt was on the wire: starts without it, of {kills}", count, "")
            for ms, count in zip(KILLED_AFTER_MS, lost, strict=True)
        ),
    ]


if __name__ == "__main__":
    typer.run(main)
