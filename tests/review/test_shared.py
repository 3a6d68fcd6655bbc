"""One making for all who ask together, and never an answer older than the question."""

from __future__ import annotations

import asyncio
import threading
import time

from review.shared import Shared


def test_who_asks_during_a_making_shares_the_next_one() -> None:
    begun: list[int] = []
    version = 0

    def make() -> int:
        seen = version
        begun.append(seen)
        time.sleep(0.05)
        return seen

    async def run() -> tuple[int, list[int]]:
        nonlocal version
        shared = Shared()
        first = asyncio.create_task(shared.get("line", make))
        while not begun:
            await asyncio.sleep(0.001)
        version = 1  # news, after which twenty tabs ask
        others = await asyncio.gather(*(shared.get("line", make) for _ in range(20)))
        return await first, list(others)

    first, others = asyncio.run(run())
    assert first == 0
    assert others == [1] * 20
    assert begun == [0, 1]


def test_different_questions_do_not_wait_for_each_other() -> None:
    both = threading.Barrier(2, timeout=5)

    async def run() -> None:
        shared = Shared()
        await asyncio.gather(shared.get("en", both.wait), shared.get("de", both.wait))

    asyncio.run(run())


def test_a_tab_that_leaves_takes_nothing_from_the_others_and_an_error_reaches_all() -> None:
    async def run() -> None:
        shared = Shared()
        leaves = asyncio.create_task(shared.get("k", lambda: time.sleep(0.05) or "made"))
        stays = asyncio.create_task(shared.get("k", lambda: "of another"))
        await asyncio.sleep(0.01)
        leaves.cancel()
        assert await stays == "made"

        def fails() -> str:
            raise OSError("disk")

        failed = await asyncio.gather(*(shared.get("k", fails) for _ in range(3)), return_exceptions=True)
        assert [str(e) for e in failed] == ["disk"] * 3
        assert await shared.get("k", lambda: "again") == "again"
        await asyncio.sleep(0.1)
        assert shared._making == {}
        assert shared._waiting == {}

    asyncio.run(run())


def test_the_same_thing_rests_as_long_as_it_took() -> None:
    """However much news there is, one list takes half of a core at most."""
    at: list[float] = []

    def make() -> None:
        at.append(time.monotonic())
        time.sleep(0.1)

    async def run() -> None:
        shared = Shared()
        for _ in range(3):
            await shared.get("k", make)

    asyncio.run(run())
    assert at[1] - at[0] >= 0.19
    assert at[2] - at[1] >= 0.19
