"""Figures of merit against values worked out by hand or published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training import metrics


def of(scores: list[float], labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(scores, float), np.array(labels, bool)


def test_average_precision_by_hand() -> None:
    # scikit-learn's own example: 1/2 * 1 + 1/2 * 2/3
    assert metrics.average_precision(*of([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])) == pytest.approx(0.8333, abs=1e-4)
    assert metrics.average_precision(*of([0.9, 0.8, 0.1], [1, 1, 0])) == 1.0
    assert metrics.average_precision(*of([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0])) == 0.25, "ties enter together"
    assert math.isnan(metrics.average_precision(*of([0.5], [0])))
    assert math.isnan(metrics.average_precision(*of([0.5, 0.2], [1, 1]))), "any order is perfect"


def test_auroc_by_hand() -> None:
    assert metrics.auroc(*of([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])) == 0.75
    assert metrics.auroc(*of([0.5, 0.5], [0, 1])) == 0.5
    assert math.isnan(metrics.auroc(*of([0.5, 0.2], [1, 1])))


def test_auroc_and_ap_against_brute_force() -> None:
    rng = np.random.default_rng(4)
    scores, labels = rng.integers(0, 9, 200) / 9, rng.random(200) < 0.3
    bad, good = scores[labels], scores[~labels]
    wins = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    assert metrics.auroc(scores, labels) == pytest.approx(wins)
    area, recall = 0.0, 0.0
    for limit in np.unique(scores)[::-1]:
        called = scores >= limit
        now = (called & labels).sum() / labels.sum()
        area += (now - recall) * (called & labels).sum() / called.sum()
        recall = now
    assert metrics.average_precision(scores, labels) == pytest.approx(area)


def test_recall_at_one_percent_false_calls() -> None:
    good = np.linspace(0, 0.5, 200)
    scores = np.concatenate([good, [0.6, 0.499, 0.2]])
    labels = np.arange(203) >= 200
    # two of 200 good pictures may be called: the third highest of them is the limit
    assert metrics.recall_at_false_calls(scores, labels) == pytest.approx(2 / 3)
    few = np.array([0.3, 0.9, 0.8, 0.1]), np.array([False, True, True, False])
    assert metrics.recall_at_false_calls(*few) == 1.0


def test_pixel_average_precision_is_average_precision() -> None:
    rng = np.random.default_rng(1)
    heat = rng.integers(0, 256, (3, 8, 9), np.uint8)
    masks = rng.random((3, 8, 9)) < 0.2
    expected = metrics.average_precision(heat.ravel().astype(float), masks.ravel())
    assert metrics.pixel_average_precision(list(heat), list(masks)) == pytest.approx(expected)


def test_bounds_of_a_rate() -> None:
    # no event in n: 59 prove 5 %, 149 prove 2 %, 299 prove 1 % with 95 % confidence
    for n, rate in ((59, 0.05), (149, 0.02), (299, 0.01)):
        assert metrics.at_most(0, n) < rate + 1e-4
        assert metrics.at_most(0, n - 1) > rate - 1e-4
    assert metrics.at_most(3, 50) == pytest.approx(0.1478, abs=1e-3)
    assert metrics.at_most(0, 0) == 1.0


def test_interval_draws_groups_not_pictures() -> None:
    values = np.repeat([0.0, 1.0, 1.0, 0.0, 1.0], 40)
    alone = [str(k) for k in range(200)]
    grouped = [str(k // 40) for k in range(200)]

    def share(rows: np.ndarray) -> float:
        return float(values[rows].mean())

    narrow, wide = metrics.group_interval(share, alone), metrics.group_interval(share, grouped)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert metrics.group_interval(share, grouped) == wide, "the same rows give the same interval"


def test_calibration_error_by_hand() -> None:
    scores, labels = of([0.1] * 10 + [0.8] * 10, [1] + [0] * 9 + [1] * 8 + [0] * 2)
    assert metrics.calibration_error(scores, labels, bins=2) == pytest.approx(0.0)
    assert metrics.calibration_error(scores, ~labels, bins=2) == pytest.approx((0.8 + 0.6) / 2)
    assert math.isnan(metrics.calibration_error(*of([], [])))


def test_few_pictures_show_an_error_by_chance_alone() -> None:
    scores = np.random.default_rng(1).random(300)
    few, many = (metrics.calibration_by_chance(s).mean() for s in (scores, np.tile(scores, 20)))
    # Of n pictures a bin, the mean of |binomial share - p| is about sqrt(2 p (1 - p) / (pi n)).
    expected = np.mean([np.sqrt(2 / np.pi * (p * (1 - p)).mean() / 20) for p in np.array_split(np.sort(scores), 15)])
    assert few == pytest.approx(expected, rel=0.1)
    assert many == pytest.approx(expected / np.sqrt(20), rel=0.1)


def test_augrc_by_hand() -> None:
    # Four pictures, the least sure one wrong: nothing wrong until the last quarter, then a quarter.
    assert metrics.augrc(*of([0.9, 0.8, 0.7, 0.1], [0, 0, 0, 1])) == pytest.approx(1 / 32)
    assert metrics.augrc(*of([0.1, 0.8, 0.7, 0.9], [0, 0, 0, 1])) == pytest.approx(7 / 32)
    assert metrics.augrc(*of([0.5] * 4, [0, 0, 0, 1])) == pytest.approx(1 / 8), "ties say nothing: half the error rate"
    assert metrics.augrc(*of([0.5] * 4, [0] * 4)) == 0


def test_per_region_overlap() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:4, 2:4] = mask[10:18, 10:18] = True
    perfect = (mask * 200).astype(np.uint8)
    assert metrics.per_region_overlap([perfect], [mask]) == pytest.approx(1.0, abs=0.01)
    half = perfect.copy()
    half[10:18, 10:18] = 0  # the large region is not seen: half of the regions, though most of the pixels
    assert metrics.per_region_overlap([half], [mask]) == pytest.approx(0.5 + 0.5 * 0.15, abs=0.02)
    assert math.isnan(metrics.per_region_overlap([perfect], [np.zeros_like(mask)]))
