"""`make figures`: runs every bench and writes docs/figures.md, misses included. The faults have their own table."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DOC = Path(__file__).resolve().parent.parent / "docs" / "figures.md"
COMMANDS = {
    "Edge": ["haltline", "bench", "edge"],
    "Hub": ["haltline", "bench", "review"],
    "Sequential test": ["benchmarks.sequential"],
    "Size band and agreement": ["benchmarks.consistency"],
    "One label-book cycle": ["benchmarks.consistency", "--cycle"],
    "Label errors": ["benchmarks.label_errors"],
    # What `make benchmarks` has left in var/: training it anew would take hours.
    "Real sets": ["benchmarks.real_sets", "--seeds", "0", "--no-timing", "--no-write"],
}
"""What is run, as `python -m ...` with `--json`."""


def main() -> int:
    lines = ["# Figures", "", "Made by `make figures` on one machine, one command a table; misses stay in.", ""]
    missed = 0
    for title, command in COMMANDS.items():
        if len(command) == 1 and not (DOC.parent.parent / (command[0].replace(".", "/") + ".py")).exists():
            continue
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", *command, "--json"],
            capture_output=True,
            text=True,
            check=False,
            cwd=DOC.parent.parent,
        )
        try:
            figures: list[dict[str, Any]] = json.loads(done.stdout)
        except ValueError:
            # The other tables are worth having where one lacks its data; the hole is on the page and fails this.
            sys.stderr.write(f"{' '.join(command)} printed no figures:\n{done.stdout[-500:]}{done.stderr[-2000:]}\n")
            lines += [f"## {title}", "", f"`{_typed(command)}` printed no figures: **not measured**", ""]
            missed += 1
            continue
        missed += sum(not f["ok"] for f in figures)
        lines += [f"## {title}", "", f"`{_typed(command)}` on {figures[0]['machine']}", ""]
        lines += ["| figure | measured | goal | |", "| --- | --- | --- | --- |"]
        lines += [_row(f) for f in figures] + [""]
        print(f"{title}: {len(figures)} figures in {time.monotonic() - began:.0f} s", flush=True)
    DOC.write_text("\n".join(lines), encoding="utf-8")
    print(f"{DOC}: {missed} missed")
    return 1 if missed else 0


def _typed(command: list[str]) -> str:
    return " ".join(command if command[0] == "haltline" else ["python -m", *command])


def _row(f: dict[str, Any]) -> str:
    note = f" ({f['note']})" if f.get("note") else ""
    mark = "" if f["goal"] is None else "ok" if f["ok"] else "**miss**"
    goal = f"{f['goal']} {f['unit']}" if f["goal"] else ""
    return f"| {f['figure']}{note} | {f['value']:g} {f['unit']} | {goal} | {mark} |"


if __name__ == "__main__":
    sys.exit(main())
