"""Which frames are sent and why: budgets hold over any span, and the audit depends on a frame's name alone."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from inspection.events import Judged, Keep
from inspection.policy import ClassPolicy, Policy, judge
from inspection.selection import AUDIT, DISAGREEMENT, HOUR_NS, MARGIN, SHARES, Budget, Draw, Selector, TokenBucket
from inspection.types import Call
from tests.inspection.guard_script import (
    BAD,
    GOOD,
    MS,
    POLICY,
    RUN,
    SCRATCH,
    UNSURE,
    keep,
    part,
    play,
    resume,
    said,
    seen,
    started,
)

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def reasons(policy: Policy, scores: list[float], every_ms: int = 33) -> list[tuple[str, ...]]:
    selector = Selector(7)
    return [
        selector.reasons(policy, "cam", k, judge({"scratch": s}, (), policy), "", k * every_ms * MS)
        for k, s in enumerate(scores)
    ]


# ── budgets ─────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    per_h=st.floats(0, 5000),
    gaps_s=st.lists(st.floats(-10, 600), min_size=1, max_size=300),
    burst=st.floats(1, 50),
)
@PROPERTY
def test_no_span_of_time_gives_more_than_the_budget(per_h: float, gaps_s: list[float], burst: float) -> None:
    bucket, now_ns, taken = TokenBucket(per_h, burst), 0, []
    for gap in gaps_s:
        now_ns += round(gap * 1e9)
        if bucket.take(now_ns):
            taken.append(now_ns)
    assert not taken or per_h > 0
    newest = max((0, *taken))
    for first in range(len(taken)):
        span_h = (max(taken[first:]) - min(taken[first:])) / HOUR_NS
        # a clock that steps back earns nothing, so the span may only be counted from its highest point
        assert len(taken) - first <= burst + per_h * max(span_h, (newest - taken[first]) / HOUR_NS) + 1e-6


def test_a_budget_left_alone_fills_up_to_its_burst_and_no_further() -> None:
    bucket = TokenBucket(360, 10)
    assert sum(bucket.take(0) for _ in range(100)) == 10
    assert sum(bucket.take(100 * HOUR_NS) for _ in range(100)) == 10
    assert [bucket.take(100 * HOUR_NS + k * 5 * 10**9) for k in range(1, 5)] == [False, True, False, True]


@given(
    kinds=st.lists(
        st.sampled_from(["uncertain", "defect", "unstable", "disagreement", "halt", "fault", "context", "audit"]),
        max_size=400,
    ),
    per_h=st.floats(1, 600),
)
@PROPERTY
def test_each_reason_has_its_share_and_halts_are_never_refused(kinds: list[str], per_h: float) -> None:
    budget, sent = Budget(per_h), Counter[str]()
    for k, why in enumerate(kinds):
        if budget.allows((why,), k * 10**9):
            sent[why] += 1
    hours = len(kinds) / 3600
    for group, members in {MARGIN: ("uncertain", "defect", "unstable"), DISAGREEMENT: ("disagreement",)}.items():
        rate = per_h * SHARES[group]
        assert sum(sent[one] for one in members) <= max(1, rate / 4) + rate * hours + 1e-6
        refused = sum(kinds.count(one) - sent[one] for one in members)
        assert budget.refused[group] == refused
    for always in ("halt", "fault", "context", "audit"):
        assert sent[always] == kinds.count(always)


def test_a_day_of_low_margins_does_not_starve_disagreement() -> None:
    budget = Budget(100)
    assert sum(budget.allows(("uncertain",), k * 10**9) for k in range(3600)) in range(60, 80)
    assert budget.allows(("disagreement",), 3600 * 10**9)


def test_the_shares_are_sixty_twenty_twenty() -> None:
    assert SHARES == {MARGIN: 0.6, DISAGREEMENT: 0.2, AUDIT: 0.2}


# ── the audit ───────────────────────────────────────────────────────────────────────────────────────────────────

AUDITED = replace(POLICY, audit_share=0.3, audits_per_h=1000.0)


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=200),
    others=st.lists(st.floats(0, 1), min_size=200, max_size=200),
    per_h=st.sampled_from([None, 10.0, 1000.0, 100_000.0]),
)
@PROPERTY
def test_whether_a_passed_frame_is_audited_depends_on_no_score(
    scores: list[float], others: list[float], per_h: float | None
) -> None:
    """Two days with the same frame numbers and other pictures: what passes on both is audited on both or neither."""
    policy = replace(AUDITED, audits_per_h=per_h, unstable_flips=2)
    one, other = reasons(policy, scores), reasons(policy, others[: len(scores)])
    for a, b, why, why_other in zip(scores, others, one, other, strict=False):
        if max(a, b) < 0.3:
            assert ("audit" in why) == ("audit" in why_other)
        assert ("audit" in why) <= (a < 0.3)


def test_frames_that_turn_out_unsure_spend_the_audits_budget_too() -> None:
    """Else a bad day would leave more of the budget to its passes than a good one, in bursts."""
    policy = replace(POLICY, audit_share=0.3, audits_per_h=40.0)
    good = reasons(policy, [0.1] * 2000)
    mixed = reasons(policy, [0.1 if k % 2 else 0.5 for k in range(2000)])
    assert sum("audit" in why for why in good) >= 10
    assert [why for why in good[1::2] if "audit" in why] == [why for why in mixed[1::2] if "audit" in why]
    assert all(("audit" in a) == ("audit" in b) for a, b in zip(good[1::2], mixed[1::2], strict=True))


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_the_audit_takes_every_part_of_the_scores_alike(share: float) -> None:
    """Sure passes and near misses among the passes are drawn at one rate, whatever else is kept around them."""
    scores = [0.01 if k % 3 else 0.29 if k % 2 else 0.5 for k in range(60_000)]
    why = reasons(replace(POLICY, audit_share=share, uncertain_every_ms=0, unstable_flips=2), scores)
    drawn = Counter(s for s, w in zip(scores, why, strict=True) if "audit" in w)
    for score in (0.01, 0.29):
        n = scores.count(score)
        assert abs(drawn[score] / n - share) <= 4 * (share * (1 - share) / n) ** 0.5
    assert drawn[0.5] == 0


def test_two_cameras_with_the_same_frame_numbers_are_audited_apart() -> None:
    draw, policy = Draw(7), replace(POLICY, audit_share=0.5)
    left, right = ([draw.drawn(policy, camera, k, "", k) for k in range(500)] for camera in ("left", "right"))
    assert left != right
    assert 150 < sum(a == b for a, b in zip(left, right, strict=True)) < 350


@given(per_h=st.floats(1, 2000), fps=st.sampled_from([1, 30]), share=st.floats(0, 1))
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_the_audits_budget_holds(per_h: float, fps: int, share: float) -> None:
    draw, policy = Draw(7), replace(POLICY, audit_share=share, audits_per_h=per_h)
    drawn = sum(draw.drawn(policy, "cam", k, "", k * 10**9 // fps) for k in range(2000))
    assert drawn <= max(1, per_h / 4) + per_h * 2000 / fps / 3600


def test_all_passed_frames_of_a_drawn_part_are_kept() -> None:
    guard = started(replace(POLICY, mode="part", audit_part_share=0.3))
    kept: dict[str, int] = {}
    for number in range(300):
        guard.handle(part(100 * number + 100, f"p{number}", frames=3, inspection=number))
        kept[f"p{number}"] = sum(
            isinstance(a, Keep) and a.part == f"p{number}" and a.why == ("audit",)
            for k in range(3)
            for a in guard.handle(seen(100 * number + 101 + k, 10 + 3 * number + k))
        )
    assert set(kept.values()) == {0, 3}
    assert 60 < sum(n > 0 for n in kept.values()) < 120


# ── unsure, and unstable ────────────────────────────────────────────────────────────────────────────────────────


def test_a_score_that_flips_between_neighbours_is_unstable() -> None:
    policy = replace(POLICY, unstable_flips=3)
    assert reasons(policy, [0.1, 0.6, 0.1, 0.6, 0.6, 0.6])[3] == ()  # rate: one was kept 66 ms before
    slow = reasons(policy, [0.1, 0.6, 0.1, 0.6, 0.1, 0.1], every_ms=1000)
    assert slow == [(), ("uncertain",), (), ("uncertain", "unstable"), ("unstable",), ()]
    assert reasons(POLICY, [0.1, 0.6, 0.1, 0.6, 0.1, 0.1], every_ms=1000)[4] == (), "off by default"


def test_old_flips_are_forgotten() -> None:
    policy = replace(POLICY, unstable_flips=3)
    assert reasons(policy, [0.1, 0.6, 0.1] + [0.1] * 8 + [0.6, 0.1], every_ms=1000)[-1] == ()


def test_a_spell_around_the_limit_gives_one_frame() -> None:
    hovering = [0.1, 0.32, 0.28, 0.31, 0.29, 0.33, 0.1, 0.31, 0.1]
    with_release = replace(POLICY, classes=(replace(SCRATCH, release=0.2),), uncertain_every_ms=0)
    assert [bool(w) for w in reasons(with_release, hovering)] == [0, 1, 0, 0, 0, 0, 0, 1, 0]
    without = replace(POLICY, uncertain_every_ms=0)
    assert [bool(w) for w in reasons(without, hovering)] == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_another_class_is_another_event() -> None:
    pore = ClassPolicy("pore", 0.3, 0.7)
    policy = Policy((replace(SCRATCH, release=0.2), pore), uncertain_every_ms=0)
    selector = Selector(7)
    why = [
        selector.reasons(policy, "cam", k, judge({"scratch": a, "pore": b}, (), policy), "", k)
        for k, (a, b) in enumerate([(0.5, 0.1), (0.5, 0.5), (0.5, 0.1)])
    ]
    assert why == [("uncertain",), ("uncertain",), ()]


def test_each_camera_has_its_own_spells_and_pauses() -> None:
    selector, policy = Selector(7), POLICY
    call = judge({"scratch": UNSURE}, (), policy)
    assert [selector.reasons(policy, camera, 1, call, "", 5) for camera in ("a", "b", "a")] == [
        ("uncertain",),
        ("uncertain",),
        (),
    ]


# ── unlike anything the model was trained on ────────────────────────────────────────────────────────────────────

NOVEL = replace(POLICY, novel_from=1.5, novel_every_ms=1000)


def novel(policy: Policy, seen: list[float | None], score: float = GOOD, every_ms: int = 400) -> list[tuple[str, ...]]:
    selector = Selector(7)
    call = judge({"scratch": score}, (), policy)
    return [selector.reasons(policy, "cam", k, call, "", k * every_ms * MS, n) for k, n in enumerate(seen)]


def test_a_frame_above_the_threshold_is_novel_once_in_a_while() -> None:
    assert novel(NOVEL, [1.0, 1.5, 1.6, 9.0, 1.6, 9.0, None]) == [(), (), ("novel",), (), (), ("novel",), ()]
    assert novel(NOVEL, [math.nan, 1.0]) == [("novel",), ()], "what cannot be compared is not known"
    assert novel(POLICY, [9.0]) == [()], "a bundle without a threshold says nothing"


def test_novelty_and_doubt_have_pauses_of_their_own() -> None:
    why = novel(replace(NOVEL, uncertain_every_ms=800), [1.0, 9.0, 9.0, 9.0, 9.0], UNSURE)
    assert why == [("uncertain",), ("novel",), ("uncertain",), (), ("uncertain", "novel")]


def test_novelty_draws_on_the_share_for_disagreement_and_bends_no_audit() -> None:
    budget = Budget(100)
    sent = sum(budget.allows(("novel",), k * 10**9) for k in range(3600))
    assert sent in range(20, 27)
    assert budget.refused[DISAGREEMENT] == 3600 - sent
    drawn = novel(replace(NOVEL, audit_share=0.3), [9.0, 1.0] * 500)
    plain = novel(replace(NOVEL, audit_share=0.3), [1.0] * 1000)
    assert [w[-1:] == ("audit",) for w in drawn] == [w == ("audit",) for w in plain]


def test_a_novel_frame_is_kept_and_moves_nothing_else() -> None:
    def seen_as(novelty: float) -> Judged:
        return replace(seen(40, 4), novelty=novelty)

    plain, strange = (started(NOVEL).handle(seen_as(n)) for n in (1.0, 99.0))
    assert [a for a in strange if not isinstance(a, Keep)] == plain
    assert [a.why for a in strange if isinstance(a, Keep)] == [("novel",)]


def test_while_the_line_stands_no_turn_of_the_novel_is_used_up() -> None:
    guard = started(NOVEL)
    guard.handle(seen(40, 4, BAD))
    assert not [a for a in guard.handle(replace(seen(50, 5), novelty=9.0)) if isinstance(a, Keep)]
    guard.handle(resume(60))
    kept = [a for a in guard.handle(replace(seen(70, 6), novelty=9.0)) if isinstance(a, Keep)]
    assert [a.why for a in kept] == [("novel",)]


def test_the_guard_says_every_reason() -> None:
    play(
        started(replace(POLICY, unstable_flips=2, uncertain_every_ms=0, audit_share=1.0)),
        (seen(40, 4, UNSURE), RUN, keep(4, "uncertain")),
        (seen(50, 5, GOOD), RUN, keep(5, "unstable", "audit")),
        (seen(60, 6, UNSURE), RUN, keep(6, "uncertain", "unstable")),
    )


@given(
    frames=st.lists(st.tuples(st.sampled_from([GOOD, UNSURE, 0.29, BAD]), st.integers(1, 2000)), max_size=120),
    share=st.floats(0, 1),
)
@PROPERTY
def test_a_kept_frame_always_says_why_and_never_calls_itself_better_than_it_is(
    frames: list[tuple[float, int]], share: float
) -> None:
    guard = started(replace(POLICY, audit_share=share, unstable_flips=3))
    ms, last_kept = 30, -10_000
    for k, (score, gap) in enumerate(frames):
        ms += gap
        event = Judged("cam", 4 + k, ms * MS, ms * MS, {"scratch": score})
        for action in guard.handle(event):
            if not isinstance(action, Keep) or action.call is Call.FAULT:
                continue
            assert action.why
            assert said(action)[1] == event.frame_id
            assert ("audit" in action.why) <= (action.call is Call.PASS)
            if set(action.why) & {"uncertain", "unstable"}:
                assert ms - last_kept >= POLICY.uncertain_every_ms
                last_kept = ms
