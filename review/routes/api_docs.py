"""The hub's routes for whoever writes a program against them: Swagger UI from the wheel, so without internet too."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from review.deps import Engineer, page
from review.language import _

router = APIRouter()


@router.get("/docs")
def docs(request: Request, person: Engineer) -> Response:
    """FastAPI's own page has an inline script, which the hub's pages may not run."""
    return page(request, "api_docs.html", person=person, title=_("Interface for programs"))


@router.get("/openapi.json")
def described(request: Request, person: Engineer) -> dict[str, Any]:
    """Every route with its fields, as OpenAPI 3.1."""
    found: dict[str, Any] = request.app.openapi()
    return found
