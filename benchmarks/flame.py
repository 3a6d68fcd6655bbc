"""Draw what py-spy saw of the frame path: `python -m benchmarks.flame RAW SVG "title"`.

RAW is what `py-spy record -f raw --function --threads` wrote. Threads that wait are left out: py-spy takes some of them
for busy, and they cost nothing. A width is a share of the frame path's and the cameras' own time.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from html import escape
from pathlib import Path

WAITS = ("Condition.wait", "Event.wait", "Semaphore.acquire", "Inbox._take", "select")
PATHS = {"run (edge/runner.py)": "frame path", "CameraPump._work (edge/cameras/pump.py)": "camera's thread"}
WIDTH, ROW, LEAST = 1200, 18, 0.0015
COLOURS = {"edge/": "#7fb3d5", "inspection/": "#76d7c4", "benchmarks/": "#d5d8dc"}


def main(raw: str, svg: str, title: str) -> None:
    stacks = Counter[tuple[str, ...]]()
    for line in Path(raw).read_text().splitlines():
        names, _, count = line.rpartition(" ")
        if stack := _of_the_path([re.sub(r":\d+\)$", ")", name) for name in names.split(";")]):
            stacks[stack] += int(count)
    Path(svg).write_text(_drawn(stacks, title))


def _of_the_path(names: list[str]) -> tuple[str, ...] | None:
    """From the frame path's or the camera's own first function on; None for another thread, or one that waits."""
    start = next((k for k, name in enumerate(names) if name in PATHS), None)
    if start is None or any(name.startswith(WAITS) for name in names[start:]):
        return None
    return PATHS[names[start]], *names[start + 1 :]


def _drawn(stacks: Counter[tuple[str, ...]], title: str) -> str:
    total = sum(stacks.values())
    depth = max(map(len, stacks))
    boxes = [f'<text x="4" y="14" font-weight="bold">{escape(title)}</text>']
    widths: Counter[tuple[str, ...]] = Counter()
    lefts: dict[tuple[str, ...], int] = {}
    for stack, count in stacks.items():
        for k in range(1, len(stack) + 1):
            widths[stack[:k]] += count
    ends: Counter[tuple[str, ...]] = Counter()
    for node in sorted(widths, key=lambda n: (len(n), n)):
        parent = node[:-1]
        lefts[node] = lefts.get(parent, 0) + ends[parent]
        ends[parent] += widths[node]
        if widths[node] >= LEAST * total:
            boxes.append(_box(node[-1], lefts[node] / total, widths[node] / total, len(node)))
    height = ROW * (depth + 2)
    style = "font-family:monospace;font-size:11px"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" style="{style}">' + "".join(
        [f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>', *boxes, "</svg>\n"]
    )


def _box(name: str, left: float, share: float, level: int) -> str:
    x, width, y = left * WIDTH, share * WIDTH, level * ROW + 4
    colour = next((c for part, c in COLOURS.items() if part in name), "#f5cba7")
    shown = name if len(name) * 6.8 < width else name[: max(0, int(width / 6.8) - 1)]
    return (
        f'<g><title>{escape(name)}: {share:.1%}</title><rect x="{x:.1f}" y="{y}" width="{max(0.5, width - 0.5):.1f}"'
        f' height="{ROW - 1}" fill="{colour}"/><text x="{x + 2:.1f}" y="{y + 13}">{escape(shown)}</text></g>'
    )


if __name__ == "__main__":
    main(*sys.argv[1:4])
