"""Putting an alarm on the shelf and taking it back: a halt's cause, or a station's own alarm."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from inspection.errors import InputError
from review import faults, shelving
from review.broadcast import News
from review.clock import wall_ms
from review.deps import ActingPerson, HubDep, NotForRole, RowId, page
from review.halt_view import cause_words, fault_words
from review.halts import NoSuchHalt, load
from review.hub import Hub
from review.language import _
from review.shelving import Kind
from review.store import Fault, Halt, Person, Shelf

router = APIRouter()

OUT_OF_SERVICE_FOR = ("engineer", "admin")
NOTHING = "what is to be shelved? Name a halt or a fault"


@router.get("/alarms/shelve")
def shelve_form(
    request: Request, hub: HubDep, person: ActingPerson, halt: RowId | None = None, fault: RowId | None = None
) -> Response:
    """One of the two: a halt, whose cause is shelved, or a station's own alarm."""
    return _form(request, hub, person, halt, fault)


@router.post("/alarms/shelve")
def shelve(
    request: Request,
    hub: HubDep,
    person: ActingPerson,
    halt: Annotated[RowId | None, Form()] = None,
    fault: Annotated[RowId | None, Form()] = None,
    why: Annotated[str, Form(max_length=1000)] = "",
    minutes: Annotated[int, Form()] = 0,
) -> Response:
    """`minutes` 0 is out of service, for engineers."""
    if halt is None and fault is None:
        raise HTTPException(422, NOTHING)
    if minutes == 0 and person.role not in OUT_OF_SERVICE_FOR:
        raise NotForRole(person, OUT_OF_SERVICE_FOR)
    try:
        with hub.store.writing() as session:
            row = _alarm(session, halt, fault)
            if before := shelving.lies_on(session, row, wall_ms()):
                _may_end(person, before)
            if minutes == 0:
                shelving.take_out_of_service(session, row, person.name, why, wall_ms())
            else:
                shelving.shelve(session, row, person.name, why, minutes, wall_ms())
    except InputError as e:
        return _form(request, hub, person, halt, fault, f"{e.where} {e.what}: {e.fix}", why)
    hub.news.tell(News("halt", "shelf"))
    return RedirectResponse("/alarms", 303)


@router.post("/alarms/shelves/{shelf_id}/end")
def unshelve(hub: HubDep, person: ActingPerson, shelf_id: RowId) -> RedirectResponse:
    with hub.store.writing() as session:
        shelf = session.get(Shelf, shelf_id)
        if shelf is None:
            raise NoSuchHalt(f"there is no shelf {shelf_id}")
        _may_end(person, shelf)
        shelving.give_back(session, shelf, person.name, wall_ms())
    hub.news.tell(News("halt", "shelf"))
    return RedirectResponse("/alarms", 303)


def _may_end(person: Person, shelf: Shelf) -> None:
    """A new shelf ends the one before: what an engineer took out of service would call again within a shift."""
    if shelf.kind == Kind.OUT_OF_SERVICE and person.role not in OUT_OF_SERVICE_FOR:
        raise NotForRole(person, OUT_OF_SERVICE_FOR)


def _alarm(session: Session, halt: int | None, fault: int | None) -> Halt | Fault:
    if fault is not None:
        return faults.load(session, fault)
    if halt is None:
        raise HTTPException(422, NOTHING)
    return load(session, halt)


def _form(
    request: Request,
    hub: Hub,
    person: Person,
    halt: int | None,
    fault: int | None,
    problem: str = "",
    why: str = "",
) -> Response:
    with hub.store.reading() as session:
        alarm = _alarm(session, halt, fault)
    return page(
        request,
        "shelve.html",
        422 if problem else 200,
        nav="alarms",
        title=_("Shelve"),
        person=person,
        alarm=alarm,
        what="halt" if fault is None else "fault",
        alarm_name=cause_words(alarm) if isinstance(alarm, Halt) else fault_words(alarm.kind),
        problem=problem,
        why=why,
        minutes=shelving.MINUTES,
        may_take_out=person.role in OUT_OF_SERVICE_FOR,
    )
