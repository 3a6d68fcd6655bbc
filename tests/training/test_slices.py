"""Figures by size say how long a defect is in the unit that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.dataset.snapshot import Snapshot
from training.judging import JudgedPicture
from training.outcome import Judge, judged
from training.slices import LEAST, by_size


def _of_lengths(one: JudgedPicture, lengths: Sequence[float], px_per_mm: float | None) -> list[JudgedPicture]:
    sample = one.sample.model_copy(update={"px_per_mm": px_per_mm})
    return [replace(one, sample=sample, region_mm=np.array([length])) for length in lengths]


def test_sizes_are_in_mm_where_a_scale_is_known_and_else_in_px(tiny: Snapshot, tiny_run: Path) -> None:
    bad = next(p for p in judged(Judge(tiny_run, tiny).of("test")) if p.target.any())
    unscaled = _of_lengths(bad, [7, 12, 30, 31, 99.6, 110, 180, 250, 1234], None)
    assert [s.name for s in by_size(unscaled, 0)] == ["7 to 30 px", "31 to 110 px", "180 to 1234 px"]
    assert [s.defective for s in by_size(unscaled, 0)] == [3, 3, 3]
    scaled = _of_lengths(bad, [0.514, 1, 1.5, 2, 2.25, 3, 9.4, 9.7, 12], 10)
    named = ["0.51 to 1.5 mm", "2 to 3 mm", "9.4 to 12 mm"]
    assert [s.name for s in by_size(scaled, 0)] == named
    assert [s.name for s in by_size(scaled + unscaled, 0)] == named, "a px among the mm would be a lie"
    assert not list(by_size(scaled[: LEAST - 1], 0))
