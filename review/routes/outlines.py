"""The second page of Consistency: agreement week by week, and how alike people's outlines are. For engineers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from review import consistency, outlines
from review.deps import Engineer, HubDep, page
from review.language import _
from review.routes.consistency import choose

router = APIRouter()


@router.get("/consistency/outlines")
def show(request: Request, hub: HubDep, person: Engineer, book: str = "", version: str = "", cls: str = "") -> Response:
    with hub.store.reading() as session:
        choice = choose(session, book, version, cls)
        of_class = consistency.shown_frames(session, choice.book.id, choice.cls)
        view = outlines.view(session, hub.frames, choice.book, choice.cls, of_class)
    return page(
        request, "outlines.html", title=_("Outlines and weeks"), nav="consistency", person=person, choice=choice,
        view=view, most=outlines.MOST,
    )  # fmt: skip
