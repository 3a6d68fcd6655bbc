"""The learning curve finds the law it was drawn from, and says when it cannot know."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inspection.errors import DatasetError
from training.learning_curve import fit_curve, read_results

COUNTS = [20, 50, 100, 200, 400]


def test_an_exact_power_law_is_found() -> None:
    curve = fit_curve(COUNTS, [1 - 2 * n**-0.6 for n in COUNTS])
    for n in (800, 1600):
        said = curve.at(n)
        assert said.low <= 1 - 2 * n**-0.6 <= said.high
        assert said.value == pytest.approx(1 - 2 * n**-0.6, abs=0.01)
    needed = curve.labels_for(0.97)
    assert needed.low <= (2 / 0.03) ** (1 / 0.6) <= needed.high


def test_a_floor_is_not_promised_away() -> None:
    curve = fit_curve(COUNTS, [0.95 - 2 * n**-1.0 for n in COUNTS])
    assert curve.labels_for(0.99).high == math.inf
    assert curve.at(10_000).low <= 0.95 <= curve.at(10_000).high
    assert curve.at(10_000).high < 1.0


def test_intervals_hold_what_they_say() -> None:
    """300 simulated curves with 8 % noise: the true figure at twice the labels lies inside nine times of ten."""
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        a, b, c = rng.uniform(0.5, 1.5), rng.uniform(0.3, 0.9), rng.uniform(0, 0.03)
        seen = [1 - (c + a * n**-b) * math.exp(rng.normal(0, 0.08)) for n in COUNTS for _ in range(2)]
        said = fit_curve([n for n in COUNTS for _ in range(2)], np.clip(seen, 0, 1).tolist()).at(800)
        inside += said.low <= 1 - c - a * 800**-b <= said.high
    assert inside >= 0.9 * 300


def test_more_results_narrow_the_interval() -> None:
    law = [1 - 2 * n**-0.6 for n in COUNTS]
    few, many = fit_curve(COUNTS[:3], law[:3]).at(1000), fit_curve(COUNTS * 3, law * 3).at(1000)
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(
    ("labels", "figures"), [([20, 50], [0.5, 0.6]), ([20, 20, 50], [0.5] * 3), ([20, 50, 90], [0.5, 0.6, 93.0])]
)
def test_what_is_no_curve_is_refused(labels: list[int], figures: list[float]) -> None:
    with pytest.raises(DatasetError):
        fit_curve(labels, figures)


def test_results_are_read_and_their_errors_name_the_line() -> None:
    assert read_results(b"labels,figure\n20,0.5\n50,0.7\n", "r.csv") == ([20, 50], [0.5, 0.7])
    with pytest.raises(DatasetError, match=r"r\.csv:3"):
        read_results(b"labels,figure\n20,0.5\nfifty,0.7\n", "r.csv")
    with pytest.raises(DatasetError, match=r"r\.csv:1"):
        read_results(b"n,ap\n20,0.5\n", "r.csv")
