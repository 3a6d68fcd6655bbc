"""The Models page: what may be served, what each station serves, roll out and roll back."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from inspection.errors import BundleError, InputError
from review import rollout
from review.broadcast import News
from review.clock import wall_ms
from review.deps import PAGE_PERSON_FIELD, ActingPerson, Engineer, HubDep, must_be, page
from review.hub import Hub
from review.language import _
from review.live import PERMIT_STALE_MS
from review.registry import MAX_ZIP_BYTES, Bundle, Registry
from review.store import Person

router = APIRouter()

FORM_BYTES = 4096
"""What a form may add around its one file."""


@router.get("/models")
def models(request: Request, hub: HubDep, person: ActingPerson) -> Response:
    return _page(request, hub, person)


@router.get("/models/stations/{key}")
def station_state(request: Request, hub: HubDep, key: str) -> Response:
    """What a station's edge reports, as a fragment the page asks for again and again."""
    registry = _registry(hub)
    with hub.store.reading() as session:
        try:
            row = rollout.station_model(session, registry, rollout.find_station(session, key))
        except InputError as e:
            raise HTTPException(404, str(e)) from e
    return page(request, "models_state.html", row=row, heard=_heard(hub))


@router.post("/models/upload")
async def upload(request: Request, hub: HubDep, person: Engineer) -> Response:
    # The form is read here and not by a parameter, which would spool any size to disk before anybody was asked.
    try:
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_ZIP_BYTES + FORM_BYTES:
            raise BundleError("upload", f"has {length or 'an unknown number of'} bytes", f"at most {MAX_ZIP_BYTES}")
        async with request.form(max_files=1, max_fields=1) as form:
            must_be(person, form.get(PAGE_PERSON_FIELD))
            file = form.get("bundle")
            if not isinstance(file, UploadFile):
                raise BundleError("upload", "brings no file", "choose the bundle's .zip")
            added = await run_in_threadpool(_add, hub, person, file)
    except InputError as e:
        return await run_in_threadpool(_page, request, hub, person, e)
    return RedirectResponse(f"/models#{added.id}", 303)


def _add(hub: Hub, person: Person, file: UploadFile) -> Bundle:
    registry = _registry(hub)
    added = registry.add_zip(file.file.read(MAX_ZIP_BYTES + 1), file.filename or "zip")
    with hub.store.writing() as session:
        rollout.keep_row(session, added, str(registry.folder / added.id), person.name, wall_ms())
    return added


@router.post("/models/rollout")
def roll_out(
    request: Request,
    hub: HubDep,
    person: Engineer,
    station: Annotated[str, Form()],
    bundle: Annotated[str, Form()],
    rollback: Annotated[bool, Form()] = False,
) -> Response:
    registry = _registry(hub)
    try:
        wanted = registry.get(bundle)
        with hub.store.writing() as session:
            row = rollout.find_station(session, station)
            rollout.ask(session, hub.publish, registry, row, wanted, person.name, wall_ms(), rollback=rollback)
        hub.news.tell(News("model", station))
    except InputError as e:
        return _page(request, hub, person, e)
    return RedirectResponse("/models", 303)


def _page(request: Request, hub: Hub, person: Person, refused: InputError | None = None) -> Response:
    registry = _registry(hub)
    bundles, broken = [], []
    for bundle_id in registry.ids():
        try:
            bundles.append(registry.get(bundle_id))
        except BundleError as e:
            broken.append(e)
    with hub.store.reading() as session:
        stations = rollout.board(session, registry)
        brought = rollout.brought_by(session)
    return page(
        request,
        "models.html",
        422 if refused else 200,
        title=_("Models"),
        nav="models",
        person=person,
        bundles=bundles,
        broken=broken,
        stations=stations,
        heard=_heard(hub),
        brought=brought,
        refused=refused,
        may_act=person.role in rollout.MAY_ROLL_OUT,
    )


def _heard(hub: Hub) -> frozenset[str]:
    """Stations whose edge is heard now: of others the page tells what they said last, which may be a day ago."""
    now_ns = time.monotonic_ns()
    return frozenset(now.key for now in hub.live.stations() if now.permit_age_ms(now_ns) <= PERMIT_STALE_MS)


def _registry(hub: Hub) -> Registry:
    return Registry(hub.settings.bundles_dir)
