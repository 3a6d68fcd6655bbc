"""Once round the loop in the hub's own code, with people whose rules are known: `benchmarks.consistency_cycle`."""

from __future__ import annotations

import pytest

from benchmarks.consistency_cycle import BY_LINE, PARTS, Round, once


@pytest.fixture(scope="module")
def cycle() -> Round:
    return once(0, BY_LINE)


def test_the_rule_that_comes_out_is_the_one_between_the_three(cycle: Round) -> None:
    assert 1.35 <= cycle.limit_mm <= 1.65


def test_the_list_names_exactly_the_labels_between_old_and_new_limit_and_all_are_asked_for(cycle: Round) -> None:
    assert cycle.exact
    assert 0 < cycle.touched < 3 * PARTS
    assert cycle.left == 0


def test_people_agree_after_one_cycle(cycle: Round) -> None:
    assert cycle.before.kappa
    assert cycle.after.kappa
    assert cycle.before.kappa.high < 0.6
    assert cycle.after.kappa.low > 0.85
    for before, after in zip(cycle.study_before, cycle.study_after, strict=True):
        assert after.by_part.value >= before.by_part.value
        assert after.by_part.value >= 0.93
        assert after.miss.value <= 0.04
        assert after.false_alarm.value <= 0.04
