"""The Label book page: the rules in force, the next version as a draft, and publishing it. Everybody reads,
engineers write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from inspection.errors import InputError, StorageError
from inspection.label_book import BOOKS
from review import book_pictures, publishing
from review import label_books as books
from review.clock import wall_ms
from review.deps import ActingPerson, Engineer, HubDep, RowId, page
from review.hub import Hub
from review.label_queue import SETTLES
from review.language import _
from review.store import BookFrame, BookRow, Person

router = APIRouter()

Text = Annotated[str, Form(max_length=4000)]


@router.get("/label-book")
def show_first(person: ActingPerson) -> RedirectResponse:
    return RedirectResponse(f"/label-book/{next(iter(BOOKS.values())).name}", 303)


@router.get("/label-book/{name}")
def show(request: Request, hub: HubDep, person: ActingPerson, name: str) -> Response:
    return _page(request, hub, person, name)


@router.get("/label-book/frames/{frame_id}.jpg")
def show_small(hub: HubDep, person: ActingPerson, frame_id: RowId) -> Response:
    """A small picture for the side of the canvas. A frame of a published version stays as it is, and so does this."""
    with hub.store.reading() as session:
        frame = session.get(BookFrame, frame_id)
        place = book_pictures.place_of(session, frame) if frame else None
    if frame is None:
        raise HTTPException(404, f"no label book shows a frame {frame_id}")
    try:
        data = book_pictures.thumbnail(hub.frames, frame, place)
    except StorageError as e:
        raise HTTPException(404, str(e)) from e
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/label-book/{name}/{version}")
def show_version(request: Request, hub: HubDep, person: ActingPerson, name: str, version: int) -> Response:
    return _page(request, hub, person, name, version)


@router.post("/label-book/{name}/draft")
def begin(request: Request, hub: HubDep, person: Engineer, name: str, reason: Text = "") -> Response:
    return _write(request, hub, person, name, lambda s: books.draft(s, name, person.name, reason, wall_ms()))


@router.post("/label-book/{name}/reason")
def give_reason(request: Request, hub: HubDep, person: Engineer, name: str, reason: Text = "") -> Response:
    return _write(request, hub, person, name, lambda s: books.set_reason(s, _draft(s, name), person.name, reason))


@router.post("/label-book/{name}/rule")
def change_rule(
    request: Request,
    hub: HubDep,
    person: Engineer,
    name: str,
    cls: Text,
    limit_mm: Annotated[float, Form()],
    rule: Text,
    low_mm: Annotated[float | None, Form()] = None,
    high_mm: Annotated[float | None, Form()] = None,
    regions: Annotated[int | None, Form()] = None,
    within_mm: Annotated[float | None, Form()] = None,
    depth_mm: Annotated[float | None, Form()] = None,
    sign: Text = "",
    sign_mm: Annotated[float | None, Form()] = None,
) -> Response:
    """A count and a depth are whole or left out: half of one is refused, naming what is missing."""
    band = None if low_mm is None or high_mm is None else (low_mm, high_mm)
    count = _whole(regions=regions, within_mm=within_mm)
    depth = _whole(depth_mm=depth_mm, sign=sign.strip() or None, sign_mm=sign_mm)
    changes = {"limit_mm": limit_mm, "rule": rule.strip(), "ambiguous_mm": band, "count": count, "depth": depth}
    return _write(request, hub, person, name, lambda s: books.set_rule(s, _draft(s, name), cls, **changes))


def _whole(**fields: float | str | None) -> dict[str, float | str] | None:
    """What was filled in; None where nothing was."""
    return {name: value for name, value in fields.items() if value is not None} or None


@router.post("/label-book/{name}/frame")
def add_frame(
    request: Request, hub: HubDep, person: Engineer, name: str, cls: Text, kind: Text, uid: Text, note: Text = ""
) -> Response:
    return _write(
        request, hub, person, name,
        lambda s: books.show_frame(s, _draft(s, name), cls, kind, uid, note, person.name, wall_ms()),
    )  # fmt: skip


@router.post("/label-book/{name}/frame/{frame_id}/remove")
def remove_frame(request: Request, hub: HubDep, person: Engineer, name: str, frame_id: int) -> Response:
    return _write(request, hub, person, name, lambda s: books.hide_frame(s, _draft(s, name), frame_id))


@router.post("/label-book/{name}/publish")
def publish(request: Request, hub: HubDep, person: Engineer, name: str, seen: Text = "") -> Response:
    """`seen`: the fingerprint of the draft as the page showed it; a rule that nobody read is not put into force."""
    each = hub.settings.labels_per_frame
    return _write(
        request, hub, person, name,
        lambda s: publishing.publish(s, _draft(s, name), person.name, _needed(hub), wall_ms(), each, seen),
    )  # fmt: skip


def _needed(hub: Hub) -> books.FramesNeeded:
    return books.FramesNeeded(*hub.settings.book_frames)


def _draft(session: Session, name: str) -> BookRow:
    row = books.draft_of(session, name)
    if row is None:
        raise InputError(name, _("has no draft"), _("begin one: somebody may have published it meanwhile"))
    return row


def _write(request: Request, hub: Hub, person: Person, name: str, act: Callable[[Session], object]) -> Response:
    """Do it and show the page again; with what was wrong, when it was refused."""
    try:
        with hub.store.writing() as session:
            act(session)
    except InputError as e:
        return _page(request, hub, person, name, refused=e)
    return RedirectResponse(f"/label-book/{name}", 303)


def _page(
    request: Request, hub: Hub, person: Person, name: str, version: int | None = None, refused: InputError | None = None
) -> Response:
    with hub.store.reading() as session:
        known = books.versions(session, name)
        if not known:
            raise HTTPException(404, f"no label book is called {name!r}: {[b.name for b in BOOKS.values()]}")
        book = next((b for b in known if version in (None, b.version)), None)
        if book is None:
            raise HTTPException(404, f"{name} has no version {version}")
        row = books.draft_of(session, name) if version is None else None
        status = 409 if isinstance(refused, books.ChangedMeanwhile) else 422 if refused else 200
        return page(
            request, "label_book.html", status, title=_("Label book"), nav="label_book", person=person,
            names=[b.name for b in BOOKS.values()], book=book, versions=known, frames=books.frames_of(session, book),
            draft=books.as_book(row) if row else None,
            draft_frames=books.frames_of(session, books.as_book(row)) if row else {},
            missing=books.missing(session, row, _needed(hub)) if row else [],
            touched=publishing.touched(session, row) if row else [],
            waiting=publishing.waiting_to_relabel(session, name), needed=_needed(hub), kinds=books.KINDS,
            refused=refused, may_change=person.role in SETTLES,
            seen=publishing.fingerprint(session, row) if row else "",
        )  # fmt: skip
