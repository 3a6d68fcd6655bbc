"""One event stream per tab. News says what changed; a tick every 2 s says that the hub is alive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import select

from review import faults, shelving
from review.alarms import Cause
from review.clock import wall_ms
from review.deps import HubDep
from review.hub import Hub
from review.store import HaltEventRow

router = APIRouter()

TICK_S = 2.0
GATHER_S = 0.05
"""News that comes within this time goes out together: a burst of records is one refetch."""


@router.get("/events", response_class=EventSourceResponse)
async def events(hub: HubDep, kinds: Annotated[str, Query(max_length=100)] = "") -> AsyncIterator[ServerSentEvent]:
    """`kinds`: what the tab shows, with commas; empty for everything. Two hundred stations' records and pictures, told
    to twenty tabs of which none shows them, were most of what a hub did."""
    number, next_tick = 0, 0.0
    wanted = frozenset(kinds.split(",")) if kinds else None
    async with hub.news.subscribe(wanted) as mailbox:
        while not hub.news.closed:
            # The tick goes out on time however much news there is; a halt's count of unseen ones goes with it.
            news = await mailbox.take(max(0.0, next_tick - time.monotonic()))
            for item in news:
                number += 1
                data = {"kind": item.kind, "key": item.key, **item.data}
                yield ServerSentEvent(event=item.kind, data=data, id=str(number))
            if time.monotonic() >= next_tick or any(item.kind == "halt" for item in news):
                number += 1
                yield ServerSentEvent(
                    event="tick", data=await hub.shared.get("tick", lambda: _tick(hub)), id=str(number), retry=1000
                )
                next_tick = time.monotonic() + TICK_S
            await asyncio.sleep(GATHER_S)


def _tick(hub: Hub) -> dict[str, Any]:
    """The hub's clock, its broker, and how many halts and station alarms call (the sound repeats until none does)."""
    now_ms = wall_ms()
    calls = shelving.calling(now_ms)
    with hub.store.reading() as session:
        unacked, of_stations = shelving.count_calling(session, now_ms), faults.count_calling(session, now_ms)
        again = select(HaltEventRow.id).join(HaltEventRow.of).where(calls, HaltEventRow.kind == Cause.REALARMED)
        urgent = unacked > 0 and session.scalar(again.limit(1)) is not None
        urgent = urgent or (of_stations > 0 and faults.called_again(session, now_ms))
    state = {"now_ms": now_ms, "broker": hub.hears(), "storing": not hub.failing()}
    return {**state, "unacked": unacked, "faults": of_stations, "urgent": urgent}
