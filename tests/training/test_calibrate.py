"""Calibration, limits and the heat level, on numbers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.bundle import InputSpec
from inspection.label_book import BOOKS
from inspection.samples import Sample
from training.calibrate import (
    HI_AT_LEAST,
    LO_AT_MOST,
    ClassCalibration,
    Floats,
    Platt,
    calibrate,
    choose_heat_level,
    choose_limits,
    fit_platt,
)
from training.examples import Example

RULE = BOOKS["scratch"].rules[0]


def of_one(scores: Floats, target: Floats) -> tuple[float, float]:
    """The limits of a single class."""
    return choose_limits(scores[:, None], target[:, None])[0]


def test_platt_finds_the_scale_it_was_given() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20_000)
    target = (rng.random(20_000) < Platt(0.5, -1.0)(logits)).astype(float)
    found = fit_platt(logits, target)
    assert found.scale == pytest.approx(0.5, abs=0.03)
    assert found.bias == pytest.approx(-1.0, abs=0.05)


def test_separable_scores_stay_finite() -> None:
    logits = np.array([-4.0, -3.0, 3.0, 4.0])
    found = fit_platt(logits, np.array([0.0, 0.0, 1.0, 1.0]))
    assert 0.1 < found.scale < 5
    assert ((found(logits) > 0.5) == [False, False, True, True]).all()


def test_one_kind_alone_is_not_calibrated() -> None:
    assert fit_platt(np.array([1.0, 2.0]), np.zeros(2)) == Platt()


def test_limits_hold_their_bounds() -> None:
    rng = np.random.default_rng(3)
    target = np.arange(1000) < 300
    scores = np.clip(np.where(target, rng.normal(0.8, 0.25, 1000), rng.normal(0.15, 0.2, 1000)), 0, 1)
    lo, hi = of_one(scores, target.astype(float))
    assert lo <= hi
    assert (scores[target] < lo).mean() <= 0.02 or lo == LO_AT_MOST
    assert (scores[~target] >= hi).mean() <= 0.01


def test_limits_keep_a_band_where_validation_is_perfect() -> None:
    lo, hi = of_one(np.array([0.01, 0.02, 0.98, 0.99]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert lo <= LO_AT_MOST < HI_AT_LEAST <= hi


def test_hopeless_scores_give_a_wide_band_and_never_lo_above_hi() -> None:
    scores = np.linspace(0, 1, 100)
    lo, hi = of_one(scores, (np.arange(100) % 2).astype(float))
    assert lo == LO_AT_MOST
    assert 0.95 < hi < 1


def test_one_faint_defect_does_not_make_every_good_picture_uncertain() -> None:
    good, bad = np.linspace(0, 0.3, 200), np.array([0.02, 0.02, 0.9, 0.95])
    scores, target = np.concatenate([good, bad]), np.repeat([0.0, 1.0], [200, 4])
    lo, _ = of_one(scores, target)
    assert ((good >= lo) & (good < 0.6)).mean() <= 0.35
    assert lo == LO_AT_MOST
    lo, _ = of_one(np.concatenate([good / 3, bad]), target)
    assert (good / 3 >= lo).mean() <= 0.1
    assert lo < LO_AT_MOST


@pytest.mark.parametrize("classes", [1, 2, 5, 12])
def test_all_classes_together_hold_what_one_would(classes: int) -> None:
    """Each class for itself made a tenth of the good pictures uncertain: of five classes together nearly half."""
    rng = np.random.default_rng(classes)
    target = np.zeros((1200, classes))
    target[np.arange(300), np.arange(300) % classes] = 1
    scores = np.clip(np.where(target > 0.5, rng.normal(0.7, 0.3, target.shape), rng.beta(1, 12, target.shape)), 0, 1)
    lo, hi = np.array(choose_limits(scores, target)).T
    good = scores[300:]
    assert (good >= hi).any(1).mean() <= 0.01
    assert (good >= lo).any(1).mean() <= 0.1 or (lo == LO_AT_MOST).all()
    if classes > 1:
        each = np.array([choose_limits(scores[:, [k]], target[:, [k]])[0][0] for k in range(classes)])
        assert (good >= each).any(1).mean() > 0.13, "else this shows nothing"
        assert (lo >= each).all()


def test_a_hopeless_class_leaves_the_others_their_part() -> None:
    rng = np.random.default_rng(2)
    target = np.zeros((1000, 2))
    target[:100, 0] = target[100:200, 1] = 1
    scores = np.stack([rng.random(1000), np.where(target[:, 1] > 0.5, rng.random(1000), 0.2 * rng.random(1000))], 1)
    (lo, _), (other_lo, _) = choose_limits(scores, target)
    assert lo == LO_AT_MOST, "four in five of the good pictures lie above"
    assert 0.04 < (scores[200:, 1] >= other_lo).mean() <= 0.05


def test_without_a_good_picture_those_of_other_classes_are_what_must_not_be_called() -> None:
    rng = np.random.default_rng(4)
    target = np.eye(3)[np.arange(600) % 3]
    scores = np.where(target > 0.5, rng.beta(8, 2, target.shape), rng.beta(2, 8, target.shape))
    limits = choose_limits(scores, target)
    wrong = np.stack([(scores[:, k] >= hi) & (target[:, k] < 0.5) for k, (_, hi) in enumerate(limits)], 1)
    assert wrong.any(1).mean() <= 0.01
    none_defective = choose_limits(scores[:, :1] * 0, np.zeros((600, 1)))
    assert none_defective == [(LO_AT_MOST, HI_AT_LEAST)]
    assert choose_limits(np.full((4, 1), 0.9), np.ones((4, 1))) == [(LO_AT_MOST, HI_AT_LEAST)], "no good one at all"


def of_crops(crops: int, good: int, bad: int, seed: int) -> tuple[Floats, list[Example], list[Sample]]:
    """Logits, examples and samples of pictures of so many crops each; of a defective one the first crop shows it. One
    sound crop in 125 looks like a defect."""
    rng = np.random.default_rng(seed)
    logits, examples, samples = [], [], []
    for n in range(good + bad):
        for k in range(crops):
            shown = n >= good and k == 0
            logits.append([rng.normal(2 if shown or rng.random() < 0.008 else -3, 1)])
            target, region = np.array([float(shown)], np.float32), np.zeros(1, np.float32)
            examples.append(Example(np.zeros((32, 32, 3), np.uint8), None, target, region, region))
            samples.append(
                Sample(
                    image=f"{n}-{k}.png", image_sha256="0" * 64, width_px=32, height_px=32, group=f"g{n}",
                    labels=("scratch",) if shown else (), source=f"part#{n:016x}@{32 * k},0,32,32",
                )
            )  # fmt: skip
    return np.array(logits), examples, samples


def calibrated(logits: Floats, examples: list[Example], samples: list[Sample]) -> ClassCalibration:
    heat = np.zeros((len(examples), 1, 16, 16), np.uint8)
    return calibrate(logits, heat, examples, (RULE,), InputSpec(width_px=32, height_px=32, px_per_mm=10), 2, samples)[0]


def test_of_twelve_crops_a_picture_a_hundredth_of_the_pictures_is_stopped() -> None:
    """The limit that a hundredth of the crops exceeds is exceeded in a tenth of the pictures."""
    logits, examples, samples = of_crops(12, good=300, bad=60, seed=0)

    def good_pictures(found: ClassCalibration) -> Floats:
        return found.platt(logits[:, 0]).reshape(-1, 12).max(1)[:300]

    found = calibrated(logits, examples, samples)
    scores = good_pictures(found)
    assert (found.defective, found.good) == (60, 300), "pictures are counted"
    assert (scores >= found.limits.hi).mean() <= 0.01
    assert found.false_calls == (scores >= found.limits.hi).sum()
    of_crops_alone = calibrated(logits, examples, [s.model_copy(update={"source": ""}) for s in samples])
    assert found.limits.lo == of_crops_alone.limits.lo, "in doubt, more go to a person"
    assert (good_pictures(of_crops_alone) >= of_crops_alone.limits.hi).mean() > 0.03, "else this shows nothing"


def test_crops_stand_for_pictures_where_none_is_good() -> None:
    found = calibrated(*of_crops(6, good=0, bad=50, seed=1))
    assert (found.defective, found.good) == (50, 250)
    assert found.limits.hi < 0.99


def test_heat_level_is_where_lengths_come_out_right() -> None:
    spec = InputSpec(width_px=160, height_px=128, px_per_mm=10)
    heat, true_mm = np.zeros((4, 64, 80), np.uint8), []
    for k, cells in enumerate((8, 12, 20, 30)):  # a cell is 0.2 mm
        heat[k, 20:22, 10 : 10 + cells] = 200
        heat[k, 20:22, 8:10] = heat[k, 20:22, 10 + cells : 12 + cells] = 90  # a halo that is no defect
        true_mm.append(cells * 0.2)
    level, error = choose_heat_level(heat, np.array(true_mm), RULE, spec, 2)
    assert 90 / 255 < level < 200 / 255
    assert error < 0.15
    assert choose_heat_level(heat[:0], np.zeros(0), RULE, spec, 2)[0] == 0.5
