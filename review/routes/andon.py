"""The andon board: every station in words that are read from across the hall. Nothing on it can be pressed."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from review.deps import HubDep, page, same_for_all
from review.halt_view import CODE_WORDS
from review.routes.line import cards

router = APIRouter()


@router.get("/andon")
def andon(request: Request, hub: HubDep) -> Response:
    return page(request, "andon.html", cards=cards(hub), code_words=CODE_WORDS)


@router.get("/andon/board")
async def board(request: Request, hub: HubDep) -> Response:
    return await same_for_all(
        request, lambda: page(request, "andon_board.html", person=None, cards=cards(hub), code_words=CODE_WORDS)
    )
