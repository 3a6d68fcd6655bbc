"""Faults 24 and 25 with few repetitions: what `make faults` does in full."""

from __future__ import annotations

import pytest

from benchmarks.fault_hub import Guess, before_refusal, beyond_the_waits, fault_24, fault_25
from benchmarks.figures import Figure


def missed(figures: list[Figure]) -> list[Figure]:
    return [f for f in figures if not f.ok]


def test_25_a_log_that_was_changed_is_found() -> None:
    assert missed(fault_25(10)) == []


def guesses(*looked_at: tuple[float, bool]) -> list[Guess]:
    """(sent, looked at), each answered half a second later."""
    return [Guess(sent_s, sent_s + 0.5, seen) for sent_s, seen in looked_at]


def test_24_guesses_after_a_wait_are_no_hole_and_guesses_within_one_are() -> None:
    locked = guesses((0, True), (1, True), (2, True), (3, True), (4, False), (5, False))
    assert (before_refusal(locked), beyond_the_waits(locked)) == (4, 0)
    # The wait of 5 s ends at 8 s, and the next one looked at brings on the wait of 10 s.
    slow = [*locked, *guesses((8.5, True), (9.0, False), (18.7, True), (19.0, False))]
    assert (before_refusal(slow), beyond_the_waits(slow)) == (4, 0)
    assert beyond_the_waits([*slow, *guesses((19.1, True))]) == 1
    assert before_refusal(guesses(*((0.1 * n, True) for n in range(30)))) == 30


@pytest.mark.slow
def test_24_nothing_hostile_breaks_the_hub_or_gets_in() -> None:
    figures = fault_24(400)
    # A busy machine answers late; whether it is refused, and at which cost, does not depend on that.
    assert [f for f in missed(figures) if f.unit != "ms"] == []
    assert figures[0].value > 300
