"""`python -m benchmarks.stop_request`: from the Stop key on a page to the line, in a real browser.

Hub, broker, edge (30 frames/s, a tiny model) and simulated PLC are processes or threads of this machine. Timed from the
second tap's own click event in Chromium (its `timeStamp`, on this machine's wall clock) to the permit with `run` 0 at
another client of the broker, to the PLC's trip, and to the answer on the screen. Each stop is reset, the line started.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.figures import Figure, percentile, tell
from benchmarks.review import Hub
from benchmarks.station import TOPICS, end, plc_on, run_line, start_edge, wait_for, write_station
from deploy.broker import free_port, start_mosquitto
from deploy.screenshots import chromium
from edge.line.connection import Received
from edge.line.plc_sim import PlcSim
from inspection.log import set_up_logging
from inspection.messages import Permit
from inspection.types import Code

if TYPE_CHECKING:
    from playwright.sync_api import Page

KEY = f"{TOPICS.site}~{TOPICS.line}~{TOPICS.station}"
TAPPED = """addEventListener("click", (e) => {
  if (e.target.closest(".sure")) sessionStorage.setItem("tapped", performance.timeOrigin + e.timeStamp);
}, true)"""


@dataclass(slots=True)
class Ear:
    """When the permit was first withdrawn because somebody asked, Unix ms; 0 = not yet."""

    withdrawn_ms: float = 0.0

    def hear(self, received: Received) -> None:
        permit = Permit.decode(received.payload)
        if not received.retained and permit.code == Code.STOP and not self.withdrawn_ms:
            self.withdrawn_ms = time.time_ns() / 1e6


@dataclass(slots=True)
class Times:
    permit_ms: list[float] = field(default_factory=list)
    trip_ms: list[float] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)


def one(page: Page, url: str, plc: PlcSim, ear: Ear, times: Times) -> None:
    """One stop of a running line, and back."""
    run_line(plc)
    page.goto(f"{url}/stations/{KEY}")
    page.evaluate(TAPPED)
    page.locator("details.stop summary").click()
    ear.withdrawn_ms = 0.0
    page.locator(".stop .sure").click()
    page.wait_for_selector(".stop-said.confirmed")
    answered_ms = time.time_ns() / 1e6
    tapped_ms = float(page.evaluate("sessionStorage.getItem('tapped')"))
    wait_for(lambda: plc.view()["state"] == "TRIPPED", what="the trip")
    # The PLC's changes are on the monotonic clock; both clocks are read now, so that a step since then does not count.
    wall_minus_mono_ms = time.time_ns() / 1e6 - time.monotonic_ns() / 1e6
    tripped_ms = next(at for at, state, _ in reversed(plc.transitions) if state == "TRIPPED") / 1e6
    times.permit_ms.append(ear.withdrawn_ms - tapped_ms)
    times.trip_ms.append(tripped_ms + wall_minus_mono_ms - tapped_ms)
    times.answer_ms.append(answered_ms - tapped_ms)
    plc.press_reset()
    wait_for(lambda: plc.view()["halt"] == 0, what="the end of the halt")


def measure(count: int) -> list[Figure]:
    times, ear = Times(), Ear()
    with ExitStack() as stack:
        folder, port = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))), free_port()
        stack.callback(end, start_mosquitto(port, folder))
        hub = Hub(folder / "data", free_port(), port, folder / "hub.log")
        stack.callback(hub.stop)
        stack.callback(end, start_edge(write_station(folder, port)))
        plc = stack.enter_context(plc_on(port, hear=ear.hear))
        browser = stack.enter_context(chromium())
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        for _ in range(count):
            one(page, hub.url, plc, ear, times)
    named = (
        ("permit 0 at the broker", times.permit_ms),
        ("trip of the PLC", times.trip_ms),
        ("answer on the screen (seen by the bench)", times.answer_ms),
    )
    return [
        Figure(f"Stop key -> {name}, p95 of {count}", round(percentile(ms, 0.95), 1), "ms", goal, _spread(ms))
        for (name, ms), goal in zip(named, (None, "<= 1000", None), strict=True)
    ]


def _spread(ms: list[float]) -> str:
    return f"p50 {percentile(ms, 0.5):.1f} ms, most {max(ms):.1f} ms"


def main(
    times: Annotated[int, typer.Option(min=1, help="Stops.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="A list of figures.")] = False,
) -> None:
    """Stop a running line so many times from a page."""
    set_up_logging("quiet")
    tell(measure(times), as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
