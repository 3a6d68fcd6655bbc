"""The Escapes page: of what passed, how much was bad, from random audits. For engineers: it tells what labels say."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from review import escapes
from review.clock import wall_ms
from review.deps import Engineer, HubDep, page
from review.language import _

router = APIRouter()


@router.get("/escapes")
def show(
    request: Request,
    hub: HubDep,
    person: Engineer,
    weeks: Annotated[int, Query(ge=1, le=26)] = escapes.WEEKS[1],
) -> Response:
    if weeks not in escapes.WEEKS:
        raise HTTPException(422, f"{weeks} weeks is no choice: one of {', '.join(map(str, escapes.WEEKS))}")
    now_ms = wall_ms()
    with hub.store.reading() as session:
        lines = escapes.rates(session, now_ms, weeks, hub.settings.labels_per_frame)
    return page(
        request, "escapes.html", title=_("Escapes"), nav="consistency", person=person, lines=lines, weeks=weeks,
        choices=escapes.WEEKS, sites=len({line.place.site for line in lines}),
    )  # fmt: skip
