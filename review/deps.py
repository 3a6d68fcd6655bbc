"""What routes ask for: the hub, the person, the edge's token, a page of our own. Auth is a dependency everywhere,
because an exception inside a stream that has started would still answer 200."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from pydantic import Field
from starlette import status
from starlette.routing import Match

from review import alarm_row, language, sign_in, station_card
from review.clock import wall_ms
from review.halt_view import cause_words, reason_words, shelf_words
from review.hub import Hub
from review.store import Person

ROOT = Path(__file__).parent
STATIC = ROOT / "static"
templates = Jinja2Templates(directory=ROOT / "templates")


templates.env.add_extension("jinja2.ext.i18n")
# Newstyle: values are escaped, what a translator wrote is not. So `_()` is for literals; what is data goes through
# the filter `words`, which escapes.
templates.env.install_gettext_callables(language.raw, language.raw_many, newstyle=True)  # type: ignore[attr-defined]
templates.env.policies["ext.i18n.trimmed"] = True
templates.env.filters |= {
    "clock": language.clock,
    "day": language.day,
    "number": language.number,
    "chance": language.chance,
    "cls": language.class_words,
    "words": language.raw,
    "plain": language.plain,
    "cause": cause_words,
    "reason": reason_words,
    "station_card": station_card.drawn,
    "alarm_row": alarm_row.drawn,
    "fault_row": alarm_row.drawn_fault,
    "shelf": shelf_words,
}
templates.env.globals |= {
    "language": language.current,
    "languages": language.LANGUAGES,
    "script_words_url": language.script_words_url,
}


def get_hub(request: Request) -> Hub:
    hub = request.app.state.hub
    assert isinstance(hub, Hub)
    return hub


async def hub_of(request: Request) -> Hub:
    """Async, like every check that waits for nothing: a plain function would cost each request a turn of a thread."""
    return get_hub(request)


HubDep = Annotated[Hub, Depends(hub_of)]


def current_person(request: Request, hub: HubDep) -> Person | None:
    """Whoever the cookie's token belongs to, while that sign-in holds and the person still works here."""
    token = request.session.get("token")
    if not token:
        return None
    if not hasattr(request.state, "person"):
        now_ms = wall_ms()
        found = sign_in.who_is(hub.store, token, now_ms, hub.settings.idle_min * 60_000)
        by_hand = request.method == "POST" or not request.headers.get("hx-request")
        if found and by_hand:
            sign_in.seen(hub.store, found[1], now_ms)
        request.state.person = found[0] if found else None
    person = request.state.person
    assert person is None or isinstance(person, Person)
    return person


MaybePerson = Annotated[Person | None, Depends(current_person)]


class NameNeeded(Exception):
    """Somebody acts without a name; `name_needed` sends them to choose one and back."""


PAGE_PERSON = "Haltline-Person"
"""The name in the bar of the page that sends; percent-encoded, as headers hold no letters beyond Latin 1."""
PAGE_PERSON_FIELD = "page_person"
"""The same of a plain form, which sends no headers of its own: `static/unsent.js` adds it to every one."""
FORM = "application/x-www-form-urlencoded"


class OtherPerson(Exception):
    """A page that names one person acts while another is signed in; `other_person` says so."""


async def named_person(request: Request, person: MaybePerson) -> Person:
    """Whoever is signed in. Where the page says whose it is, that has to be the same person: somebody may have signed
    in on another tab meanwhile, and what is done here would be recorded with the wrong name."""
    if person is None:
        raise NameNeeded
    must_be(person, unquote(request.headers.get(PAGE_PERSON, "")))
    return person


NamedPerson = Annotated[Person, Depends(named_person)]
"""For routes that read what is sent by themselves, and only so much of it."""


async def require_person(request: Request, person: NamedPerson) -> Person:
    """The same also where a plain form says it. One with files is read by its own route, once it has looked how long
    it is."""
    if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
        must_be(person, (await request.form()).get(PAGE_PERSON_FIELD))
    return person


def must_be(person: Person, on_page: object) -> None:
    """OtherPerson where a page names somebody else; one that names nobody is asked nothing."""
    if on_page and on_page != person.name:
        words = {"page": str(on_page), "now": person.name}
        raise OtherPerson(
            language._("this page is %(page)s's, and %(now)s has signed in since: reload it, or sign in again", **words)
        )


ActingPerson = Annotated[Person, Depends(require_person)]

RowId = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""A row's number in an address or a form; a longer one is refused here, as databases answer it with an error."""


class NotForRole(Exception):
    """Somebody asks for what their role may not; `not_for_role` says so."""

    def __init__(self, person: Person, roles: tuple[str, ...]) -> None:
        self.person = person
        allowed = ", ".join(language.raw(r) for r in roles)
        words = {"name": person.name, "role": language.raw(person.role), "roles": allowed}
        super().__init__(language._("%(name)s is %(role)s: this is for the roles %(roles)s", **words))


def needs(*roles: str) -> Callable[[Person], Person]:
    """A dependency that lets only these roles through."""

    def check(person: ActingPerson) -> Person:
        if person.role not in roles:
            raise NotForRole(person, roles)
        return person

    return check


Engineer = Annotated[Person, Depends(needs("engineer", "admin"))]


def wants_page(request: Request) -> bool:
    """A browser that goes somewhere, not a script in its page, nor a machine."""
    return "text/html" in request.headers.get("accept", "") and not request.headers.get("hx-request")


def way_back(request: Request) -> str:
    """The page this is, or the page the form was on that was sent here: where to go on after signing in.

    Never an address that only takes forms, as a page that answers one has: a browser that is led there meets a 405.
    """
    if request.method in {"GET", "HEAD"}:
        return _address(request.url.path, request.url.query)
    try:
        form_on = urlsplit(request.headers.get("referer", ""))
    except ValueError:  # no address at all
        form_on = urlsplit("")
    ours = form_on.netloc == request.headers.get("host")
    path, query = (form_on.path, form_on.query) if ours else (request.url.path, "")
    while path != "/" and not _is_page(request, path):
        path, query = path.rpartition("/")[0] or "/", ""
    return _address(path, query)


def _address(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def _is_page(request: Request, path: str) -> bool:
    asked = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return any(route.matches(asked)[0] is Match.FULL for route in request.app.router.routes)


async def not_for_role(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, NotForRole)
    if wants_page(request):
        title = language._("Not for the role %(role)s", role=language.raw(exc.person.role))
        return page(request, "refused.html", 403, person=exc.person, says=str(exc), title=title)
    return Response(f"{exc}\n", 403, media_type="text/plain")


async def name_needed(request: Request, _exc: Exception) -> Response:
    """A page goes to the badge page and comes back; a script is told in words."""
    if request.headers.get("hx-request"):
        on = urlsplit(request.headers.get("hx-current-url", "/"))
        return Response(
            status_code=401, headers={"HX-Redirect": f"/who?next={quote(_address(on.path or '/', on.query))}"}
        )
    if wants_page(request):
        return RedirectResponse(f"/who?next={quote(way_back(request))}", status.HTTP_303_SEE_OTHER)
    return Response(language._("choose a name at /who first: what is done is recorded with who did it") + "\n", 401)


async def other_person(request: Request, exc: Exception) -> Response:
    """A page where a form was sent; else in words, which the page's own script shows: the header tells them from a page
    of the hub."""
    if wants_page(request):
        answer = await run_in_threadpool(page, request, "refused.html", 409, says=str(exc), title=language._("Refused"))
        answer.headers[PAGE_PERSON] = "other"
        return answer
    headers = {PAGE_PERSON: "other", "HX-Reswap": "none"}
    return Response(f"{exc}\n", 409, media_type="text/plain", headers=headers)


async def same_origin(request: Request) -> None:
    """Refuses a write that another site's page made the browser send: its Origin is not this host.

    Together with the SameSite=Strict cookie this is the CSRF protection. Browsers send Origin with every POST; a
    script without a browser sends none and has no cookie to abuse either.
    """
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        words = language._(
            "request from %(origin)s refused by %(host)s: open Haltline's own page and act there. If this is it, the "
            "proxy in front of the hub must hand on the Host header.",
            origin=origin,
            host=request.headers.get("host", ""),
        )
        raise HTTPException(403, words)


async def edge_token(request: Request, hub: HubDep) -> None:
    """Checks the bearer token when the hub was given one."""
    wanted = hub.settings.edge_token
    if wanted is None:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), wanted.get_secret_value().encode()):
        raise HTTPException(
            401, "wrong or missing bearer token: set hub.token in edge.yaml", headers={"WWW-Authenticate": "Bearer"}
        )


def page(request: Request, name: str, status_code: int = 200, **context: object) -> Response:
    """A template with what the frame around every page needs."""
    hub = get_hub(request)
    if "person" not in context:  # asked for only where nobody has: the System page opens without a database too
        context["person"] = current_person(request, hub)
    context |= {"hub_settings": hub.settings, "this_page": way_back(request), "is_refusal": status_code >= 400}
    return templates.TemplateResponse(request, name, context, status_code=status_code)


async def same_for_all(request: Request, make: Callable[[], Response], signed_in: bool = False) -> Response:
    """A part of a page that is the same for everybody of one language, rendered once for all who ask together.

    `signed_in`: whether somebody is, where the part has keys for whoever is; their name must not be in it.
    """
    key = (request.url.path, request.url.query, signed_in, language.current())
    body: bytes = await get_hub(request).shared.get(key, lambda: bytes(make().body))
    return HTMLResponse(body)
