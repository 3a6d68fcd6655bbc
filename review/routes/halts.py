"""The Halt page: why the line stopped, and what the person in front of it says and does about that."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import Response
from sqlalchemy import and_, select

from inspection.errors import StorageError
from review import halts, pictures
from review.alarms import Verdict
from review.deps import ActingPerson, HubDep, RowId, page
from review.halt_view import view
from review.hub import Hub
from review.pictures import Rect
from review.store import FilmRow, Halt, Record

router = APIRouter()

FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""A crop's address names its content: the record's frame is content-addressed and never changes."""


Was = Annotated[Verdict | Literal["none"] | None, Form()]
"""The verdict on the page that this was pressed on."""


@router.get("/halts/{halt_id}")
def halt(request: Request, hub: HubDep, halt_id: RowId, frame: str = "") -> Response:
    return _show(request, hub, halt_id, "halt.html", frame)


@router.get("/halts/{halt_id}/panel")
def panel(request: Request, hub: HubDep, halt_id: RowId, frame: str = "") -> Response:
    return _show(request, hub, halt_id, "halt_panel.html", frame)


@router.post("/halts/{halt_id}/ack")
def ack(request: Request, hub: HubDep, halt_id: RowId, person: ActingPerson) -> Response:
    problem = ""
    try:
        halts.acknowledge(hub, halt_id, person.name)
    except halts.NotNow as e:
        problem = str(e)
    return _answer(request, hub, halt_id, problem)


@router.post("/halts/{halt_id}/verdict")
def verdict(
    request: Request,
    hub: HubDep,
    halt_id: RowId,
    person: ActingPerson,
    verdict: Annotated[Verdict, Form()],
    saw: Annotated[str, Form(pattern=r"^[0-9a-f]{32}$|^$")] = "",
    was: Was = None,
) -> Response:
    problem = ""
    try:
        halts.judge(hub, halt_id, person.name, verdict, saw, was)
    except halts.NotNow as e:
        problem = str(e)
    return _answer(request, hub, halt_id, problem)


@router.post("/halts/{halt_id}/undo")
def undo(request: Request, hub: HubDep, halt_id: RowId, person: ActingPerson, was: Was = None) -> Response:
    problem = ""
    try:
        halts.undo(hub, halt_id, person.name, was)
    except halts.NotNow as e:
        problem = str(e)
    return _answer(request, hub, halt_id, problem)


@router.post("/halts/{halt_id}/reset")
def reset(request: Request, hub: HubDep, halt_id: RowId, person: ActingPerson) -> Response:
    problem = ""
    try:
        halts.ask_reset(hub, halt_id, person.name, time.monotonic_ns())
    except halts.NotNow as e:
        problem = str(e)
    return _answer(request, hub, halt_id, problem)


X = Annotated[int, Query(ge=0, le=65535)]
W = Annotated[int, Query(ge=1, le=65535)]


@router.get("/halts/{halt_id}/film.jpg")
def film(hub: HubDep, halt_id: RowId) -> Response:
    """All frames of the film as tiles of one picture: scrubbing asks for nothing more."""
    with hub.store.reading() as session:
        row = session.scalar(
            select(FilmRow)
            .join(Halt, and_(Halt.station_id == FilmRow.station_id, Halt.halt == FilmRow.halt))
            .where(Halt.id == halt_id)
        )
    if row is None:
        raise HTTPException(404, f"halt {halt_id} has no film here")
    try:
        data = hub.frames.read(row.image)
    except StorageError as e:
        raise HTTPException(404, str(e)) from e
    return Response(data, media_type="image/jpeg", headers=FOR_EVER)


SIDE = Annotated[int, Query(ge=16, le=pictures.MAX_SIDE_OUT_PX)]


@router.get("/records/{uid}/crop.jpg")
def crop(hub: HubDep, uid: str, x: X, y: X, w: W, h: W, side: SIDE = pictures.MAX_SIDE_OUT_PX) -> Response:
    record = _record(hub, uid)
    try:
        data = pictures.cut(hub.images.image(record.image or ""), Rect(x, y, w, h), side)
    except StorageError as e:
        raise HTTPException(404, str(e)) from e
    return Response(data, media_type="image/jpeg", headers=FOR_EVER)


@router.get("/records/{uid}/heat.png")
def heat(hub: HubDep, uid: str, x: X, y: X, w: W, h: W) -> Response:
    record = _record(hub, uid)
    if not record.heat or len(record.heat_to_frame) != 6:
        raise HTTPException(404, f"record {uid} has no heat map")
    try:
        data = pictures.heat_layer(hub.frames.read(record.heat), record.heat_to_frame, Rect(x, y, w, h))
    except StorageError as e:
        raise HTTPException(404, str(e)) from e
    return Response(data, media_type="image/png", headers=FOR_EVER)


def _record(hub: Hub, uid: str) -> Record:
    with hub.store.reading() as session:
        record = session.scalar(select(Record).where(Record.uid == uid))
    if record is None or record.image is None:
        raise HTTPException(404, f"there is no record {uid} with a picture")
    return record


def _show(request: Request, hub: Hub, halt_id: int, template: str, frame: str = "", problem: str = "") -> Response:
    with hub.store.reading() as session:
        v = view(session, halts.load(session, halt_id), frame)
    return page(
        request, template, 409 if problem else 200, v=v, problem=problem, nav="alarms", title=f"Halt {v.halt.halt}"
    )


def _answer(request: Request, hub: Hub, halt_id: int, problem: str) -> Response:
    """The panel as it is now, for scripts only: a page that cannot show that it is stale must not act."""
    return _show(request, hub, halt_id, "halt_panel.html", problem=problem)
