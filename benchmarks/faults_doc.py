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
goal. `--quick` takes minutes, and never replaces a row of full numbers.
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
        """One a figure; what was injected and how often stands in the first only."""
        what = [f"{self.injected} | {self.times}"] + [" | "] * (len(self.figures) - 1)
        return [
            f"| {self.number} | {first} | {_cell(f)} | {f'{f.value:g} {f.unit}'.strip()} |"
            f" {f.goal or ''} | {'' if f.goal is None else 'ok' if f.ok else '**miss**'} |"
            for first, f in zip(what, self.figures, strict=True)
        ]

    def run_row(self) -> str:
        return f"| {self.number} | `{self.options}` | {self.finished} | {self.took_s:.0f} s | {self.machine} |"


def merge(doc: Path, ran: Ran) -> bool:
    """Put this run's rows into `doc`. False when they were left out: a quick run never replaces a full one.

    Two runs may end at the same time: the file is locked meanwhile. What people wrote under `## Notes` stays.
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
        f.write(f"{HEAD}\n{FIGURES}{_table(figures)}\n{RUNS}{_table(runs)}{_notes(text)}")
    return True


def _cell(figure: Figure) -> str:
    text = f"{figure.figure} ({figure.note})" if figure.note else figure.figure
    return text.replace("|", "/").replace("\n", " ")


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


def _notes(text: str) -> str:
    _, title, notes = text.partition("\n## Notes\n")
    return title + notes
