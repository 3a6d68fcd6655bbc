"""One making for everybody who asks for the same: after a piece of news twenty tabs fetch one list at once.

Nobody gets anything older than their own question: whoever asks while it is being made waits for the next one. So a
person who acted sees their act, and nothing has to be thrown away when something changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")
MOST_REST_S = 0.25
"""After a making the same thing rests as long as it took, at most this: half of a core is left for what arrives."""


class Shared:
    """Used on the event loop only; what is made is made on a thread, in the first asker's context (language)."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, asyncio.Future[Any]] = {}
        """By key: the answer whose making has not begun, so that newcomers may still join it."""
        self._making: dict[Hashable, asyncio.Task[None]] = {}
        """By key: the newest task, while it waits, makes or rests."""

    async def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, begun after this call; of all who wait under one key, the first one's `make` is used."""
        answer = self._waiting.get(key)
        if answer is None:
            answer = self._waiting[key] = asyncio.get_running_loop().create_future()
            before = self._making.get(key)
            self._making[key] = asyncio.create_task(self._make(key, before, answer, make))
        # Shielded: a tab that goes away must not take the answer from the others.
        found: T = await asyncio.shield(answer)
        return found

    async def _make(
        self, key: Hashable, before: asyncio.Task[None] | None, answer: asyncio.Future[T], make: Callable[[], T]
    ) -> None:
        try:
            if before is not None and not before.done():  # done long ago, it may belong to a loop that has ended
                await asyncio.wait([before])
            # From here on a newcomer may have missed what `make` reads.
            del self._waiting[key]
            began = time.monotonic()
            try:
                answer.set_result(await run_in_threadpool(make))
            except Exception as e:
                answer.set_exception(e)
            await asyncio.sleep(min(time.monotonic() - began, MOST_REST_S))
        finally:  # a hub that ends cancels this: whoever waits must hear of it
            answer.cancel()
            if self._waiting.get(key) is answer:
                del self._waiting[key]
            if self._making.get(key) is asyncio.current_task():
                del self._making[key]
