"""The attribute study against the manual's own figures (AIAG MSA, 4th edition, chapter III, section C)."""

from __future__ import annotations

import math

import pytest

from inspection.attribute_study import Limits, Trial, kappa_word, study

BAD_PARTS, GOOD_PARTS, TRIALS = 16, 34, 3
TRUTH = {f"b{i:02}": True for i in range(BAD_PARTS)} | {f"g{i:02}": False for i in range(GOOD_PARTS)}


def person(name: str, wrong: dict[str, int]) -> list[Trial]:
    """Right about everything but the last `wrong[part]` of the three trials of a part."""
    return [
        Trial(name, part, bad != (trial >= TRIALS - wrong.get(part, 0)))
        for part, bad in TRUTH.items()
        for trial in range(TRIALS)
    ]


MANUAL = (
    # A: 45 right and 3 missed of 48 on bad, 97 and 5 of 102 on good, eight parts not always right
    person("A", {"b00": 1, "b01": 1, "b02": 1, "g00": 1, "g01": 1, "g02": 1, "g03": 1, "g04": 1})
    + person("B", {"b00": 1, "b01": 1, "b02": 1, "g00": 1, "g01": 1})
    + person("C", {"b00": 2, "b01": 2, "b02": 1, "b03": 1, "g00": 2, "g01": 2, "g02": 2, "g03": 1, "g04": 1, "g05": 1})
)


def test_the_manuals_golden_case() -> None:
    a, b, c = study(MANUAL, TRUTH).people
    assert a.miss.value == pytest.approx(0.0625)
    assert a.false_alarm.value == pytest.approx(5 / 102)
    assert [(p.by_part.value * 50, p.by_part.n) for p in (a, b, c)] == [(42, 50), (45, 50), (40, 50)]
    assert a.by_decision.value == pytest.approx(142 / 150), "per decision it looks ten points better: both are printed"
    # The kappas against the reference that the manual prints for the same margins.
    assert [round(p.kappa, 2) for p in (a, b, c)] == [0.88, 0.92, 0.77]
    assert [p.within.value for p in (a, b, c)] == [0.84, 0.9, 0.8]
    assert (a.by_part.low, a.by_part.high) == pytest.approx((0.7089, 0.9283), abs=5e-5)


def test_acceptance_takes_the_worst_of_the_three() -> None:
    found = study(MANUAL, TRUTH)
    assert [p.grade for p in found.people] == ["not acceptable"] * 3, "6.25 % missed is beyond marginal, as in the book"
    assert found.grade == "not acceptable"
    good = study(person("D", {}) + person("E", {"g00": 1, "b00": 1}), TRUTH)
    assert [p.grade for p in good.people] == ["accept", "marginal"]
    assert good.grade == "marginal"
    assert study(person("E", {"b00": 1}), TRUTH, Limits(miss=(0.03, 0.1))).grade == "accept"


def test_the_manuals_limits_themselves_pass() -> None:
    limits = Limits()
    assert limits.grade(0.90, 0.02, 0.05) == "accept"
    assert limits.grade(0.80, 0.05, 0.10) == "marginal"
    for just_below in ((0.799, 0.0, 0.0), (1.0, 0.051, 0.0), (1.0, 0.0, 0.101)):
        assert limits.grade(*just_below) == "not acceptable"


def test_between_people_and_against_the_reference() -> None:
    found = study(MANUAL, TRUTH)
    disputed = {"b00", "b01", "b02", "b03", "g00", "g01", "g02", "g03", "g04", "g05"}
    assert found.between.value == pytest.approx((50 - len(disputed)) / 50)
    assert found.against.value == found.between.value
    assert (found.parts, found.bad_parts, found.trials) == (50, 16, 450)
    everybody_wrong = [Trial(p, "b00", False) for p in "AB"] + [Trial(p, "g00", False) for p in "AB"]
    alike = study(everybody_wrong, TRUTH)
    assert (alike.between.value, alike.against.value) == (1.0, 0.5)


def test_pairs_of_people_have_kappas() -> None:
    pairs = study(MANUAL, TRUTH).pairs
    assert set(pairs) == {("A", "B"), ("A", "C"), ("B", "C")}
    assert pairs["A", "B"] == pytest.approx(1 - (3 / 150) / (2 * (50 / 150) * (100 / 150)), abs=0.01)


def test_one_trial_says_nothing_about_oneself_and_no_bad_part_nothing_about_misses() -> None:
    found = study([Trial("A", "g00", False), Trial("A", "g01", True)], TRUTH)
    (a,) = found.people
    assert math.isnan(a.within.value)
    assert math.isnan(a.miss.value)
    assert (a.miss.low, a.miss.high) == (0, 1)
    assert a.grade == found.grade == "unknown"
    assert math.isnan(found.between.value), "one person alone agrees with nobody"


def test_trials_of_parts_without_a_reference_are_left_out() -> None:
    assert study([Trial("A", "unknown", True)], TRUTH).trials == 0
    assert study([], TRUTH).grade == "unknown"


def test_words() -> None:
    assert [kappa_word(k) for k in (0.75, 0.5, 0.39, math.nan)] == ["good", "fair", "poor", "undefined"]
