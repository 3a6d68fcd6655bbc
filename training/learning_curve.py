"""How many more labels are worth collecting: a power law through results at several label counts, with its interval.

The error falls as c + a n^-b (J. Hestness et al., 2017; C. Cortes et al., 1993). Few results do not tell the three
apart, so no single curve is believed. What is expected is the median of all (b, c) of a grid, each weighed by how well
it fits. The interval is the profile likelihood's: from the lowest to the highest that any curve says whose misfit
exceeds the least by no more than Student's t allows. Weights alone made it too short: a law without a floor lies at the
grid's edge, where few curves share the weight.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from inspection.errors import DatasetError

Floats = NDArray[np.float64]
LEAST_COUNTS = 3
EXPONENTS = np.linspace(0.05, 2.0, 79)
FLOORS = np.linspace(0.0, 0.99, 81)  # as a share of the lowest mean error of a count
LEAST_NOISE = 0.03  # relative, of one run: nothing expected is surer, however well three points lie on a line
PRIOR_NOISE, PRIOR_RESULTS = 0.1, 2
"""Relative, of one run: what is believed before any result, worth so many; three points may lie on a line by chance."""
NEWTON_STEPS, MOST_STEP = 5, 1.0
FURTHEST = 100  # a promise for more than so many times the labels there are is none


@dataclass(frozen=True, slots=True)
class Range:
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Error = floor + scale * n^-exponent for every row, with its weight (they sum to 1). A row with `give` >= 0 is
    within the interval, from scale * e^-give to scale * e^give; others have NaN. `noise` is relative."""

    exponent: Floats
    floor: Floats
    scale: Floats
    weight: Floats
    give: Floats
    noise: float
    most: int

    def at(self, n: float) -> Range:
        """The figure (1 - error) expected with n labels, and its 95 % interval. The noise of one run is not in it."""
        falls = self.scale * n**-self.exponent
        spread = falls * np.exp(self.give)
        low, high = np.nanmin(1 - self.floor - spread), np.nanmax(1 - self.floor - falls / np.exp(self.give))
        return Range(self._median(1 - self.floor - falls), float(max(0.0, low)), float(high))

    def labels_for(self, figure: float) -> Range:
        """How many labels in all until the figure is reached; infinity where a curve never gets there."""
        within = ~np.isnan(self.give)
        most, least = (self._needed(figure, self.scale * np.exp(side * self.give))[within] for side in (1, -1))
        return Range(self._median(self._needed(figure, self.scale)), float(least.min()), float(most.max()))

    def _needed(self, figure: float, scale: Floats) -> Floats:
        room = (1 - figure) - self.floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            needed = np.where(room > 0, (scale / np.maximum(room, 1e-12)) ** (1 / self.exponent), np.inf)
        return np.maximum(1.0, np.where(needed > FURTHEST * self.most, np.inf, needed))

    def _median(self, values: Floats) -> float:
        place = np.argsort(values)
        below = np.cumsum(self.weight[place])
        return float(values[place][min(len(below) - 1, int(np.searchsorted(below, 0.5)))])


def fit_curve(labels: Sequence[int], figures: Sequence[float]) -> Curve:
    """From label counts and the figures (0 to 1, higher is better) reached with them; seeds may repeat a count."""
    n, error = np.asarray(labels, float), 1 - np.asarray(figures, float)
    counts = len(set(labels))
    if counts < LEAST_COUNTS or n.min() < 1:
        raise DatasetError(
            "learning curve",
            f"has results at {counts} label counts",
            f"train at {LEAST_COUNTS} or more, e.g. 20,50,100",
        )
    if not (np.isfinite(error).all() and (error >= 0).all() and (error <= 1).all()):
        raise DatasetError("learning curve", "a figure is not between 0 and 1", "give AP, AUROC or recall as a share")
    error = np.maximum(error, 1e-4)
    lowest = min(float(error[n == count].mean()) for count in set(labels))
    b, f = (grid.ravel() for grid in np.meshgrid(EXPONENTS, FLOORS * lowest, indexing="ij"))
    # Relative errors. Where the floor is 0, log(error) is a straight line in log n, its height the mean: Newton's steps
    # go from there to the height of least squares.
    power = n[None] ** -b[:, None]
    height = (np.log(np.maximum(error[None] - f[:, None], 0.02 * error[None])) - np.log(power)).mean(axis=1)
    for _ in range(NEWTON_STEPS):
        falls = np.exp(height)[:, None] * power
        steep = falls / (f[:, None] + falls)
        step = (steep * _misses(error, f, falls)).sum(1) / (steep**2).sum(1)
        height = height + np.clip(step, -MOST_STEP, MOST_STEP)
    falls = np.exp(height)[:, None] * power
    misfit = (_misses(error, f, falls) ** 2).sum(1)
    steep = falls / (f[:, None] + falls)

    degrees = max(0, len(n) - 3) + PRIOR_RESULTS
    noise = math.sqrt((float(misfit.min()) + PRIOR_RESULTS * PRIOR_NOISE**2) / degrees)
    bound = (noise * float(stats.t.ppf(0.975, degrees))) ** 2
    left = misfit.min() + bound - misfit
    give = np.sqrt(np.where(left >= 0, left, np.nan) / (steep**2).sum(1))
    # What is expected follows the results alone: with the prior's noise a floor that nothing speaks for would pull it.
    alone = max(LEAST_NOISE, math.sqrt(float(misfit.min()) / max(1, len(n) - 3)))
    weight = np.exp(-0.5 * (misfit - misfit.min()) / alone**2)
    return Curve(b, f, np.exp(height), weight / weight.sum(), give, noise, int(n.max()))


def _misses(error: Floats, floor: Floats, falls: Floats) -> Floats:
    """(curves, results) by how much each result's logarithm lies above each curve."""
    return np.asarray(np.log(error)[None] - np.log(floor[:, None] + falls))


def read_results(data: bytes, where: object) -> tuple[list[int], list[float]]:
    """A CSV with the columns labels and figure."""
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig", errors="replace")))
    if not {"labels", "figure"} <= set(reader.fieldnames or ()):
        raise DatasetError(
            f"{where}:1", f"has the columns {', '.join(reader.fieldnames or ())}", "name them labels,figure"
        )
    labels, figures = [], []
    for row in reader:
        try:
            labels.append(int(row["labels"]))
            figures.append(float(row["figure"]))
        except (TypeError, ValueError) as e:
            where_now = f"{where}:{reader.line_num}"
            raise DatasetError(where_now, f"is {dict(row)}", "write a whole number and a share, e.g. 100,0.93") from e
    return labels, figures
