"""Browsers on a hub: event streams that refetch as the pages' own script does, and a real Chromium on Alarms."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from inspection.errors import ConfigError

GATHER_S = 0.12
"""As in review/static/live.js: a burst of news is one refetch."""
LOOK = """
  const seen = (window.seenHalts = {});
  const look = () => {
    const shown = document.querySelectorAll('a[href^="/halts/"]');
    for (const a of shown) seen[a.getAttribute("href").slice(7)] ??= Date.now();
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, attributes: true });
  document.addEventListener("DOMContentLoaded", look);
"""


@dataclass
class Seen:
    """By halt id: when the news of it first reached a stream, for each stream (ms)."""

    news: list[dict[str, int]] = field(default_factory=list)
    refetch_ms: list[float] = field(default_factory=list)
    browser: dict[str, int] = field(default_factory=dict)
    ended_ms: int = 0
    """When nobody looked any more."""


class Streams:
    """`count` tabs: two of three on the Line page, the others on Alarms."""

    def __init__(self, url: str, count: int) -> None:
        self._url, self._count = url, count
        self.seen = Seen(news=[{} for _ in range(count)])
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._all(),), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    async def _all(self) -> None:
        tabs = [asyncio.create_task(self._tab(n)) for n in range(self._count)]
        await self._stop.wait()
        for tab in tabs:
            tab.cancel()
        await asyncio.gather(*tabs, return_exceptions=True)

    async def _tab(self, n: int) -> None:
        page, wanted = ("/alarms", {"halt"}) if n % 3 == 2 else ("/line/stations", {"line", "halt", "model"})
        changed = asyncio.Event()
        async with httpx.AsyncClient(base_url=self._url, headers={"HX-Request": "true"}, timeout=30) as client:
            fetching = asyncio.create_task(self._refetch(client, page, changed))
            told = f"/events?kinds={','.join(sorted(wanted))}"
            try:
                async with client.stream("GET", told, timeout=None) as answer:
                    kind = ""
                    async for line in answer.aiter_lines():
                        if line.startswith("event:"):
                            kind = line[6:].strip()
                        elif line.startswith("data:") and kind in wanted:
                            changed.set()
                            if kind == "halt":
                                key = str(json.loads(line[5:])["key"])
                                self.seen.news[n].setdefault(key, time.time_ns() // 1_000_000)
            finally:
                fetching.cancel()

    async def _refetch(self, client: httpx.AsyncClient, page: str, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            await asyncio.sleep(GATHER_S)
            changed.clear()
            began = time.perf_counter()
            await client.get(page)
            self.seen.refetch_ms.append((time.perf_counter() - began) * 1000)


@contextmanager
def chromium(url: str, seen: Seen) -> Iterator[None]:
    """A real browser on the Alarms page; `seen.browser` is filled when the block ends."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise ConfigError("chromium", "is not installed", "apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script(LOOK)
        page.goto(f"{url}/alarms")
        yield
        found: dict[str, Any] = page.evaluate("window.seenHalts")
        seen.ended_ms = time.time_ns() // 1_000_000
        seen.browser.update({key: int(at) for key, at in found.items()})
        browser.close()
