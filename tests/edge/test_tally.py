"""What passed is counted exactly: with a real guard, a real spool, and a clock in the test's hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.ports import Moment
from edge.spool import Spool
from edge.tally import AUDITED_AT_ONCE, PERIOD_MS, Tallies
from inspection.decision import LineGuard
from inspection.events import Event
from inspection.messages import Tally, Topics
from inspection.policy import ClassPolicy, Policy
from inspection.types import Stages
from tests.inspection.guard_script import BAD, BOOT, POLICY, UNSURE, halted, part, seen, started, tick

TOPICS = Topics("test", "line1", "st1")
START_MS = 100 * PERIOD_MS + 60_000


class Bench:
    """A guard whose actions a tally hears, as on the frame path."""

    def __init__(self, spool: Spool, guard: LineGuard) -> None:
        self.spool, self.guard, self.now_ms, self.ms, self.frame = spool, guard, START_MS, 40, 10
        self.already = guard.passed
        self.tallies = Tallies(spool.offer, TOPICS, BOOT, lambda: guard.passed - self.already, lambda: self.now_ms)

    def sees(self, *scores: float) -> None:
        for score in scores:
            self.frame, self.ms = self.frame + 1, self.ms + 10
            self.hears(seen(self.ms, self.frame, score))

    def judges(self, name: str, *scores: float) -> None:
        """One part of as many frames as there are scores."""
        self.ms += 1
        self.hears(part(self.ms, name, frames=len(scores), inspection=self.frame))
        self.sees(*scores)

    def hears(self, event: Event) -> None:
        moment = Moment(event, None, None, Stages(0, 0, 0, 0), "", "", "")
        self.tallies.offer(moment, self.guard.handle(event))

    def told(self) -> list[Tally]:
        self.spool.flush()
        self.spool.set_uploaded([p.uid for p in self.spool.to_upload(1000)])
        return [Tally.decode(p.payload) for p in self.spool.to_send(1000)]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path, 10**9)
    yield made
    made.close()


def drawing_all(mode: str = "stream") -> LineGuard:
    rule = ClassPolicy("scratch", 0.3, 0.7)
    return started(Policy((rule,), audit_part_share=1.0, mode=mode))  # type: ignore[arg-type]


def test_passes_are_counted_and_told_at_the_quarter_of_the_clock(spool: Spool) -> None:
    bench = Bench(spool, started())
    bench.sees(0.1, 0.1, UNSURE, 0.1)
    bench.now_ms = 101 * PERIOD_MS - 1
    bench.hears(tick(bench.ms))
    assert bench.told() == []
    bench.now_ms += 1
    bench.hears(tick(bench.ms))
    (first,) = bench.told()
    assert (first.frames_passed, first.from_ms, first.to_ms) == (3, START_MS, 101 * PERIOD_MS)
    bench.sees(0.1)
    bench.now_ms += PERIOD_MS
    bench.hears(tick(bench.ms))
    assert [t.frames_passed for t in bench.told()] == [3, 1]
    assert len({t.uid for t in bench.told()}) == 2


def test_a_quarter_in_which_nothing_passed_sends_nothing(spool: Spool) -> None:
    bench = Bench(spool, started())
    for _ in range(3):
        bench.now_ms += PERIOD_MS
        bench.hears(tick(bench.ms))
    bench.tallies.close()
    assert bench.told() == []


def test_closing_tells_what_was_counted_since(spool: Spool) -> None:
    bench = Bench(spool, started())
    bench.sees(0.1, 0.1)
    bench.tallies.close()
    bench.tallies.close()
    assert [t.frames_passed for t in bench.told()] == [2]


def test_frames_of_a_standing_line_are_no_passes_because_no_audit_is_drawn_from_them(spool: Spool) -> None:
    bench = Bench(spool, halted())
    bench.sees(0.1, 0.1, 0.1)
    bench.tallies.close()
    assert bench.told() == []


def test_parts_are_counted_by_verdict_and_named_when_wholly_drawn(spool: Spool) -> None:
    bench = Bench(spool, drawing_all())
    bench.judges("good", 0.1, 0.1)
    bench.judges("unsure", 0.1, UNSURE)
    bench.judges("good too", 0.1)
    bench.judges("bad", 0.1, BAD)
    bench.tallies.close()
    (told,) = bench.told()
    assert (told.parts_passed, told.parts_uncertain, told.parts_defect, told.parts_fault) == (2, 1, 1, 0)
    assert told.audited == ("good", "good too")


def test_a_part_that_was_not_drawn_is_no_audit(spool: Spool) -> None:
    bench = Bench(spool, started(POLICY))
    bench.judges("p1", 0.1, 0.1)
    bench.tallies.close()
    (told,) = bench.told()
    assert (told.parts_passed, told.audited) == (1, ())


def test_a_clock_set_back_makes_no_period_that_ends_before_it_began(spool: Spool) -> None:
    bench = Bench(spool, started())
    bench.sees(0.1)
    bench.now_ms -= 10 * PERIOD_MS
    bench.hears(tick(bench.ms))
    (told,) = bench.told()
    assert told.from_ms <= told.to_ms == bench.now_ms


def test_many_audited_parts_leave_before_a_message_is_full(spool: Spool) -> None:
    bench = Bench(spool, drawing_all())
    for n in range(AUDITED_AT_ONCE + 3):
        bench.judges(f"p{n}", 0.1)
    bench.tallies.close()
    told = bench.told()
    assert [len(t.audited) for t in told] == [AUDITED_AT_ONCE, 3]
    assert sum(t.parts_passed for t in told) == AUDITED_AT_ONCE + 3
