"""`make faults`: every fault of the table at its full numbers; writes docs/faults.md. `--quick` takes minutes instead.

A fault is a function that injects something real and returns its figures; the tests call the same functions few times.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import fault_camera, fault_inference, fault_line, fault_outage, fault_storage
from benchmarks.figures import Figure, machine
from edge.cli import set_up_logging

DOC = Path(__file__).resolve().parent.parent / "docs" / "faults.md"
Result = Iterable[Figure] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """`full` are the numbers the table promises; `quick` shows in minutes that each still works."""

    number: int
    injected: str
    full: Callable[[], Result]
    quick: Callable[[], Result]


FAULTS = (
    Fault(1, "SIGKILL of the edge while running", lambda: fault_line.fault_1(100), lambda: fault_line.fault_1(3)),
    Fault(2, "SIGSTOP, SIGCONT", lambda: fault_line.fault_2(50), lambda: fault_line.fault_2(2, 2)),
    Fault(
        3,
        "inference stuck, MQTT alive",
        lambda: fault_inference.fault_3(50),
        lambda: fault_inference.fault_3(3),
    ),
    Fault(4, "broker kill -9 and restart", lambda: fault_line.fault_4(50), lambda: fault_line.fault_4(2)),
    Fault(
        5,
        "network cut 0.5 / 1.1 / 5 / 60 s",
        lambda: fault_line.fault_5(20),
        lambda: fault_line.fault_5(2, (0.5, 1.1, 5.0)),
    ),
    Fault(6, "50+-20 ms of delay, 2 % loss", lambda: fault_line.fault_6(3600), lambda: fault_line.fault_6(20)),
    Fault(
        7, "PLC restarts on a dead edge's retained RUN", lambda: fault_line.fault_7(100), lambda: fault_line.fault_7(5)
    ),
    Fault(10, "RESUME sent to an edge that is away", lambda: fault_line.fault_10(100), lambda: fault_line.fault_10(3)),
    Fault(
        11, "exception in every step of the frame path", lambda: fault_line.fault_11(20), lambda: fault_line.fault_11(1)
    ),
    Fault(
        12,
        "kill -9 at random while frames are kept",
        lambda: fault_storage.fault_12(50),
        lambda: fault_storage.fault_12(5, 200),
    ),
    Fault(13, "power loss", lambda: fault_storage.fault_13(200), lambda: fault_storage.fault_13(20)),
    Fault(
        14,
        "kill -9 of the hub between commit and ack",
        lambda: fault_storage.fault_14(50),
        lambda: fault_storage.fault_14(3),
    ),
    Fault(15, "broker away for 10 min at 30 fps", fault_outage.fault_15, lambda: fault_outage.fault_15(20.0)),
    Fault(
        16,
        "broker kill -9 right after PUBACK",
        lambda: fault_storage.fault_16(50),
        lambda: fault_storage.fault_16(3),
    ),
    Fault(17, "hub away for 3,600 messages", fault_storage.fault_17, lambda: fault_storage.fault_17(400)),
    Fault(18, "disk full", lambda: fault_outage.fault_18(1), lambda: fault_outage.fault_18(1)),
    Fault(19, "EIO and ENOSPC at each write site", fault_storage.fault_19, fault_storage.fault_19),
    Fault(
        20,
        "camera read blocks or unplugs",
        lambda: fault_camera.fault_20(100),
        lambda: fault_camera.fault_20(3),
    ),
)


def main(
    quick: Annotated[bool, typer.Option(help="Few repetitions: minutes instead of hours.")] = False,
    only: Annotated[str, typer.Option(help="Numbers with commas, e.g. 1,4,12.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A list of figures instead of progress.")] = False,
    write: Annotated[bool, typer.Option(help="Write docs/faults.md.")] = True,
) -> None:
    """Inject every fault and compare with its goal; exit 1 when one is missed."""
    set_up_logging("quiet")
    wanted = {int(number) for number in only.split(",") if number}
    rows: list[tuple[Fault, Figure]] = []
    for fault in FAULTS:
        if wanted and fault.number not in wanted:
            continue
        began = time.monotonic()
        found = list(_figures(fault.quick() if quick else fault.full()))
        rows += [(fault, figure) for figure in found]
        if not as_json:
            for figure in found:
                mark = "ok  " if figure.ok else "MISS"
                typer.echo(f"{fault.number:>3} {mark} {figure.figure}: {figure.value:g} {figure.unit} ({figure.goal})")
            typer.echo(f"    {fault.injected}: {time.monotonic() - began:.0f} s")
    if as_json:
        where = machine()
        typer.echo(
            json.dumps([asdict(f) | {"fault": n.number, "ok": f.ok, "machine": where} for n, f in rows], indent=1)
        )
    if write and not wanted:
        DOC.write_text(_document(rows, quick=quick), encoding="utf-8")
    if not all(figure.ok for _, figure in rows):
        raise typer.Exit(1)


def _figures(result: Result) -> Iterator[Figure]:
    """A fault may answer with figures or with one figure's fields."""
    if isinstance(result, Mapping):
        goal = result["goal"]
        yield Figure(str(result["figure"]), float(result["value"]), str(result["unit"]), str(goal) if goal else None)
    else:
        yield from result


def _document(rows: list[tuple[Fault, Figure]], *, quick: bool) -> str:
    numbers = "few repetitions (`--quick`)" if quick else "the full numbers"
    lines = [
        "# Faults",
        "",
        f"Injected for real, {numbers}, on {machine()}. Trips are measured at `haltline plc-sim` with a 1,000 ms",
        "watchdog, behind a real Mosquitto. Made by `make faults`; misses stay in.",
        "",
        "| # | injected | figure | measured | goal | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for fault, f in rows:
        mark = "ok" if f.ok else "**miss**"
        lines.append(
            f"| {fault.number} | {fault.injected} | {f.figure} | {f.value:g} {f.unit} | {f.goal or ''} | {mark} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
