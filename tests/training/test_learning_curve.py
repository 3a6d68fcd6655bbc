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


@pytest.mark.parametrize(("noise", "seeds"), [(0.04, 1), (0.08, 1), (0.08, 3), (0.15, 3)])
def test_intervals_hold_what_they_say(noise: float, seeds: int) -> None:
    """400 simulated curves, half of them without a floor: the true figure at twice the labels lies inside 95 % of the
    intervals, less what chance takes of 400 (2 standard errors)."""
    rng = np.random.default_rng(7)
    n = np.repeat(COUNTS, seeds)
    inside = 0
    for k in range(400):
        floor, exponent = rng.uniform(0, 0.2) * (k % 2), rng.uniform(0.1, 1.2)
        scale = rng.uniform(0.2, 0.6) * COUNTS[0] ** exponent
        seen = np.clip((floor + scale * n**-exponent) * np.exp(rng.normal(0, noise, len(n))), 0, 1)
        said = fit_curve(n.tolist(), (1 - seen).tolist()).at(800)
        inside += said.low <= 1 - floor - scale * 800**-exponent <= said.high
    assert inside >= 0.928 * 400


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
