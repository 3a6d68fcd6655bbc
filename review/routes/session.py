"""Who are you? A name picker; stopping a line needs no name, everything that resumes it does."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from review.deps import HubDep, page
from review.people import everybody

router = APIRouter()


@router.get("/who")
def who(request: Request, hub: HubDep, next: str = "/") -> Response:
    return page(request, "who.html", people=everybody(hub.store), next=_own_path(next), title="Who are you?")


@router.post("/who")
def choose(
    request: Request, hub: HubDep, name: Annotated[str, Form()], next: Annotated[str, Form()] = "/"
) -> RedirectResponse:
    if name not in {p.name for p in everybody(hub.store)}:
        raise HTTPException(422, f"nobody is called {name!r}: add them with `haltline review user add`")
    request.session["person"] = name
    return RedirectResponse(_own_path(next), 303)


@router.post("/who/leave")
def leave(request: Request) -> RedirectResponse:
    request.session.clear()
    return RedirectResponse("/", 303)


def _own_path(path: str) -> str:
    """A path on this host; a link that leads elsewhere after sign-in would be a gift to phishing."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
