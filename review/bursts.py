"""A burst of one cause is one item: "x10". Pure; the halts in it stay rows of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from review.alarms import ACTIVE, UNACKED
from review.shelving import CauseKey, cause_of

GAP_MS = 10 * 60_000
"""A later one of the same cause begins a new burst."""


class Listed(NamedTuple):
    """A halt as the alarm list needs it, without what only its own page shows. `at_ms` is Unix ms; `line` and
    `station` are names."""

    id: int
    station_id: int
    code: int
    cls: str
    state: str
    at_ms: int
    verdict: str | None
    length_mm: float
    line: str
    station: str


@dataclass(frozen=True, slots=True)
class Burst:
    """Halts of one cause, oldest first, none of which is more than `GAP_MS` after the one before."""

    halts: tuple[Listed, ...]

    @property
    def cause(self) -> CauseKey:
        return cause_of(self.halts[0])

    @property
    def unacked(self) -> tuple[Listed, ...]:
        return tuple(h for h in self.halts if h.state in UNACKED)

    @property
    def held(self) -> bool:
        """High priority: one of them still holds a line. Only the rest may be acknowledged many at a time."""
        return any(h.state in ACTIVE for h in self.halts)

    @property
    def face(self) -> Listed:
        """The one a tap opens: what holds the line, then what nobody has seen, then the oldest."""
        return min(self.halts, key=lambda h: (h.state not in ACTIVE, h.state not in UNACKED, h.at_ms, h.id))


def bursts(halts: Iterable[Listed]) -> list[Burst]:
    """By the time of their first halt."""
    groups: list[list[Listed]] = []
    newest: dict[CauseKey, list[Listed]] = {}
    for halt in sorted(halts, key=lambda h: (h.at_ms, h.id)):
        group = newest.get(cause_of(halt))
        if group is None or halt.at_ms - group[-1].at_ms > GAP_MS:
            group = newest[cause_of(halt)] = []
            groups.append(group)
        group.append(halt)
    return [Burst(tuple(g)) for g in groups]
