"""The System page: is everything as it should be, and if not, what still works. Readable without a sign-in, because
the sign-in may be what is broken."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette import status

from inspection.errors import HaltlineError
from inspection.station_messages import CameraTest
from review import retirement, system
from review.clock import wall_ms
from review.deps import ActingPerson, Engineer, HubDep, current_person, page
from review.halts import NotNow
from review.hub import Hub
from review.language import _
from review.store import Person

router = APIRouter()


@router.get("/system")
def show(request: Request, hub: HubDep) -> Response:
    return _show(request, hub, "system.html")


@router.get("/system/panel")
def panel(request: Request, hub: HubDep) -> Response:
    return _show(request, hub, "system_panel.html")


@router.post("/system/backup")
def back_up(request: Request, hub: HubDep, person: Engineer) -> Response:
    said = "" if hub.backups.start(person.name) else _("A backup is being made already.")
    return _done(request, hub, said)


@router.post("/system/cameras/test")
def test_camera(
    request: Request,
    hub: HubDep,
    person: ActingPerson,
    station: Annotated[str, Form(max_length=100)],
    camera: Annotated[str, Form(min_length=1, max_length=80)],
) -> Response:
    """Asks the edge to watch its camera for a second; the answer comes by itself."""
    now = hub.live.get(station)
    if now is None:
        raise HTTPException(404, _("no station %(key)s has reported", key=station))
    asked = CameraTest(camera=camera, nonce=secrets.token_urlsafe(12), who=person.name[:64])
    sent = hub.publish(now.topics, asked)
    said = "" if sent else _("Not sent: the hub has lost the broker.")
    return _done(request, hub, said)


@router.post("/system/stations/retire")
def retire(request: Request, hub: HubDep, person: Engineer, station: Annotated[str, Form(max_length=100)]) -> Response:
    try:
        retirement.retire(hub, station, person.name, wall_ms())
    except NotNow as e:
        return _done(request, hub, _("Not retired: %(why)s.", why=e))
    return _done(request, hub, "")


def _done(request: Request, hub: Hub, said: str) -> Response:
    if request.headers.get("hx-request"):
        return _show(request, hub, "system_panel.html", said, 409 if said else 200)
    return RedirectResponse("/system", status.HTTP_303_SEE_OTHER)


def _show(request: Request, hub: Hub, template: str, said: str = "", code: int = 200) -> Response:
    person = _person(request, hub)
    may = person is not None and person.role in ("engineer", "admin")
    return page(
        request, template, code, v=system.view(hub), person=person, engineer=may, said=said, backups=hub.backups,
        nav="system", title=_("System"),
    )  # fmt: skip


def _person(request: Request, hub: Hub) -> Person | None:
    """Nobody, when the database cannot say who: this page must open then too."""
    try:
        return current_person(request, hub)
    except (SQLAlchemyError, HaltlineError):
        return None
