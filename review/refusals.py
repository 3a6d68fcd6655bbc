"""What a person reads where the hub cannot do what was asked: a page in their own language, never raw JSON.

Scripts and machines get what FastAPI answers; a page is for browsers, which say that they want one.
"""

from __future__ import annotations

import anyio
import structlog
from fastapi import Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from review.deps import current_person, get_hub, page, wants_page
from review.language import N_, raw
from review.store import Person

log = structlog.get_logger("review.refusals")

WHO_S = 0.5
"""A page that refuses opens without the database too: then it names nobody."""
NAMED = 3

SAYS = {
    403: N_("It is not for whoever is signed in here, or it did not come from a page of this hub."),
    404: N_("There is nothing at this address, or not any more."),
    405: N_("This address takes what a form sends; it is no page of its own."),
    409: N_("Something has changed meanwhile."),
    413: N_("What was sent is too large."),
    422: N_("A value in the address or in the form is none the hub can take."),
    503: N_("The hub's disk or database does not work right now, so it did not do it. The System page says more."),
}


async def in_words(request: Request, exc: Exception) -> Response:
    """For `HTTPException` and what FastAPI finds wrong with an address or a form."""
    if isinstance(exc, RequestValidationError):
        if not wants_page(request):
            return await request_validation_exception_handler(request, exc)
        return await refused(request, 422, _found(exc))
    assert isinstance(exc, HTTPException)
    if not wants_page(request):
        return await http_exception_handler(request, exc)
    answer = await refused(request, exc.status_code, str(exc.detail))
    answer.headers.update(exc.headers or {})
    return answer


async def no_such_alarm(request: Request, exc: Exception) -> Response:
    """For `NoSuchHalt` and `NoSuchFault`, which say so in the request's language."""
    if wants_page(request):
        return await refused(request, 404, str(exc))
    return Response(f"{exc}\n", 404, media_type="text/plain")


async def not_stored(request: Request, exc: Exception) -> Response:
    """For a disk or a database that refuses, in the middle of whatever was asked for."""
    why = str(getattr(exc, "orig", None) or exc).partition("\n")[0]  # not the statement, with all that it holds
    log.error("request failed", path=request.url.path, why=why, exc_info=exc if isinstance(exc, OSError) else None)
    if wants_page(request):
        return await refused(request, 503, why)
    return Response(f"{why}\n", 503, media_type="text/plain")


async def no_value(request: Request, exc: Exception) -> Response:
    """For what only the database finds wrong: a text with a NUL is none to PostgreSQL, and SQLite keeps it."""
    why = str(getattr(exc, "orig", None) or exc).partition("\n")[0]
    if wants_page(request):
        return await refused(request, 422, why)
    return Response(f"{why}\n", 422, media_type="text/plain")


async def cut_off(_request: Request, _exc: Exception) -> Response:
    """For a body that ended early: nobody is left to be answered, and nothing is wrong here that a log should show."""
    return Response(status_code=400)


async def refused(request: Request, status_code: int, detail: str) -> Response:
    says = raw(SAYS.get(status_code, N_("The hub did not do it.")))
    words = {"title": raw(N_("Refused")), "says": says, "detail": detail, "person": await _person(request)}
    return page(request, "refused.html", status_code, **words)


async def _person(request: Request) -> Person | None:
    try:
        with anyio.fail_after(WHO_S):
            return await anyio.to_thread.run_sync(current_person, request, get_hub(request), abandon_on_cancel=True)
    except Exception:
        return None


def _found(exc: RequestValidationError) -> str:
    """days: Input should be a valid integer"""
    return "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in exc.errors()[:NAMED])
