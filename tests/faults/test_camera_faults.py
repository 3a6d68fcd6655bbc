"""Faults of the camera with few repetitions; `make faults` runs them with many."""

from __future__ import annotations

import pytest

from benchmarks.fault_camera import fault_20, fault_21


@pytest.mark.slow
def test_a_camera_that_blocks_or_unplugs_halts_the_line_and_comes_back() -> None:
    for figure in fault_20(3):
        assert figure.ok, figure


@pytest.mark.slow
def test_a_frozen_or_covered_camera_halts_the_line_and_lost_frames_are_counted() -> None:
    for figure in fault_21(2):
        assert figure.ok, figure
