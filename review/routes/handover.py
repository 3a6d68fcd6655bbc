"""The Handover page: the draft, notes, the signature of who leaves and the checks of who comes."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from review import handover
from review.clock import wall_ms
from review.deps import ActingPerson, HubDep, MaybePerson, RowId, page
from review.halts import NoSuchHalt, NotNow
from review.hub import Hub
from review.language import _
from review.store import Handover, Person, ShiftNote

router = APIRouter()

EARLIER = 5
Note = Annotated[str, Form(max_length=500)]


@router.get("/handover")
def show(request: Request, hub: HubDep, person: MaybePerson) -> Response:
    return _page(request, hub, person)


@router.post("/handover/note")
def note(request: Request, hub: HubDep, person: ActingPerson, text: Note = "") -> Response:
    text = " ".join(text.split())
    if not text:
        return _page(request, hub, person, _("an empty note says nothing"))
    with hub.store.writing() as session:
        session.add(ShiftNote(by=person.name, at_ms=wall_ms(), text=text))
    return RedirectResponse("/handover", 303)


@router.post("/handover/sign")
def sign(
    request: Request, hub: HubDep, person: ActingPerson, instead_of: Annotated[RowId | None, Form()] = None
) -> Response:
    """`instead_of`: the handover that waits, as the page showed it."""
    try:
        with hub.store.writing() as session:
            handover.sign(session, _draft(hub, session), person.name, instead_of)
    except NotNow as e:
        return _page(request, hub, person, str(e))
    return RedirectResponse("/handover", 303)


@router.post("/handover/{handover_id}/take")
def take(
    request: Request,
    hub: HubDep,
    person: ActingPerson,
    handover_id: RowId,
    seen: Annotated[list[str] | None, Form()] = None,
) -> Response:
    try:
        with hub.store.writing() as session:
            row = session.get(Handover, handover_id)
            if row is None:
                raise NoSuchHalt(f"there is no handover {handover_id}")
            handover.take_over(session, row, person.name, set(seen or ()), wall_ms())
    except NotNow as e:
        return _page(request, hub, person, str(e), seen or [])
    return RedirectResponse("/handover", 303)


def _draft(hub: Hub, session: Session) -> handover.Draft:
    return handover.draft(session, hub.live.stations(), time.monotonic_ns(), wall_ms())


def _page(
    request: Request, hub: Hub, person: Person | None, problem: str = "", seen: list[str] | None = None
) -> Response:
    with hub.store.reading() as session:
        draft = _draft(hub, session)
        waits = handover.waiting(session)
        earlier = session.scalars(select(Handover).order_by(Handover.id.desc()).limit(EARLIER)).all()
    return page(
        request,
        "handover.html",
        409 if problem else 200,
        nav="handover",
        title=_("Handover"),
        person=person,
        draft=draft,
        waits=waits,
        earlier=earlier,
        problem=problem,
        seen=seen or [],
    )
