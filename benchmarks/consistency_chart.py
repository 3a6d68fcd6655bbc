"""The picture of `benchmarks.consistency_model` for the docs: one dot a seed, one bar a mean. SVG, no library."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, ROW, LEFT, RIGHT = 720, 46, 250, 40


def chart(title: str, arms: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Rows of values from 0 to 1; the same seed has the same shade in every row."""
    span = WIDTH - LEFT - RIGHT
    height = ROW * len(arms) + 78
    size = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="14"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="24" font-weight="bold">{title}</text>',
    ]
    for tick in range(0, 11, 2):
        x = LEFT + span * tick / 10
        out.append(f'<path d="M{x:.0f} 38V{height - 30}" stroke="#ddd"/>')
        out.append(f'<text x="{x:.0f}" y="{height - 12}" text-anchor="middle" fill="#555">{tick / 10:g}</text>')
    for n, (name, values) in enumerate(arms):
        y = 38 + ROW * n + ROW / 2
        mean = sum(values) / len(values)
        out.append(f'<text x="{LEFT - 12}" y="{y + 5:.0f}" text-anchor="end">{name}</text>')
        out.append(f'<rect x="{LEFT}" y="{y - 9:.0f}" width="{span * mean:.1f}" height="18" fill="#b9c4cc"/>')
        for k, value in enumerate(values):
            shade = 30 + 28 * k
            out.append(
                f'<circle cx="{LEFT + span * value:.1f}" cy="{y:.0f}" r="5" fill="rgb({shade},{shade},{shade})"/>'
            )
        out.append(f'<text x="{LEFT + 6}" y="{y + 5:.0f}" font-weight="bold">{mean:.2f}</text>')
    return "\n".join([*out, "</svg>", ""])
