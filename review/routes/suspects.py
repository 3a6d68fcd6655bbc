"""The page "the model and the label disagree": most suspicious first; keep, change or ambiguous, each with a reason."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from inspection.errors import InputError
from review import decided, label_books, suspects
from review.clock import wall_ms
from review.deps import Engineer, HubDep, RowId, page
from review.hub import Hub
from review.language import _
from review.store import Person

router = APIRouter()
LISTED = 24


@router.get("/suspects")
def show(request: Request, hub: HubDep, person: Engineer) -> Response:
    return _page(request, hub, person)


@router.post("/suspects/{suspect_id}")
def settle(
    request: Request, hub: HubDep, person: Engineer, suspect_id: RowId,
    decision: Annotated[suspects.Decision, Form()] = "keep", reason: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    try:
        with hub.store.writing() as session:
            suspects.settle(session, suspect_id, decision, person.name, reason, wall_ms())
    except InputError as e:
        return _page(request, hub, person, e, reason)
    return RedirectResponse("/suspects", 303)


@router.post("/suspects/{suspect_id}/borderline")
def offer(request: Request, hub: HubDep, person: Engineer, suspect_id: RowId) -> Response:
    """Show a frame that was called ambiguous in the label book's draft, with the reason given."""
    try:
        with hub.store.writing() as session:
            decided.offer_ambiguous(session, suspect_id, person.name, wall_ms())
    except InputError as e:
        return _page(request, hub, person, e)
    return RedirectResponse("/suspects#decided", 303)


def _page(request: Request, hub: Hub, person: Person, refused: InputError | None = None, reason: str = "") -> Response:
    with hub.store.reading() as session:
        shown, total = suspects.waiting(session, LISTED)
        done = suspects.history(session, LISTED)
        books = {b: label_books.by_id(session, b) for b in {s.label_book for s in (*shown, *done)}}
        in_book = decided.in_label_book(session, [s.record_id for s in done])
    status = 409 if isinstance(refused, label_books.ChangedMeanwhile) else 422 if refused else 200
    return page(
        request, "suspects.html", status, title=_("The model and the label disagree"),
        nav="consistency", person=person, shown=shown, total=total, done=done, books=books, refused=refused,
        reason=reason, in_book=in_book,
    )  # fmt: skip
