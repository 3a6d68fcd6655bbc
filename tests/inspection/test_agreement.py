"""Agreement coefficients against the papers they come from, and intervals against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inspection.agreement import Unit, agreement, cohen_kappa, each_pair

# J. Fleiss, Psychological Bulletin 76 (1971), table 1: 30 patients, 6 psychiatrists, 5 diagnoses.
FLEISS_1971 = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""

# K. Krippendorff, Computing alpha-reliability (2011), section C: 4 observers, 12 units, 0 where one is missing.
KRIPPENDORFF_2011 = ("123321412000", "123322412503", "033323422510", "123324412510")


def frames(*answers: str, per_part: int = 1) -> list[Unit]:
    """Each answer is one frame, a letter a person, '.' where that person did not label it."""
    return [
        Unit(f"part{n // per_part}", {f"p{i}": c for i, c in enumerate(said) if c != "."})
        for n, said in enumerate(answers)
    ]


def test_fleiss_1971() -> None:
    table = [[int(c) for c in row] for row in FLEISS_1971.split()]
    assert np.sum(table, axis=0).tolist() == [26, 26, 30, 55, 43]
    kappa = agreement(frames(*("".join(c * n for c, n in zip("abcde", row, strict=True)) for row in table))).kappa
    assert kappa is not None
    assert kappa.value == pytest.approx(0.430, abs=5e-4)


def test_krippendorff_2011_with_missing_labels() -> None:
    units = ("".join(column).replace("0", ".") for column in zip(*KRIPPENDORFF_2011, strict=True))
    assert agreement(frames(*units)).alpha.value == pytest.approx(0.743, abs=5e-4)


def test_cohen() -> None:
    assert cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert cohen_kappa([[10, 0], [0, 10]]) == 1
    assert cohen_kappa([[25, 25], [25, 25]]) == pytest.approx(0)
    assert math.isnan(cohen_kappa([[30, 0], [0, 0]])), "nobody ever says anything else: chance explains it all"


def test_the_coefficients_are_those_computed_by_hand() -> None:
    units = frames(*("gg",) * 15, *("bb",) * 5, *("gb",) * 3, *("bg",) * 2, "g.")
    found = agreement(units, draws=50)
    assert found.units == 25, "a frame one person labelled is no double label"
    assert found.kappa is not None
    assert found.kappa.value == pytest.approx(cohen_kappa([[15, 3], [2, 5]]))
    assert found.alpha.value == pytest.approx(8 / 15)
    assert found.observed.value == pytest.approx(0.8)
    assert found.prevalence == pytest.approx({"b": 0.3, "g": 0.7})
    assert found.specific["b"] == pytest.approx(2 * 5 / (2 * 5 + 5))
    three = agreement(frames(*("ggg",) * 8, *("bbg",) * 4, *("bbb",) * 2), draws=20)
    assert three.kappa is not None
    assert three.kappa.value == pytest.approx(4 / 7)
    assert agreement(frames("ggg", "gb.", "bbb"), draws=5).kappa is None, "not equally many: alpha only"


def test_rare_defects_make_kappa_collapse_and_the_prevalence_says_why() -> None:
    found = agreement(frames(*("gg",) * 96, "gb", "bg", "gb", "bg"), draws=50)
    assert found.observed.value == 0.96
    assert found.alpha.value < 0.05
    assert found.prevalence["b"] == 0.02


def test_frames_of_one_part_count_as_one_draw() -> None:
    """Ten frames of each part say the same again: the interval must not shrink for it."""
    rng = np.random.default_rng(0)
    per_part = [("gg", "bb", "gb", "bg")[i] for i in rng.choice(4, 60, p=[0.5, 0.3, 0.1, 0.1])]
    once = agreement(frames(*per_part), draws=400, seed=1)
    often = agreement(frames(*(p for p in per_part for _ in range(10)), per_part=10), draws=400, seed=1)
    assert often.parts == once.parts == 60
    width = once.alpha.high - once.alpha.low
    assert often.alpha.high - often.alpha.low == pytest.approx(width, rel=0.1)


def test_intervals_are_seeded_and_cover() -> None:
    units = frames(*("gg",) * 30, *("bb",) * 15, *("gb",) * 6)
    assert agreement(units, draws=100, seed=5) == agreement(units, draws=100, seed=5)
    rng, inside, truth = np.random.default_rng(2), 0, 1 - 0.2 / (2 * 0.6 * 0.4)
    kinds = ("gg", "bb", "gb", "bg")
    for _ in range(150):
        drawn = [kinds[i] for i in rng.choice(4, 120, p=[0.5, 0.3, 0.1, 0.1])]
        alpha = agreement(frames(*drawn), draws=200, seed=3).alpha
        inside += alpha.low <= truth <= alpha.high
    assert inside / 150 >= 0.90


def test_nothing_labelled_twice_is_said_so() -> None:
    found = agreement(frames("g.", "b."))
    assert (found.units, found.enough) == (0, False)
    assert math.isnan(found.alpha.value)
    assert agreement(frames(*("gg",) * 40)).enough
    assert math.isnan(agreement(frames(*("gg",) * 40)).alpha.value)


def test_each_pair_uses_the_frames_both_saw() -> None:
    pairs = each_pair(frames("ggb", "gg.", "bb.", "b.b"), draws=5)
    assert {pair: a.units for pair, a in pairs.items()} == {("p0", "p1"): 3, ("p0", "p2"): 2, ("p1", "p2"): 1}
