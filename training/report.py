"""Figures for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table

from training.evaluate import Figures


def figure_tables(f: Figures) -> Iterator[Table | str]:
    yield f"[bold]{f.bundle}[/bold] on the {f.split} split of {f.snapshot}: {f.pictures} pictures, {f.groups} groups"
    verdicts = Table("", "pictures", "stopped", "passed", "to a person", "parts, at most (95 %)")
    verdicts.add_row(
        "defective",
        *map(str, (f.defective, f.caught, f.missed, f.unsure)),
        f"missed {f.miss_rate_below:.1%}",
    )
    passed = f.good - f.false_stops - f.good_unsure
    verdicts.add_row(
        "good",
        *map(str, (f.good, f.false_stops, passed, f.good_unsure)),
        f"stopped {f.stop_rate_below:.1%}",
    )
    yield verdicts
    table = Table("class", "defective", "image AP", "AUROC", "recall at 1 % false calls", "pixel AP", "length error")
    for c in f.rows:
        length = f"{c.length_error_mm:.2f} mm ({c.length_bias_mm:+.2f})" if c.lengths else "-"
        pixel = f"{c.pixel_ap:.3f}" if math.isfinite(c.pixel_ap) else "-"
        table.add_row(c.cls, str(c.defective), str(c.image_ap), str(c.auroc), str(c.recall_at_1pc), pixel, length)
    yield table
    # The folds of `kfold` are judged by the runs themselves, and nothing is timed.
    took = f"{f.ms_p50:.1f} ms a frame (p99 {f.ms_p99:.1f}); " if math.isfinite(f.ms_p50) else ""
    yield f"{took}{f.uncertain_share:.1%} of all pictures go to a person"
    if f.stream:
        s = f.stream
        yield (
            f"moving seam, {s['k']:.0f} of {s['n']:.0f} frames: {s['caught']:.0f} of {s['defects']:.0f} caught, "
            f"{s['false_halts']:.0f} false halts in {s['minutes']:.1f} min ({s['false_halts_per_hour']:.1f} an hour)"
        )
    if f.whole:
        yield from figure_tables(f.whole)
