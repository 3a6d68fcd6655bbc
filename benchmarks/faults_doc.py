"""docs/faults.md: the tables of measured faults. A run replaces the rows of the faults it ran and keeps the others."""

from __future__ import annotations

import fcntl
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure

HEAD = """\
# Faults

Every fault is injected for real, and what the line did is measured. Trips are those of a simulated PLC with a 1,000 ms
watchdog (`haltline plc-sim`) behind a real Mosquitto, the edge being a process of its own with a camera of 30 frames/s.
Misses stay in.

`make faults` runs every row at the numbers of this table, which takes hours, and `make test` a few of each. One row
again, merged into this page: `python -m benchmarks.faults --only 4`. The command exits with 1 when a row misses its
goal.
"""
FIGURES = """\
## What was measured

| # | injected | times | figure | measured | goal | |
| --- | --- | --- | --- | --- | --- | --- |
"""
RUNS = """\
## When and where

| # | command: `python -m benchmarks.faults ...` | finished (UTC) | took | machine |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """One fault's run. `options` are those of the command; `finished` is UTC; `took_s` its duration."""

    number: int
    injected: str
    times: str
    options: str
    finished: str
    took_s: float
    machine: str
    figures: tuple[Figure, ...]

    @property
    def quick(self) -> bool:
        return "--quick" in self.options

    def figure_rows(self) -> list[str]:
        return [
            f"| {self.number} | {self.injected} | {self.times} | {f.figure}{_note(f)} | {f.value:g} {f.unit} |"
            f" {f.goal or ''} | {'' if f.goal is None else 'ok' if f.ok else '**miss**'} |"
            for f in self.figures
        ]

    def run_row(self) -> str:
        return f"| {self.number} | `{self.options}` | {self.finished} | {self.took_s:.0f} s | {self.machine} |"


def merge(doc: Path, ran: Ran) -> bool:
    """Put this run's rows into `doc`. False when they were left out: a quick run never replaces a full one.

    Two runs may end at the same time: the file is locked meanwhile.
    """
    doc.touch()
    with doc.open("r+", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        text = f.read()
        figures, runs = _rows(text, FIGURES), _rows(text, RUNS)
        if ran.quick and any("--quick" not in row for row in runs.get(ran.number, [])):
            return False
        figures[ran.number], runs[ran.number] = ran.figure_rows(), [ran.run_row()]
        f.seek(0)
        f.truncate()
        f.write(f"{HEAD}{_tail(text)}\n{FIGURES}{_table(figures)}\n{RUNS}{_table(runs)}")
    return True


def _note(figure: Figure) -> str:
    return f" ({figure.note.replace('|', '/')})" if figure.note else ""


def _rows(text: str, section: str) -> dict[int, list[str]]:
    """The table's rows by the number of their fault."""
    title = section.splitlines()[0]
    body = text.partition(f"{title}\n")[2].partition("\n## ")[0]
    rows: dict[int, list[str]] = {}
    for line in body.splitlines():
        if match := re.match(r"\| (\d+) \|", line):
            rows.setdefault(int(match[1]), []).append(line)
    return rows


def _table(rows: dict[int, list[str]]) -> str:
    return "".join(f"{row}\n" for number in sorted(rows) for row in rows[number])


def _tail(text: str) -> str:
    """What people wrote between the introduction and the tables: it stays."""
    written = text.partition("\n## What was measured")[0]
    return written.removeprefix(HEAD) if written.startswith(HEAD) else ""
