"""The second page of Consistency: agreement week by week, and how alike people's outlines are. For engineers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from review import consistency, outlines, remembered
from review.deps import Engineer, HubDep, page
from review.language import _
from review.routes.consistency import choose

router = APIRouter()


@router.get("/consistency/outlines")
def show(request: Request, hub: HubDep, person: Engineer, book: str = "", version: str = "", cls: str = "") -> Response:
    with hub.store.reading() as session:
        choice, now = choose(session, book, version, cls), remembered.version(session)

    def make() -> outlines.View:
        with hub.store.reading() as session:
            of_class = consistency.shown_frames(session, choice.book.id, choice.cls)
            return outlines.view(session, hub.frames, choice.book, choice.cls, of_class)

    counted = hub.recent.get(("outlines", choice.book.id, choice.cls), now, make)
    return page(
        request, "outlines.html", title=_("Outlines and weeks"), nav="consistency", person=person, choice=choice,
        view=counted.value, counted=counted, most=outlines.MOST,
    )  # fmt: skip
