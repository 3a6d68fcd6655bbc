"""The PLC's side of the permit, as a pure reference: `haltline plc-sim` runs it, deploy/plc mirrors it.

The line runs only while a fresh permit says so; anything else trips it, and a trip latches. Only a person's start,
while the permit is good, leaves the trip. A retained HALT is honoured at once; a retained RUN is never enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inspection.messages import Permit

U32 = 2**32


@dataclass(frozen=True, slots=True)
class WatchdogLimits:
    """`watchdog_ms`: longest time between two valid permits (0.5 to 5 s by site). `max_age_ms`: oldest judged frame.
    `max_echo_lag`: how many heartbeats old the echo may be, which bounds staleness without synchronised clocks."""

    watchdog_ms: int = 1000
    max_age_ms: int = 1000
    max_echo_lag: int = 4


class Line(StrEnum):
    RUNNING = "RUNNING"
    TRIPPED = "TRIPPED"


class Watchdog:
    """One line. Every method takes the time; each says whether the line's state changed.

    `hb` should start at a random or persisted count, so that a permit from before the PLC's restart echoes a
    count that is far off.
    """

    def __init__(self, limits: WatchdogLimits, hb: int) -> None:
        self.limits = limits
        self.hb = hb % U32
        self.line = Line.TRIPPED
        self.why = "not started"
        self.newest: Permit | None = None
        self._valid_ns: int | None = None

    def beat(self) -> int:
        """The next heartbeat count to publish, every 250 ms."""
        self.hb = (self.hb + 1) % U32
        return self.hb

    def permit(self, now_ns: int, permit: Permit, *, retained: bool) -> bool:
        """A permit arrived. True when it tripped the line."""
        # The gap before this permit counts first: a permit that comes too late must not bridge it.
        tripped = self.line is Line.RUNNING and self.tick(now_ns)
        return self._judge(now_ns, permit, retained=retained) or tripped

    def _judge(self, now_ns: int, permit: Permit, *, retained: bool) -> bool:
        if retained and permit.run:
            return False  # the broker's copy is of unknown age: it can never let the line run
        newer = self.newest is None or _newer(permit, self.newest)
        if newer:
            self.newest = permit
        if retained:
            self._valid_ns = None
            return self._trip(f"retained halt, code {permit.code}")
        if not newer:
            return False  # duplicate, reordered or replayed: as if it had not come; the watchdog runs on
        if not permit.run:
            self._valid_ns = None
            return self._trip(f"halt {permit.halt}, code {permit.code}")
        if permit.age_ms > self.limits.max_age_ms:
            self._valid_ns = None
            return self._trip(f"newest judged frame is {permit.age_ms} ms old")
        if (self.hb - permit.echo) % U32 > self.limits.max_echo_lag:
            # Not valid, but not a stop order either: the next ones may be; the watchdog decides.
            return False
        self._valid_ns = now_ns
        return False

    def unreadable(self, now_ns: int) -> bool:
        """A payload that does not decode counts as none."""
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> bool:
        """Time passed. True when the watchdog tripped the line."""
        if self.ready(now_ns):
            return False
        return self._trip(f"no valid permit for {self.limits.watchdog_ms} ms")

    def ready(self, now_ns: int) -> bool:
        """Whether a start would be honoured: the last valid permit is fresh."""
        return self._valid_ns is not None and now_ns - self._valid_ns <= self.limits.watchdog_ms * 1_000_000

    def start(self, now_ns: int) -> bool:
        """A person pressed start. True when the line now runs; pressed too early it does nothing, also later."""
        if not self.ready(now_ns):
            self.tick(now_ns)
            return False
        self.line, self.why = Line.RUNNING, "started"
        return True

    def _trip(self, why: str) -> bool:
        if self.line is Line.TRIPPED:
            # The first reason is the one to show; only "not started" gives way to a real one.
            if self.why == "not started":
                self.why = why
            return False
        self.line, self.why = Line.TRIPPED, why
        return True


def _newer(a: Permit, b: Permit) -> bool:
    """boot and seq compared as serial numbers (RFC 1982), so that a wrap of seq is not a step back."""
    if a.boot != b.boot:
        return 0 < (a.boot - b.boot) % U32 < U32 // 2
    return 0 < (a.seq - b.seq) % U32 < U32 // 2
