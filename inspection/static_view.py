"""What stands still in a camera's picture while the work moves: fixtures, light, the lens and what sticks to it.

Averaged over pictures of a moving line the work blurs away and the rest remains. A line that stands still shows one
piece of work for long, which must not be taken for the rest: pictures count only when they differ from the last one
that counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.look import CELL_PX, Thumb, best_shift, likeness, structure

EVERY = 8
"""Frames between two pictures of the average: neighbours show the same."""
AVERAGED = 6
"""Pictures in the average, as a time constant."""
NEW_SHARE = 0.6
REACH_CELLS = 4
COVERED_SHARE = 0.35
"""From this share on it is no spot: something stands before the lens, or it looks elsewhere."""


class Average:
    """A running average of thumbnails that differ by at least `step`, mean grey of structure, from one another."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._frame = -1
        self._last: Thumb | None = None
        self.seen: Thumb | None = None
        self.count = 0
        self.stands = False

    def take(self, thumb: Thumb) -> bool:
        """True when the average is a full one and has just changed."""
        self._frame += 1
        if self._frame % EVERY:
            return False
        shape = structure(thumb)
        self.stands = self._last is not None and float(np.abs(shape - self._last).mean()) < self._step
        if self.stands:
            return False
        self._last = shape
        self.count += 1
        if self.seen is None:
            self.seen = thumb.copy()
        else:
            cv2.accumulateWeighted(thumb, self.seen, 1 / min(self.count, AVERAGED))
        return self.count >= 2 * AVERAGED  # before that it is an average of too few

    def forget(self) -> None:
        self.seen, self.count = None, 0


@dataclass(frozen=True, slots=True)
class StaticLimits:
    """Learned. `tolerance`: how far a cell of the average may be from `mean`; `momentary`: a cell of one picture.
    `likeness_low`, `gain_high`: of the average's structure; None where nothing in the picture stands still."""

    mean: Thumb
    tolerance: Thumb
    momentary: Thumb
    step: float
    likeness_low: float | None
    gain_high: float | None
    dirt_share: float = 0.003


class StaticView:
    """Pictures beside the learned average. `says` is why the view is not what it was; empty when it is."""

    def __init__(self, limits: StaticLimits) -> None:
        self._limits = limits
        self._known = structure(limits.mean)
        self._average = Average(limits.step)
        self.says = ""

    def take(self, thumb: Thumb) -> None:
        changed = self._average.take(thumb)
        if changed and self._average.seen is not None:
            self.says = self._compare(self._average.seen)
        elif self.says and self._average.stands and not self._spots(thumb, self._limits.momentary):
            # The line stopped, somebody cleaned the lens: without this it would need to move to be allowed to move.
            self.says = ""
            self._average.forget()

    def nearness(self) -> float:
        """How near the average is to its limits, 1 = at one of them; for judging the limits, not in the frame path."""
        seen, limits = self._average.seen, self._limits
        if seen is None or self._average.count < 2 * AVERAGED:
            return 0.0
        ratio = np.abs(seen - limits.mean) / limits.tolerance
        steps = np.arange(0.1, 3, 0.02)
        near = [float(max((share for share in steps if self._largest(ratio > share)[0]), default=0.0))]
        if limits.likeness_low is not None and limits.gain_high is not None:
            unshifted, best, _ = best_shift(structure(seen), self._known, REACH_CELLS)
            near.append((best - unshifted) / limits.gain_high)
            near.append((1 - likeness(structure(seen), self._known)) / (1 - limits.likeness_low))
        return max(near)

    def _compare(self, seen: Thumb) -> str:
        return self._moved(structure(seen)) or self._spots(seen, self._limits.tolerance)

    def _moved(self, seen: Thumb) -> str:
        limits = self._limits
        if limits.likeness_low is None or limits.gain_high is None:
            return ""
        unshifted, best, (x, y) = best_shift(seen, self._known, REACH_CELLS)
        if best - unshifted > limits.gain_high:
            return f"moved: the view is shifted by about {x * CELL_PX}, {y * CELL_PX} px"
        if likeness(seen, self._known) < limits.likeness_low:
            return "moved or covered: what stood still in the picture is not there"
        return ""

    def _spots(self, seen: Thumb, tolerance: Thumb) -> str:
        """What is not as it was, cell by cell."""
        far = np.abs(seen - self._limits.mean) > tolerance
        share = float(far.mean())
        if share >= COVERED_SHARE:
            return f"covered or moved: {share:.0%} of the picture is not as it was"
        cells, (x, y) = self._largest(far)
        if not cells:
            return ""
        return f"dirt on the lens: {cells / far.size:.1%} of the picture near {x * CELL_PX:.0f}, {y * CELL_PX:.0f} px"

    def _largest(self, far: NDArray[np.bool_]) -> tuple[int, tuple[float, float]]:
        """Cells of the largest connected spot and its middle; 0 when no spot is large enough."""
        least = max(2, round(self._limits.dirt_share * far.size))
        if not self._limits.dirt_share or int(far.sum()) < least:
            return 0, (0.0, 0.0)
        _, _, stats, centres = cv2.connectedComponentsWithStats(far.astype(np.uint8), connectivity=4)
        areas = stats[1:, cv2.CC_STAT_AREA]
        x, y = centres[1 + int(areas.argmax())]
        return (int(areas.max()), (float(x), float(y))) if areas.max() >= least else (0, (0.0, 0.0))


STATIC_LIKENESS = 0.5
"""Likeness of averages to their mean from which on the view holds something that stands still."""


def learn(thumbs: np.ndarray) -> tuple[StaticLimits, float]:
    """Limits from (N, rows, cells) thumbnails in the order they were seen, and how much stands still, 0 to 1."""
    mean = np.asarray(thumbs.mean(axis=0), np.float32)
    known = structure(mean)
    # Pictures far apart in time show different work: what differs by nearly as much counts as new, at any speed.
    coarse = [structure(thumb) for thumb in thumbs[::EVERY]]
    apart = [float(np.abs(a - b).mean()) for a, b in zip(coarse, coarse[len(coarse) // 2 :], strict=False)]
    step = NEW_SHARE * float(np.median(apart))
    average, averages = Average(step), []
    for thumb in thumbs:
        if average.take(thumb) and average.seen is not None:
            averages.append(average.seen.copy())
    if not averages:  # too few pictures differ: the mean itself is all there is
        averages = [mean]
    off = np.abs(np.stack(averages) - mean).max(axis=0)
    # Neighbours share their fate, and a few pictures do not show the worst.
    tolerance = 2.0 * cv2.dilate(off, np.ones((3, 3), np.uint8)) + 0.06
    momentary = 1.25 * np.quantile(np.abs(thumbs - mean), 0.995, axis=0) + 0.05
    likes = [likeness(structure(one), known) for one in averages]
    gains = [_gain(structure(one), known) for one in averages]
    still = float(np.median(likes))
    stands = still >= STATIC_LIKENESS
    likeness_low = 1 - 2.5 * (1 - min(likes)) - 0.1 if stands else None
    gain_high = 3 * max(gains) + 0.1 if stands else None
    limits = StaticLimits(
        mean, np.asarray(tolerance, np.float32), np.asarray(momentary, np.float32), step, likeness_low, gain_high
    )
    return limits, still


def _gain(seen: Thumb, known: Thumb) -> float:
    unshifted, best, _ = best_shift(seen, known, REACH_CELLS)
    return best - unshifted
