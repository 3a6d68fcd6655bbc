"""The hub as a web application: `create_app(settings)`. Building it opens the database; its lifespan runs the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import ClientDisconnect

from inspection.errors import StorageError
from review.blind_plan import Planner
from review.deps import (
    STATIC,
    NameNeeded,
    NotForRole,
    OtherPerson,
    edge_token,
    name_needed,
    not_for_role,
    other_person,
    same_origin,
)
from review.faults import NoSuchFault
from review.halts import NoSuchHalt
from review.headers import SafeHeaders
from review.hub import Hub
from review.language import LanguageOfRequest
from review.refusals import cut_off, in_words, no_such_alarm, no_value, not_stored
from review.routes import (
    adjudicate,
    alarms,
    andon,
    api_docs,
    audit,
    consistency,
    edge,
    edge_bundles,
    escapes,
    events,
    halts,
    handover,
    health,
    label,
    label_books,
    line,
    models,
    outlines,
    performance,
    session,
    shelving,
    stops,
    suppression,
    suspects,
    system,
)
from review.settings import Settings
from review.sign_in import SHIFT_MS
from review.upkeep import Upkeep

FLOOR = (line, stops, halts, alarms, shelving, suppression, andon, handover, performance, system)
LABELS = (label, label_books, consistency, outlines, escapes, adjudicate, suspects)
PAGES = (*FLOOR, *LABELS, models, session, audit, events, health, api_docs)
"""Pages and their news; each write must come from a page of this host."""
EDGE = (edge, edge_bundles)
"""For edges, which show a bearer token instead."""


def create_app(settings: Settings) -> FastAPI:
    hub = Hub.build(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        hub.news.start()
        hub.start()
        upkeep = Upkeep(hub)
        upkeep.start()
        planner = Planner(hub.store, settings)
        planner.start()
        try:
            yield
        finally:
            hub.news.close()
            upkeep.stop()
            planner.stop()
            hub.stop()

    # FastAPI's own /docs takes its files from a CDN, and a factory has no internet: `routes.api_docs` is ours.
    app = FastAPI(title="Haltline review", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub
    app.add_middleware(SafeHeaders, framed_url=settings.plc_panel_url)
    app.add_middleware(LanguageOfRequest)
    app.add_middleware(
        SessionMiddleware,
        secret_key=settings.session_secret(),
        session_cookie="haltline",
        max_age=SHIFT_MS // 1000,
        same_site="strict",
        https_only=settings.https,
    )
    app.add_exception_handler(NameNeeded, name_needed)
    app.add_exception_handler(OtherPerson, other_person)
    app.add_exception_handler(NotForRole, not_for_role)
    app.add_exception_handler(NoSuchHalt, no_such_alarm)
    app.add_exception_handler(NoSuchFault, no_such_alarm)
    app.add_exception_handler(HTTPException, in_words)
    app.add_exception_handler(RequestValidationError, in_words)
    app.add_exception_handler(DataError, no_value)
    app.add_exception_handler(ClientDisconnect, cut_off)
    for broken in (OperationalError, NoConnection, StorageError, OSError):
        app.add_exception_handler(broken, not_stored)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for modules, check in ((PAGES, same_origin), (EDGE, edge_token)):
        for module in modules:
            app.include_router(module.router, dependencies=[Depends(check)])
    return app
