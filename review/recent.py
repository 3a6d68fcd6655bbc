"""What takes longer than a page may: counted anew when labels change, and until then shown as it was, with its time.

A page waits `WAIT_S` for the new numbers, so that a hub with few labels always shows them. One thread counts, one thing
at a time: pages of a running line come first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from review.clock import wall_ms

T = TypeVar("T")
WAIT_S = 0.15
MOST = 16
"""Of each class of each version there is one."""


@dataclass(frozen=True, slots=True)
class Counted(Generic[T]):
    """`version`: what the labels were like; `at_ms`: when it was counted; `current`: that nothing changed since."""

    value: T
    version: Hashable
    at_ms: int
    current: bool = True


class Recent:
    """`get` may be called from any thread. What is kept is shared: nobody may change it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Counted[Any]] = OrderedDict()
        self._making: dict[Hashable, Future[None]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recent")

    def get(self, key: Hashable, version: Hashable, make: Callable[[], T]) -> Counted[T]:
        """What `make` gives, of `version` or, while that is being made, of the one before. An error of `make` is raised
        only where nothing is known."""
        with self._lock:
            known: Counted[T] | None = self._kept.get(key)
            if known is not None and known.version == version:
                self._kept.move_to_end(key)
                return known
            job = self._making.get(key)
            if job is None or job.done():
                job = self._making[key] = self._thread.submit(self._make, key, version, make)
        wait([job], None if known is None else WAIT_S)
        with self._lock:
            found: Counted[T] | None = self._kept.get(key)
        if found is None:
            job.result()
            raise RuntimeError(f"{key} was counted and is not kept")
        return Counted(found.value, found.version, found.at_ms, found.version == version)

    def _make(self, key: Hashable, version: Hashable, make: Callable[[], T]) -> None:
        at_ms = wall_ms()
        made = make()
        with self._lock:
            self._kept[key] = Counted(made, version, at_ms)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
