"""News to the open pages: one stream per tab, each with a mailbox that cannot grow.

News says *what changed*, never the new content: pages refetch. So a slow tab may skip intermediate news of one
thing, but never the last one, and after a reconnect it needs no replay: it refetches everything.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

CLOSE = "close"


@dataclass(frozen=True, slots=True)
class News:
    """`kind` and `key` name the thing that changed; only the newest of each pair is kept for a slow tab."""

    kind: str
    key: str
    data: dict[str, Any] = field(default_factory=dict)


class Mailbox:
    """What one tab has not been told yet. Used on the event loop only. `kinds`: what it wants to be told, None all."""

    def __init__(self, kinds: frozenset[str] | None = None) -> None:
        self._kinds = kinds
        self._waiting: dict[tuple[str, str], News] = {}
        self._filled = asyncio.Event()

    def put(self, news: News) -> None:
        if self._kinds is not None and news.kind not in self._kinds:
            return
        self._waiting[(news.kind, news.key)] = news
        self._filled.set()

    async def take(self, timeout_s: float) -> list[News]:
        """All news that waits, oldest first; empty when nothing came in time."""
        try:
            await asyncio.wait_for(self._filled.wait(), timeout_s)
        except TimeoutError:
            return []
        self._filled.clear()
        news, self._waiting = list(self._waiting.values()), {}
        return news


class Broadcaster:
    """`tell` may be called from any thread, also before the event loop runs or after it ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boxes: set[Mailbox] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Ends every stream, so that the server can stop with tabs open."""
        self.closed = True
        self.tell(News(CLOSE, ""))

    def tell(self, news: News) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(self._deliver, news)
        except RuntimeError:  # the loop closed between the check and the call
            return

    def _deliver(self, news: News) -> None:
        with self._lock:
            boxes = list(self._boxes)
        for box in boxes:
            box.put(news)

    @asynccontextmanager
    async def subscribe(self, kinds: frozenset[str] | None = None) -> AsyncIterator[Mailbox]:
        box = Mailbox(kinds | {CLOSE} if kinds is not None else None)
        with self._lock:
            self._boxes.add(box)
        try:
            yield box
        finally:
            with self._lock:
                self._boxes.discard(box)

    @property
    def open_streams(self) -> int:
        return len(self._boxes)
