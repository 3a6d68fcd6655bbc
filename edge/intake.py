"""What waits for the spool's thread: offers, bounded in number and bytes, and jobs, which are few.

A halt's evidence is never turned away for a lesser one: when there is no place, the least of what waits makes room.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Offer(Generic[T]):
    """`make` runs on the spool's thread; `cost_bytes` is what it keeps in memory until then."""

    make: Callable[[], T]
    rank: int
    cost_bytes: int


class Intake(Generic[T]):
    """Thread-safe. `offer` holds a lock for microseconds and never waits for the disk.

    `more_bytes`: by rank, how much more than `max_bytes` may wait when such an offer comes."""

    def __init__(self, max_offers: int, max_bytes: int, more_bytes: Mapping[int, float] | None = None) -> None:
        self._max_offers, self._max_bytes, self._more = max_offers, max_bytes, more_bytes or {}
        self._waiting: dict[int, deque[Offer[T]]] = {}
        self._count = self._bytes = 0
        self._jobs: deque[Callable[[], None]] = deque()
        self._ready = threading.Condition()

    def offer(self, offer: Offer[T]) -> list[Offer[T]]:
        """Take it; returns what had to go, which may be the offer itself."""
        with self._ready:
            gone = self._in_the_way(offer)
            if gone is None:
                return [offer]
            for one in gone:
                self._waiting[one.rank].remove(one)
                self._count -= 1
                self._bytes -= one.cost_bytes
            self._waiting.setdefault(offer.rank, deque()).append(offer)
            self._count += 1
            self._bytes += offer.cost_bytes
            self._ready.notify()
        return gone

    def ask(self, job: Callable[[], None]) -> None:
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()

    def take(self, max_offers: int, timeout_s: float) -> tuple[list[Callable[[], None]], list[Offer[T]]]:
        """All jobs and the next offers, halts first, oldest first; waits at most so long for either.

        Both in one answer, so that neither a flood of frames nor one of acknowledgements can starve the other."""
        with self._ready:
            if not self._jobs and not self._count:
                self._ready.wait(timeout_s)
            jobs = list(self._jobs)
            self._jobs.clear()
            offers: list[Offer[T]] = []
            while self._count and len(offers) < max_offers:
                offers.append(self._pop(min(rank for rank, queue in self._waiting.items() if queue)))
            return jobs, offers

    def _in_the_way(self, offer: Offer[T]) -> list[Offer[T]] | None:
        """What must go for this offer: the least first, oldest first. None when no lesser one could make room."""
        count, size = self._count, self._bytes
        most = self._max_bytes + self._more.get(offer.rank, 0)
        lesser = (
            one for rank in sorted(self._waiting, reverse=True) if rank > offer.rank for one in self._waiting[rank]
        )
        gone: list[Offer[T]] = []
        # A frame larger than the bound is still taken when no other waits: refusing it for ever helps nobody.
        while count >= self._max_offers or (size > 0 and size + offer.cost_bytes > most):
            victim = next(lesser, None)
            if victim is None:
                return None
            gone.append(victim)
            count, size = count - 1, size - victim.cost_bytes
        return gone

    def _pop(self, rank: int) -> Offer[T]:
        offer = self._waiting[rank].popleft()
        self._count -= 1
        self._bytes -= offer.cost_bytes
        return offer
