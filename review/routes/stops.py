"""Stop this line: for everybody at a page, signed in or not."""

from __future__ import annotations

import anyio
import anyio.to_thread
import structlog
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from starlette.background import BackgroundTask

from review import stops
from review.deps import current_person, get_hub, page
from review.hub import Hub
from review.language import _
from review.routes.line import Key

log = structlog.get_logger("review.stops")

router = APIRouter()

WHO_S = 0.3
"""A database that does not answer by then costs the request its name, not its effect."""


@router.post("/stations/{key}/stop")
async def stop(request: Request, key: Key) -> Response:
    """200 once the edge confirmed it, 409 with the reason when it did not. On the event loop and without a dependency:
    neither a busy thread pool nor a dead database may stand before a stop."""
    hub = get_hub(request)
    now = hub.live.get(key)
    if now is None:
        raise HTTPException(404, _("no station %(key)s has reported: use the machine's own stop button", key=key))
    who = await _who(request, hub)
    outcome = await stops.ask(hub, now.topics, who)
    name = "stop_said.html" if request.headers.get("hx-request") else "stop_page.html"
    words = {"o": outcome, "station": now.topics.station, "title": _("Stop"), "nav": "line"}
    answer = page(request, name, 200 if outcome.confirmed else 409, person=None, **words)
    host = request.client.host if request.client else ""
    answer.background = BackgroundTask(stops.note, hub, key, who, host, outcome)
    return answer


async def _who(request: Request, hub: Hub) -> str:
    """The name of whoever is signed in; empty for nobody, and where that cannot be found out at once."""
    if not request.session.get("token"):
        return ""
    try:
        with anyio.fail_after(WHO_S):
            person = await anyio.to_thread.run_sync(current_person, request, hub, abandon_on_cancel=True)
    except Exception as e:
        log.warning("stop without a name: the database did not say whose sign-in it is", why=str(e))
        return ""
    return person.name if person else ""
