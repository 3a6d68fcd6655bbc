"""`make figures`: every bench, one table each in docs/figures.md, misses included. The faults have their own page.

python -m benchmarks.all                          # all of them: hours
python -m benchmarks.all --only Edge,Hub          # these anew; the other tables stay as they are
python -m benchmarks.all --only Hub --read FILE   # what `haltline bench review --json` printed to FILE
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOC = ROOT / "docs" / "figures.md"
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
HEAD = """# Figures

Made by `make figures`, one command a table; misses stay in. A table is as old as it says, so that one can be made again
without the hours of the others: `python -m benchmarks.all --only Edge`. Faults: [faults.md](faults.md).
"""
NEVER = "Not run yet."


def main(arguments: list[str] | None = None) -> int:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--only", default="", help=f"Tables with commas, of: {', '.join(COMMANDS)}.")
    asked.add_argument("--read", type=Path, help="Take what the one table's command printed from this file instead.")
    asked.add_argument("--doc", type=Path, default=DOC, help="The page that gets the tables.")
    given = asked.parse_args(arguments)
    wanted = [title.strip() for title in given.only.split(",") if title.strip()] or list(COMMANDS)
    if stray := sorted(set(wanted) - set(COMMANDS)):
        asked.error(f"--only: no table is called {', '.join(stray)}; there are {', '.join(COMMANDS)}")
    if given.read and len(wanted) != 1:
        asked.error("--read is for one table: name it with --only")
    tables, failed = kept(given.doc), 0
    for title in wanted:
        if given.read:
            printed = given.read.read_text(encoding="utf-8")
            when = f"{datetime.fromtimestamp(given.read.stat().st_mtime, UTC):%Y-%m-%d}"
        else:
            printed = _run(COMMANDS[title])
            when = f"{datetime.now(UTC):%Y-%m-%d}, at a load of {os.getloadavg()[0]:.1f} when it was done"
        tables[title], missed = table(COMMANDS[title], printed, when)
        failed += missed
        print(f"{title}: {missed} missed", flush=True)
        # After each: the next may take an hour, and somebody may need the machine.
        given.doc.write_text(page(tables), encoding="utf-8")
    return 1 if failed else 0


def kept(doc: Path) -> dict[str, str]:
    """Title -> table as the page has it."""
    text = doc.read_text(encoding="utf-8") if doc.exists() else ""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {title: body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True) if title in COMMANDS}


def page(tables: dict[str, str]) -> str:
    return HEAD + "".join(f"\n## {title}\n\n{tables.get(title, NEVER)}\n" for title in COMMANDS)


def table(command: list[str], printed: str, when: str) -> tuple[str, int]:
    """The table's text, and how many figures missed their goal."""
    try:
        figures: list[dict[str, Any]] = json.loads(printed)
    except ValueError:
        # The other tables are worth having where one lacks its data; the hole is on the page and fails this.
        sys.stderr.write(f"{_typed(command)} printed no figures:\n{printed[-2000:]}\n")
        return f"`{_typed(command)}` printed no figures: **not measured**", 1
    lines = [f"`{_typed(command)}` on {figures[0]['machine']}; {when}.", ""]
    lines += ["| figure | measured | goal | |", "| --- | --- | --- | --- |", *map(_row, figures)]
    return "\n".join(lines), sum(not f["ok"] for f in figures)


def _run(command: list[str]) -> str:
    arguments = [sys.executable, "-m", *command, "--json"]
    return subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT).stdout


def _typed(command: list[str]) -> str:
    return " ".join(command if command[0] == "haltline" else ["python -m", *command])


def _row(f: dict[str, Any]) -> str:
    note = f" ({f['note']})" if f.get("note") else ""
    mark = "" if f["goal"] is None else "ok" if f["ok"] else "**miss**"
    goal = f"{f['goal']} {f['unit']}" if f["goal"] else ""
    return f"| {f['figure']}{note} | {f['value']:.4g} {f['unit']} | {goal} | {mark} |"


if __name__ == "__main__":
    sys.exit(main())
