"""The call on one frame, and which policies are refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from inspection.bundle import ClassLimits
from inspection.policy import ClassPolicy, Policy, judge, policy_of, shown
from inspection.types import Call, Finding

SCRATCH = ClassPolicy("scratch", lo=0.3, hi=0.7, limit_mm=1.5)
PORE = ClassPolicy("pore", lo=0.2, hi=0.6)
POLICY = Policy((SCRATCH, PORE))


def found(length_mm: float, cls: str = "scratch") -> Finding:
    return Finding(cls, 0.9, (0, 0, 9, 9), length_mm, 1.0)


@pytest.mark.parametrize(
    ("score", "call"),
    [
        (0.0, Call.PASS),
        (0.2999, Call.PASS),
        (0.3, Call.UNCERTAIN),
        (0.6999, Call.UNCERTAIN),
        (0.7, Call.DEFECT),
        (1.0, Call.DEFECT),
        (-0.1, Call.FAULT),
        (1.1, Call.FAULT),
        (math.nan, Call.FAULT),
        (math.inf, Call.FAULT),
        (-math.inf, Call.FAULT),
    ],
)
def test_a_score_becomes_a_call(score: float, call: Call) -> None:
    assert judge({"scratch": score, "pore": 0.0}, (), POLICY).call is call


def test_the_worst_class_makes_the_call_and_says_why() -> None:
    assert judge({"scratch": 0.5, "pore": 0.1}, (), POLICY).why == "scratch 0.50 is between 0.30 and 0.70"
    both = judge({"scratch": 0.5, "pore": 0.6}, (), POLICY)
    assert (both.call, both.why) == (Call.DEFECT, "pore 0.60 >= 0.60, place unknown")
    assert both.defects == {"pore": None}
    assert judge({"scratch": 1.0}, (), POLICY).call is Call.FAULT, "no score for pore"


def test_all_pieces_of_the_class_count_and_no_other() -> None:
    sure = {"scratch": 0.9, "pore": 0.0}
    assert judge(sure, (found(0.5), found(1.3), found(9.0, "pore")), POLICY).defects == {"scratch": found(1.3)}
    short = judge(sure, (found(0.3), found(0.8), found(9.0, "pore")), POLICY)
    assert (short.call, short.defects) == (Call.UNCERTAIN, {})
    assert short.why == "scratch 0.90 >= 0.70, but 1.1 mm is under the limit of 1.5 mm"
    assert judge(sure, (found(0.1), found(math.nan)), POLICY).call is Call.DEFECT


@given(
    scores=st.dictionaries(st.sampled_from(["scratch", "pore"]), st.floats()),
    lengths=st.lists(st.floats(), max_size=3),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_a_pass_needs_a_probability_below_the_limit_for_every_class(
    scores: dict[str, float], lengths: list[float]
) -> None:
    call = judge(scores, tuple(found(mm) for mm in lengths), POLICY).call
    clear = len(scores) == 2 and 0 <= scores["scratch"] < 0.3 and 0 <= scores["pore"] < 0.2
    assert (call is Call.PASS) == clear


@pytest.mark.parametrize(
    "wrong",
    [
        {"lo": 0.8},
        {"lo": -0.1},
        {"hi": 1.1},
        {"lo": math.nan},
        {"hi": math.nan},
        {"k": 0},
        {"k": 2, "n": 1},
        {"limit_mm": math.inf},
        {"limit_mm": math.nan},
        {"size_tolerance_mm": -math.inf},
    ],
    ids=str,
)
def test_a_class_with_impossible_limits_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="class scratch"):
        replace(SCRATCH, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": ()},
        {"classes": (SCRATCH, SCRATCH)},
        {"fresh_frames": 0},
        {"max_silence_ms": 0},
        {"lease_ms": 0},
        {"audit_share": -0.1},
        {"audit_share": 1.1},
        {"audit_share": math.nan},
    ],
    ids=str,
)
def test_a_policy_that_would_run_on_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"class|at least 1|share"):
        replace(POLICY, **wrong)


def test_the_limits_of_a_bundle_become_a_policy() -> None:
    class Released:
        limits = (ClassLimits(cls="pore", lo=0.2, hi=0.6, limit_mm=0.5),)

    assert policy_of(Released(), k=2, n=3) == (  # type: ignore[arg-type]
        ClassPolicy("pore", 0.2, 0.6, limit_mm=0.5, k=2, n=3),
    )


def test_a_policys_id_names_its_content() -> None:
    same = Policy((replace(SCRATCH), replace(PORE)))
    assert POLICY.id == same.id
    others = [replace(POLICY, audit_share=0.1), replace(POLICY, blind_runs=True), Policy((PORE, SCRATCH))]
    assert len({POLICY.id, *(other.id for other in others)}) == 4
    assert len(POLICY.id) == 12


@pytest.mark.parametrize(("score", "said"), [(0.995, 0.99), (0.99999, 0.99), (1.0, 1.0), (0.29, 0.29), (0.6199, 0.61)])
def test_a_score_is_never_said_to_be_surer_than_it_is(score: float, said: float) -> None:
    assert shown(score) == said


def test_a_score_below_its_limit_is_not_said_to_be_at_it() -> None:
    assert judge({"scratch": 0.6999}, (), Policy((SCRATCH,))).why == "scratch 0.69 is between 0.30 and 0.70"
