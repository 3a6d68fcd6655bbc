"""The alarm list: open ones first, then the past, a page at a time by key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from review.alarms import UNACKED, State, Verdict
from review.deps import HubDep, page
from review.halt_view import ICONS, STATE_WORDS, VERDICT_WORDS
from review.store import Halt, Station

router = APIRouter()

PAGE = 25
MAX_OPEN = 200


@router.get("/alarms")
def alarms(
    request: Request,
    hub: HubDep,
    station: str = "",
    verdict: Verdict | None = None,
    before: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """`station` is a station's key; `before` the id of the last halt of the page before."""
    with hub.store.reading() as session:
        stations = sorted(session.scalars(select(Station)), key=lambda s: s.key)
        chosen = [s.id for s in stations if not station or s.key == station]
        which: list[ColumnElement[bool]] = [Halt.station_id.in_(chosen)]
        if verdict:
            which.append(Halt.verdict == verdict)
        still_open = [] if before else _open(session, which)
        closed = _closed(session, which, before)
    return page(
        request,
        "alarms_list.html" if request.headers.get("hx-request") else "alarms.html",
        nav="alarms",
        title="Alarms",
        open=still_open,
        closed=closed[:PAGE],
        more=closed[PAGE - 1].id if len(closed) > PAGE else None,
        stations=stations,
        station=station,
        verdict=verdict or "",
        verdicts=VERDICT_WORDS,
        state_words=STATE_WORDS,
        icons=ICONS,
        unacked=UNACKED,
    )


def _open(session: Session, which: list[ColumnElement[bool]]) -> list[Halt]:
    """Unacknowledged before the rest, oldest first: whoever waits longest is at the top."""
    found = session.scalars(select(Halt).where(*which, Halt.state != State.CLOSED).order_by(Halt.id).limit(MAX_OPEN))
    return sorted(found, key=lambda h: (h.state not in UNACKED, h.id))


def _closed(session: Session, which: list[ColumnElement[bool]], before: int | None) -> list[Halt]:
    older = () if before is None else (Halt.id < before,)
    query = select(Halt).where(*which, Halt.state == State.CLOSED, *older).order_by(Halt.id.desc()).limit(PAGE + 1)
    return list(session.scalars(query))
