"""`make faults`: every fault of the table at its full numbers, into docs/faults.md. `--quick` takes minutes instead.

A fault is a function that injects something real and returns its figures; the tests call the same functions few times.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer

from benchmarks import (
    fault_callbacks,
    fault_camera,
    fault_hub,
    fault_inference,
    fault_line,
    fault_network,
    fault_outage,
    fault_storage,
    fault_suite,
    fault_twins,
)
from benchmarks.faults_doc import Ran, merge
from benchmarks.figures import Figure, machine
from inspection.errors import ConfigError
from inspection.log import set_up_logging

DOC = Path(__file__).resolve().parent.parent / "docs" / "faults.md"
Run = Callable[[], list[Figure]]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Fault:
    """`full` runs the numbers the table promises, `quick` shows in minutes that it still works; each with how often it
    injects."""

    number: int
    injected: str
    full: tuple[str, Run]
    quick: tuple[str, Run]


def _times(run: Callable[[int], list[Figure]], full: int, quick: int) -> tuple[tuple[str, Run], tuple[str, Run]]:
    """The two of a fault that differ by nothing but a count."""
    return (f"x{full}", partial(run, full)), (f"x{quick}", partial(run, quick))


FAULTS = (
    Fault(1, "SIGKILL of the edge while running", *_times(fault_line.fault_1, 100, 3)),
    Fault(
        2,
        "SIGSTOP 10 s, SIGCONT",
        ("x50", partial(fault_line.fault_2, 50)),
        ("x2, 2 s", partial(fault_line.fault_2, 2, 2)),
    ),
    Fault(3, "inference stuck, MQTT alive", *_times(fault_inference.fault_3, 50, 3)),
    Fault(4, "broker kill -9 and restart", *_times(fault_line.fault_4, 50, 2)),
    Fault(
        5,
        "network cut 0.5 / 1.1 / 5 / 60 s",
        ("x20 each", partial(fault_network.fault_5, 20)),
        ("x2, not 60 s", partial(fault_network.fault_5, 2, (0.5, 1.1, 5.0))),
    ),
    Fault(
        6,
        "50+-20 ms of delay, 2 % loss, clock +-1 h",
        ("1 h, 99 halts", partial(fault_network.fault_6, 3600.0)),
        ("30 s, 3 halts", partial(fault_network.fault_6, 30.0, 8.0)),
    ),
    Fault(7, "PLC restarts on a dead edge's retained RUN", *_times(fault_line.fault_7, 100, 5)),
    Fault(
        8,
        "duplicate, reorder, replay, delay, restart: hypothesis state machine",
        ("10,000 histories", partial(fault_suite.fault_8, full=True)),
        ("150 histories", partial(fault_suite.fault_8, full=False)),
    ),
    Fault(9, "two edges with one client id", *_times(fault_twins.fault_9, 20, 2)),
    Fault(10, "RESUME sent to an edge that is away", *_times(fault_line.fault_10, 100, 3)),
    Fault(11, "exception in every callback", *_times(fault_callbacks.fault_11, 20, 1)),
    Fault(
        12,
        "kill -9 at random while frames are kept",
        ("50 lives of 1,000 frames", partial(fault_storage.fault_12, 50)),
        ("5 lives of 200 frames", partial(fault_storage.fault_12, 5, 200)),
    ),
    Fault(13, "power loss: writes dropped, torn", *_times(fault_storage.fault_13, 200, 20)),
    Fault(14, "kill -9 of the hub between commit and ack", *_times(fault_storage.fault_14, 50, 3)),
    Fault(
        15,
        "broker away at 30 frames/s, each kept",
        ("10 min", fault_outage.fault_15),
        ("20 s", partial(fault_outage.fault_15, 20.0)),
    ),
    Fault(16, "broker kill -9 right after PUBACK", *_times(fault_storage.fault_16, 50, 3)),
    Fault(17, "hub away for more messages than a broker keeps", *_times(fault_storage.fault_17, 3600, 400)),
    Fault(18, "disk full: a file system of 64 MB", *_times(fault_outage.fault_18, 3, 1)),
    Fault(
        19,
        "EIO and ENOSPC at each write site",
        ("each site", fault_storage.fault_19),
        ("each site", fault_storage.fault_19),
    ),
    Fault(20, "camera read blocks or unplugs", *_times(fault_camera.fault_20, 100, 3)),
    Fault(
        21,
        "frozen image; 1,000 frame-id gaps; lens covered",
        ("x100, 100,000 frames", partial(fault_camera.fault_21, 100)),
        ("x3, 2,000 frames", partial(fault_camera.fault_21, 2)),
    ),
    Fault(
        22,
        "hostile bundles: signature, expiry, rollback, `../`, links, custom op, pickle, truncated, bomb",
        ("each of them", partial(fault_suite.fault_22, full=True)),
        ("each of them", partial(fault_suite.fault_22, full=False)),
    ),
    Fault(
        23,
        "MQTT: no certificate, wrong CN, another's topic, a PLC's permit, malformed packets",
        ("19 attacks, 1,000 packets", partial(fault_suite.fault_23, full=True)),
        ("19 attacks, 1,000 packets", partial(fault_suite.fault_23, full=False)),
    ),
    Fault(24, "schemathesis, forged origins, guessed PINs, 200 MP PNG", *_times(fault_hub.fault_24, 10_000, 400)),
    Fault(25, "audit log edited, deleted, reordered, cut off", *_times(fault_hub.fault_25, 100, 10)),
)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few repetitions: minutes instead of hours.")] = False,
    only: Annotated[str, typer.Option(help="Numbers with commas, e.g. 1,4,12.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A list of figures instead of progress.")] = False,
    doc: Annotated[Path, typer.Option(help="The page that gets the rows.")] = DOC,
) -> None:
    """Inject every fault, compare with its goal, put the rows into docs/faults.md; exit 1 when one is missed."""
    set_up_logging("quiet")
    told: list[dict[str, object]] = []
    missed = 0
    for fault in _wanted(only):
        ran = _run(fault, quick=quick)
        merged = merge(doc, ran)
        missed += sum(not f.ok for f in ran.figures)
        told += [
            asdict(f) | {"fault": ran.number, "times": ran.times, "ok": f.ok, "machine": ran.machine}
            for f in ran.figures
        ]
        if not as_json:
            _tell(ran, doc if merged else None)
    if as_json:
        typer.echo(json.dumps(told, indent=1))
    if missed:
        raise typer.Exit(1)


def _wanted(only: str) -> list[Fault]:
    known = {str(fault.number): fault for fault in FAULTS}
    numbers = [number.strip() for number in only.split(",")] if only else list(known)
    if stray := [number for number in numbers if number not in known]:
        raise ConfigError("--only", f"{stray[0]!r} is no fault of the table", f"choose from {', '.join(known)}")
    return [known[number] for number in numbers]


def _run(fault: Fault, *, quick: bool) -> Ran:
    times, run = fault.quick if quick else fault.full
    began = time.monotonic()
    try:
        figures = tuple(run())
    except Exception as e:  # one fault that cannot be measured is a miss of its own, not the end of a night's run
        log.exception("fault not measured", fault=fault.number)
        why = f"{type(e).__name__}: {e}".splitlines()[0][:200]
        figures = (Figure("runs that did not come to their end", 1, "", "<= 0", why),)
    took_s = time.monotonic() - began
    options = f"{'--quick ' if quick else ''}--only {fault.number}"
    finished = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    return Ran(fault.number, fault.injected, times, options, finished, took_s, machine(), figures)


def _tell(ran: Ran, doc: Path | None) -> None:
    for f in ran.figures:
        mark = "ok  " if f.ok else "MISS"
        typer.echo(f"{ran.number:>3} {mark} {f.figure}: {f.value:g} {f.unit} ({f.goal}) {f.note}")
    where = f"-> {doc}" if doc else "not written: the page has a full run"
    typer.echo(f"    {ran.injected}, {ran.times}: {ran.took_s:.0f} s {where}")


if __name__ == "__main__":
    typer.run(main)
