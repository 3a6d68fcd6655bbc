"""Who are you? A tile with your name and your secret, or a badge; stopping needs neither, resuming does."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from inspection.errors import ConfigError
from review import badges, people, sign_in
from review.clock import wall_ms
from review.deps import HubDep, MaybePerson, page
from review.hub import Hub
from review.language import _, script_words
from review.people import everybody
from review.secret_hash import kind_for
from review.store import Person

router = APIRouter()
log = structlog.get_logger("review.session")


@router.get("/who")
def who(request: Request, hub: HubDep, next: str = "/", name: str = "") -> Response:
    if name:
        return _ask_secret(request, _known(hub, name), _own_path(next))
    return page(
        request,
        "who.html",
        people=everybody(hub.store),
        next=_own_path(next),
        title=_("Who are you?"),
        problem="",
    )


@router.post("/who")
def choose(
    request: Request,
    hub: HubDep,
    name: Annotated[str, Form()],
    next: Annotated[str, Form()] = "/",
    secret: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    person, onward = _known(hub, name), _own_path(next)
    if person.secret_hash and not secret:
        return RedirectResponse(f"/who?name={quote(name)}&next={quote(onward)}", 303)
    try:
        token = sign_in.enter(hub.store, person, secret, wall_ms(), names_suffice=hub.settings.demo_people)
    except sign_in.NoSecretYet as e:
        command = f'haltline review user pin "{person.name}"'
        told = _("%(problem)s: an admin sets one with %(command)s", problem=e, command=command)
        return _ask_secret(request, person, onward, told, 403)
    except sign_in.WrongSecret as e:
        return _ask_secret(request, person, onward, str(e), 401)
    except sign_in.LockedOut as e:
        answer = _ask_secret(request, person, onward, str(e), 429)
        answer.headers["Retry-After"] = str(e.wait_s)
        return answer
    return _signed_in(request, hub, person, token, onward)


@router.post("/who/badge")
def badge(
    request: Request,
    hub: HubDep,
    read: Annotated[str, Form(max_length=200)],
    next: Annotated[str, Form()] = "/",
) -> Response:
    """`read`: what a badge reader typed on the page before. It names the person, so no tile is asked for."""
    onward, screen = _own_path(next), request.client.host if request.client else ""
    try:
        person, token = badges.enter(hub.store, hub.settings.badge_key(), read, screen, wall_ms())
    except ConfigError:
        log.exception("badge_key cannot be read")
        told = _("no badge can be read: the hub cannot use its badge_key, the System page says why. A PIN still works")
        words = {"people": everybody(hub.store), "next": onward, "title": _("Who are you?"), "problem": told}
        return page(request, "who.html", 503, **words)
    except (sign_in.WrongSecret, sign_in.LockedOut) as e:
        wait_s = e.wait_s if isinstance(e, sign_in.LockedOut) else 0
        words = {"people": everybody(hub.store), "next": onward, "title": _("Who are you?"), "problem": str(e)}
        answer = page(request, "who.html", 429 if wait_s else 401, **words)
        if wait_s:
            answer.headers["Retry-After"] = str(wait_s)
        return answer
    return _signed_in(request, hub, person, token, onward)


@router.post("/language")
def language(
    request: Request,
    hub: HubDep,
    person: MaybePerson,
    to: Annotated[Literal["en", "de"], Form()],
    next: Annotated[str, Form()] = "/",
) -> RedirectResponse:
    """For the screen, and for whoever is signed in wherever they sign in next."""
    request.session["language"] = to
    if person is not None:
        people.speak(hub.store, person.id, to)
    return RedirectResponse(_own_path(next), 303)


@router.get("/words/{of}.js")
def words(of: Literal["en", "de"]) -> Response:
    """What the pages' scripts say. The address changes with the content."""
    return Response(
        script_words(of), media_type="text/javascript", headers={"Cache-Control": "public, max-age=31536000, immutable"}
    )


@router.post("/who/leave")
def leave(request: Request, hub: HubDep) -> RedirectResponse:
    if token := request.session.get("token"):
        sign_in.leave(hub.store, token, wall_ms())
    request.session.pop("token", None)
    return RedirectResponse("/", 303)


def _signed_in(request: Request, hub: Hub, person: Person, token: str, onward: str) -> Response:
    if old := request.session.get("token"):
        sign_in.leave(hub.store, old, wall_ms())
    chosen = person.language or request.session.get("language")
    request.session.clear()
    request.session.update({"token": token} | ({"language": chosen} if chosen else {}))
    return RedirectResponse(onward, 303)


def _ask_secret(request: Request, person: Person, onward: str, problem: str = "", status: int = 200) -> Response:
    return page(
        request,
        "who_secret.html",
        status,
        who=person,
        kind=kind_for(person.role),
        next=onward,
        problem=problem,
        title=_("Who are you?"),
    )


def _known(hub: Hub, name: str) -> Person:
    for person in everybody(hub.store):
        if person.name == name:
            return person
    raise HTTPException(422, _("nobody is called “%(name)s”: add them with `haltline review user add`", name=name))


def _own_path(path: str) -> str:
    """A path on this host; a link that leads elsewhere after sign-in would be a gift to phishing."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
