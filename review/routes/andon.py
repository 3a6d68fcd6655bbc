"""The andon board: every station in words that are read from across the hall. Nothing on it can be pressed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from review.deps import HubDep, page, same_for_all
from review.halt_view import CODE_WORDS
from review.hub import Hub
from review.live import Mode
from review.routes.line import Card, cards

router = APIRouter()

MOST_ROWS = 8
"""More of them are not read from 10 m; what needs somebody comes first then, and the last row counts the others."""
URGENCY = (Mode.HALTED, Mode.BLIND, Mode.STOPPED, Mode.RUNNING)


@dataclass(frozen=True, slots=True)
class Board:
    """`rest`: of the stations without a row of their own, how many are in which state, the worst first."""

    cards: list[Card]
    rest: list[tuple[Card, int]]

    @property
    def rows(self) -> int:
        return max(1, len(self.cards) + bool(self.rest))


def the_board(hub: Hub) -> Board:
    found = cards(hub)
    if len(found) <= MOST_ROWS:
        return Board(found, [])
    found.sort(key=lambda c: (URGENCY.index(c.shown.mode), c.halt.at_ms if c.halt else 0, c.now.key))
    own, others = found[: MOST_ROWS - 1], found[MOST_ROWS - 1 :]
    counts = Counter(c.shown.word for c in others)
    first = {c.shown.word: c for c in reversed(others)}
    return Board(own, [(first[word], n) for word, n in sorted(counts.items(), key=lambda w: others.index(first[w[0]]))])


@router.get("/andon")
def andon(request: Request, hub: HubDep) -> Response:
    return page(request, "andon.html", board=the_board(hub), code_words=CODE_WORDS)


@router.get("/andon/board")
async def board(request: Request, hub: HubDep) -> Response:
    return await same_for_all(
        request, lambda: page(request, "andon_board.html", person=None, board=the_board(hub), code_words=CODE_WORDS)
    )
