"""A tab is told what it shows, and always when the hub ends."""

from __future__ import annotations

import asyncio

from review.broadcast import Broadcaster, News


def test_a_tab_hears_the_kinds_it_asked_for() -> None:
    async def listen(kinds: frozenset[str] | None) -> list[str]:
        news = Broadcaster()
        news.start()
        async with news.subscribe(kinds) as mailbox:
            for kind in ("record", "halt", "picture"):
                news.tell(News(kind, "7"))
            news.close()
            await asyncio.sleep(0)
            return [n.kind for n in await mailbox.take(1)]

    assert asyncio.run(listen(frozenset({"halt"}))) == ["halt", "close"]
    assert asyncio.run(listen(None)) == ["record", "halt", "picture", "close"]
