"""The ambiguous size band as SVG: every person's curve, the pooled one, the band, the limit and the proposal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from inspection.size_band import Call, SizeBand
from review.language import _, number, plain

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 306, 48, 28, 16, 40
STEPS = 120


def band_svg(band: SizeBand, calls: Sequence[Call], limit_mm: float) -> Markup:
    """Sizes run logarithmically, as the curves are in ln size; each call is a dot at its size, defects on top."""
    low, high = min(band.sizes_mm[0], band.low_mm.low) * 0.97, max(band.sizes_mm[1], band.high_mm.high) * 1.03
    across = WIDTH - LEFT - RIGHT

    def x(size_mm: float) -> float:
        return LEFT + across * math.log(size_mm / low) / math.log(high / low)

    def y(chance: float) -> float:
        return TOP + (1 - chance) * (HEIGHT - TOP - BOTTOM)

    sizes = [low * (high / low) ** (i / STEPS) for i in range(STEPS + 1)]

    def curve(chance: Callable[[float], float], name: str, title: str) -> str:
        points = " ".join(f"{x(s):.1f},{y(chance(s)):.1f}" for s in sizes)
        return f'<polyline class="{name}" points="{points}"><title>{Markup.escape(title)}</title></polyline>'

    left, wide = x(band.low_mm.value), x(band.high_mm.value) - x(band.low_mm.value)
    bits = [
        f'<rect class="zone" x="{left:.1f}" y="{TOP}" height="{HEIGHT - TOP - BOTTOM}" width="{wide:.1f}"/>',
        *(_tick(x(size), size) for size in _ticks(low, high)),
        *(_level(y(share), share) for share in (0, 0.1, 0.5, 0.9, 1)),
        *(f'<circle class="call" cx="{x(c.size_mm):.1f}" cy="{y(float(c.defect)):.1f}" r="2"/>' for c in calls),
        *(curve(p.chance, "person", f"{p.person}: {number(p.threshold_mm.value, 2)} mm") for p in band.people),
        curve(band.chance, "pooled", _("everybody")),
    ]
    # Each word on its own side: the two lines are often nearer to each other than a word is long.
    proposed = band.proposed_mm.value
    sides = ("end", "start") if limit_mm <= proposed else ("start", "end")
    if low < limit_mm < high:
        bits.append(_mark(x(limit_mm), "limit", _("limit %(limit)s", limit=plain(limit_mm)), sides[0]))
    bits.append(_mark(x(proposed), "proposed", _("proposed %(mm)s", mm=number(proposed, 2)), sides[1]))
    words = _(
        "Chance of being called a defect: 10 %% at %(low)s mm, 90 %% at %(high)s mm",
        low=number(band.low_mm.value, 2),
        high=number(band.high_mm.value, 2),
    )
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">{"".join(bits)}</svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    steps = [b * 10.0**e for e in range(-2, 3) for b in (1, 1.5, 2, 3, 5, 7)]
    return [s for s in steps if low <= s <= high]


def _tick(at: float, size_mm: float) -> str:
    bottom = HEIGHT - BOTTOM
    line = f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 5}"/>'
    return line + f'<text x="{at:.1f}" y="{bottom + 22}" text-anchor="middle">{plain(size_mm)} mm</text>'


def _level(at: float, share: float) -> str:
    line = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
    return line + f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{plain(share)}</text>'


def _mark(at: float, name: str, words: str, anchor: str) -> str:
    line = f'<line class="{name}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    beside = at + (4 if anchor == "start" else -4)
    return line + f'<text x="{beside:.1f}" y="{TOP - 7}" text-anchor="{anchor}">{words}</text>'
