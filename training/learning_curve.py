"""How many more labels are worth collecting: a power law through results at several label counts, with its interval.

The error falls as c + a n^-b (J. Hestness et al., 2017; C. Cortes et al., 1993). Few results do not tell the three
apart, so no single curve is believed: every (b, c) of a grid is weighed by how well it fits, and the interval is what
those weights leave between 2.5 and 97.5 %.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspection.errors import DatasetError

Floats = NDArray[np.float64]
LEAST_COUNTS = 3
EXPONENTS = np.linspace(0.05, 2.0, 79)
FLOORS = np.linspace(0.0, 1.0, 81)  # as a share of the lowest error seen
LEAST_NOISE = 0.03  # relative: no result is surer than that, however well three points lie on a line
FURTHEST = 100  # a promise for more than so many times the labels there are is none


@dataclass(frozen=True, slots=True)
class Range:
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Error = floor + scale * n^-exponent for every row, with its weight (they sum to 1). `noise` is relative."""

    exponent: Floats
    floor: Floats
    scale: Floats
    weight: Floats
    noise: float
    most: int

    def at(self, n: float) -> Range:
        """The figure (1 - error) expected with n labels, and its 95 % interval. The noise of one run is not in it."""
        return _range(1 - self.floor - self.scale * n**-self.exponent, self.weight)

    def labels_for(self, figure: float) -> Range:
        """How many labels in all until the figure is reached; infinity where a curve never gets there."""
        room = (1 - figure) - self.floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            needed = np.where(room > 0, (self.scale / np.maximum(room, 1e-12)) ** (1 / self.exponent), np.inf)
        return _range(np.where(needed > FURTHEST * self.most, np.inf, needed), self.weight)


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
    b, f = (grid.ravel() for grid in np.meshgrid(EXPONENTS, FLOORS * error.min() * 0.999, indexing="ij"))
    # Relative errors: log(error - floor) is a straight line in log n, its height the mean.
    falls = np.log(np.maximum(error[None] - f[:, None], 1e-9)) + b[:, None] * np.log(n)[None]
    height = falls.mean(axis=1)

    def misfit(height: Floats) -> Floats:
        expected = f[:, None] + np.exp(height)[:, None] * n[None] ** -b[:, None]
        return np.asarray(((np.log(error)[None] - np.log(expected)) ** 2).sum(1))

    noise = max(LEAST_NOISE, math.sqrt(float(misfit(height).min()) / max(1, len(n) - 3)))
    noise *= 1 + 2 / max(1, len(n) - 3)  # itself known from few results: as much as Student's t widens
    # The height is no better known than its mean: without that the interval is too short.
    heights = np.concatenate([height + z * noise / math.sqrt(len(n)) for z in np.linspace(-2, 2, 9)])
    b, f = np.tile(b, 9), np.tile(f, 9)
    missed = misfit(heights)
    weight = np.exp(-0.5 * (missed - missed.min()) / noise**2)
    scale = np.exp(heights)
    return Curve(b, f, scale, weight / weight.sum(), noise, int(n.max()))


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


def _range(values: Floats, weight: Floats) -> Range:
    place = np.argsort(values)
    below = np.cumsum(weight[place])
    low, middle, high = (
        float(values[place][min(len(below) - 1, int(np.searchsorted(below, q)))]) for q in (0.025, 0.5, 0.975)
    )
    return Range(middle, low, high)
