"""One measured figure, its goal, and how a command prints them: a table for people, a list for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import typer
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """`goal` is written with its sign, e.g. `<= 5`; None where nothing is promised."""

    figure: str
    value: float
    unit: str
    goal: str | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        if self.goal is None:
            return True
        sign, limit = self.goal.split()
        return self.value <= float(limit) if sign == "<=" else self.value >= float(limit)


def machine() -> str:
    """Processor, cores and system, as every figure must state them."""
    cpu = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:  # noqa: PTH123 - a kernel file
            cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), cpu)
    except OSError:
        pass
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release().split('-')[0]}"


def tell(figures: Iterable[Figure], *, as_json: bool) -> None:
    """Print them; exit 1 when one misses its goal, since a miss that is not seen is worth nothing."""
    figures = list(figures)
    if as_json:
        where = machine()
        typer.echo(json.dumps([asdict(f) | {"ok": f.ok, "machine": where} for f in figures], indent=1))
    else:
        table = Table("figure", "value", "goal", "", title=machine(), title_justify="left")
        for f in figures:
            mark = "" if f.goal is None else "ok" if f.ok else "MISS"
            note = f"{f.figure}\n[dim]{f.note}[/]" if f.note else f.figure
            table.add_row(note, f"{f.value:g} {f.unit}", f"{f.goal or ''} {f.unit if f.goal else ''}", mark)
        Console(width=110).print(table)
    if not all(f.ok for f in figures):
        raise SystemExit(1)


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which this share lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]
