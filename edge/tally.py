"""What passed, counted for the hub: without it, an audit of passed parts finds defects but no rate.

Counts leave four times an hour at most, at the quarters of the clock, so that hours, shifts and weeks of any time zone
are whole sums of them. They go through the spool like a record. What was counted since the last quarter dies with a
killed process: the hub then knows of fewer passes than there were, never of more.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from edge.ports import Moment
from edge.spool import RANK_CONTEXT, Item
from inspection.events import Action, GiveVerdict, Keep
from inspection.messages import Tally, Topics, tally_uid
from inspection.selection import AUDIT
from inspection.types import Call

PERIOD_MS = 15 * 60_000
AUDITED_AT_ONCE = 400
"""A tally leaves early with so many audited parts; a message holds 500."""


class Tallies:
    """Implements `ports.Recorder`. `passed`: the guard's count of frames that an audit could have drawn."""

    def __init__(
        self,
        offer: Callable[[Callable[[], Item | None], int], object],
        topics: Topics,
        boot: int,
        passed: Callable[[], int],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._offer, self._topics, self._boot = offer, topics, boot
        self._passed, self._now_ms = passed, now_ms
        self._lock = threading.Lock()
        self._number = self._told = 0
        self._from_ms = now_ms()
        self._parts: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._audited: list[str] = []

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        with self._lock:
            now_ms = self._now_ms()
            if now_ms // PERIOD_MS != self._from_ms // PERIOD_MS or len(self._audited) >= AUDITED_AT_ONCE:
                self._send(now_ms)
            for action in actions:
                match action:
                    case Keep() if action.part and AUDIT in action.why:
                        self._kept[action.part] += 1
                    case GiveVerdict():
                        self._close_part(action)
                    case _:
                        pass

    def close(self) -> None:
        """Tell what has been counted since the last time."""
        with self._lock:
            self._send(self._now_ms())

    def _close_part(self, verdict: GiveVerdict) -> None:
        self._parts[verdict.verdict.value] += 1
        # A part of which some frames were drawn says something about frames and nothing about the part.
        if verdict.verdict is Call.PASS and self._kept[verdict.part] == verdict.frames > 0:
            self._audited.append(verdict.part)
        self._kept.clear()

    def _send(self, now_ms: int) -> None:
        passed, since_ms = self._passed() - self._told, self._from_ms
        parts, audited = self._parts, tuple(self._audited)
        self._told, self._from_ms = self._told + passed, now_ms
        self._parts, self._audited = Counter(), []
        if not passed and not parts:
            return
        self._number += 1
        tally = Tally(
            uid=tally_uid(self._topics.base, self._boot, self._number),
            # A clock that was set back must not make a period that ends before it began.
            from_ms=min(since_ms, now_ms),
            to_ms=now_ms,
            frames_passed=passed,
            parts_passed=parts["pass"],
            parts_uncertain=parts["uncertain"],
            parts_defect=parts["defect"],
            parts_fault=parts["fault"],
            audited=audited,
        )
        item = Item(tally.uid, self._topics.of(Tally), tally.encode(), RANK_CONTEXT)
        self._offer(lambda: item, RANK_CONTEXT)
