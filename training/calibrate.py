"""From logits to calls, on groups the network never saw: calibrated scores, the limits lo and hi, the heat level.

The score is the probability that a defect at or above the label book's limit is in the picture. All numbers come from
the validation groups; the test groups only judge them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspection.bundle import ClassLimits, InputSpec
from inspection.label_book import ClassRule
from inspection.model_io import findings_in, fit, heat_to_frame
from inspection.samples import Sample
from training.dataset.crops import pictures_of
from training.examples import Example
from training.metrics import at_most, groups_with

Floats = NDArray[np.float64]
MISS_BOUND = 0.02
FALSE_CALL_BOUND = 0.01
UNSURE_BOUND = 0.1  # of the good pictures, over all classes: whoever must look at every second picture looks at none
# What few validation groups cannot show, the band must hold: 0.3 is worth a look even if none of 100 was bad.
LO_AT_MOST, LO_AT_LEAST, HI_AT_LEAST, HI_AT_MOST = 0.2, 0.01, 0.6, 0.99
HEAT_LEVELS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)


@dataclass(frozen=True, slots=True)
class Platt:
    """score = sigmoid(scale * logit + bias), one per class (Platt 1999); identity where one kind is missing."""

    scale: float = 1.0
    bias: float = 0.0

    def __call__(self, logits: Floats) -> Floats:
        z = np.clip(self.scale * logits + self.bias, -60, 60)
        return np.asarray(1 / (1 + np.exp(-z)))


@dataclass(frozen=True, slots=True)
class ClassCalibration:
    """One class's numbers and what they rest on: counts of validation pictures and what lo and hi do to them.

    `miss_rate_below`, `call_rate_below`: with 95 % confidence, of parts (groups) any of whose pictures went wrong.
    """

    platt: Platt
    limits: ClassLimits
    defective: int
    good: int
    missed: int
    false_calls: int
    length_error_mm: float
    miss_rate_below: float = 1.0
    call_rate_below: float = 1.0


def fit_platt(logits: Floats, target: Floats, prior_weight: float = 1.0) -> Platt:
    """Newton's method on the log loss with a weak pull towards identity, so that separable scores stay finite.

    `logits`, `target` (N,). Targets are Platt's smoothed ones, (n + 1) / (n + 2): no validation set proves certainty.
    """
    bad, good = float((target > 0.5).sum()), float((target <= 0.5).sum())
    if not bad or not good:
        return Platt()
    t = np.where(target > 0.5, (bad + 1) / (bad + 2), 1 / (good + 2))
    x = np.stack([logits, np.ones_like(logits)], 1)
    theta = start = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -60, 60)))
        gradient = x.T @ (p - t) + prior_weight * (theta - start)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + prior_weight * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-8:
            break
    return Platt(max(0.05, float(theta[0])), float(theta[1]))


def choose_limits(scores: Floats, target: Floats) -> list[tuple[float, float]]:
    """(lo, hi) per class on calibrated scores (N, C), never lo > hi, never a band narrower than [LO_AT_MOST,
    HI_AT_LEAST].

    The limits hi together call at most FALSE_CALL_BOUND of the good pictures: for whatever class a line stops, it
    stops. lo misses at most MISS_BOUND of its class, unless all together would make more than UNSURE_BOUND of the good
    ones uncertain: then they stand higher, at the same share of good pictures for each class, and the card counts what
    they miss. A class may always use its part of a bound, however much another one takes.
    """
    bad = target > 0.5
    of_some_class = bad.any(1, keepdims=True)
    # Where no picture is good, those of the other classes are what a class must not be called on.
    free = ~bad if of_some_class.all() else ~(bad | of_some_class)
    rows, classes = int(free.any(1).sum()), target.shape[1]
    goods = [np.sort(scores[free[:, k], k])[::-1] for k in range(classes)]
    wanted = [_missing_few(scores[bad[:, k], k]) for k in range(classes)]

    def at(k: int, above: int) -> float:
        """The score that so many of the good pictures exceed, were all `rows` of class `k`."""
        return float(goods[k][above * len(goods[k]) // rows]) * 1.001 if len(goods[k]) else 0.0

    def los(above: int) -> list[float]:
        return [max(wanted[k], min(LO_AT_MOST, at(k, above))) for k in range(classes)]

    def his(above: int) -> list[float]:
        return [max(HI_AT_LEAST, at(k, above)) for k in range(classes)]

    def most(bound: float, limits: Callable[[int], list[float]]) -> list[float]:
        least, above = math.floor(bound * rows / classes), math.floor(bound * rows)
        while above > least and (free & (scores >= limits(above))).any(1).sum() > bound * rows:
            above -= 1
        return limits(above)

    both = zip(most(UNSURE_BOUND, los), most(FALSE_CALL_BOUND, his), strict=True)
    return [(round(max(lo, LO_AT_LEAST), 4), round(min(hi, HI_AT_MOST), 4)) for lo, hi in both]


def _missing_few(of_class: Floats) -> float:
    if not len(of_class):
        return LO_AT_MOST
    return min(LO_AT_MOST, float(np.sort(of_class)[math.floor(MISS_BOUND * len(of_class))]) * 0.999)


def choose_heat_level(
    heat: NDArray[np.uint8], region_mm: Floats, rule: ClassRule, spec: InputSpec, stride: int
) -> tuple[float, float]:
    """(level, mean absolute length error in mm) for one class, from maps (N, h, w) of pictures with a known region.

    The level at which measured lengths match true ones best; 0.5 and NaN where no picture tells.
    """
    affine = heat_to_frame(fit(spec.width_px, spec.height_px, spec), stride)
    best = (0.5, math.nan)
    for level in HEAT_LEVELS:
        limits = ClassLimits(cls=rule.cls, lo=0, hi=1, heat_level=level, limit_mm=rule.limit_mm)
        found = [findings_in(one, limits, affine, spec.px_per_mm) for one in heat]
        # A defect the map does not show at all counts with its whole length: a level must not win by seeing less.
        errors = [abs((f[0].length_mm if f else 0.0) - true) for f, true in zip(found, region_mm, strict=True)]
        if errors and not float(np.mean(errors)) >= best[1]:
            best = (level, float(np.mean(errors)))
    return best


def calibrate(
    logits: Floats,
    heat: NDArray[np.uint8],
    examples: list[Example],
    rules: tuple[ClassRule, ...],
    spec: InputSpec,
    stride: int,
    samples: Sequence[Sample],
) -> list[ClassCalibration]:
    """`logits` (N, C) and `heat` (N, C, h, w) of the N validation examples, made of `samples` -> one calibration per
    class. Scores are fitted on the examples, crops where pictures were cut, and what limits do is counted on the whole
    pictures. So is the share that hi stops; for lo, in doubt, crops count: more than a tenth of the good pictures then
    go to a person, and fewer defects pass (docs/training.md).
    """

    target = np.array([e.target for e in examples], np.float64).reshape(len(examples), len(rules))
    regions = np.array([e.region_mm for e in examples], np.float64).reshape(len(examples), len(rules))
    platts = [fit_platt(logits[:, k], target[:, k]) for k in range(len(rules))]
    calibrated = np.stack([platt(logits[:, k]) for k, platt in enumerate(platts)], 1)
    of_whole, whole_target, groups = _whole(calibrated, target, samples)

    def below(wrong: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
        return at_most(groups_with(wrong & among, groups), groups_with(among, groups))

    los = [lo for lo, _ in choose_limits(calibrated, target)]
    his = [hi for _, hi in choose_limits(of_whole, whole_target)]
    done = []
    for k, (rule, platt, lo, hi) in enumerate(zip(rules, platts, los, his, strict=True)):
        scores, bad = of_whole[:, k], whole_target[:, k] > 0.5
        seen = (target[:, k] > 0.5) & (regions[:, k] > 0)
        level, error = choose_heat_level(heat[seen, k], regions[seen, k], rule, spec, stride)
        limits = ClassLimits(cls=rule.cls, lo=lo, hi=hi, heat_level=level, limit_mm=rule.limit_mm)
        low, high = scores < lo, scores >= hi
        done.append(
            ClassCalibration(
                platt,
                limits,
                defective=int(bad.sum()),
                good=int((~bad).sum()),
                missed=int((low & bad).sum()),
                false_calls=int((high & ~bad).sum()),
                length_error_mm=error,
                miss_rate_below=below(low, bad),
                call_rate_below=below(high, ~bad),
            )
        )
    return done


def _whole(scores: Floats, target: Floats, samples: Sequence[Sample]) -> tuple[Floats, Floats, list[str]]:
    """Scores and targets (N, C) of examples as those of the pictures they were cut from, and their groups: a line stops
    for any of a picture's crops. As they are where that leaves no good picture, and crops must stand for one."""
    pictures = pictures_of(samples)
    whole, whole_target = (np.stack([some[crops].max(0) for crops in pictures]) for some in (scores, target))
    if (whole_target > 0.5).any(1).all() and not (target > 0.5).any(1).all():
        return scores, target, [s.group for s in samples]
    return whole, whole_target, [samples[crops[0]].group for crops in pictures]
