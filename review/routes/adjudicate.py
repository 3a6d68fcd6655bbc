"""The Adjudicate page: labels of one frame side by side, and the decision. For engineers: a labeller stays blind."""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from inspection.errors import InputError, StorageError
from inspection.label_book import LabelBook
from review import adjudication, decided, label_books, measured
from review.clock import wall_ms
from review.deps import Engineer, HubDep, page
from review.hub import Hub
from review.language import _
from review.store import Person

router = APIRouter()
LISTED = 100
DECIDED = 30


@router.get("/adjudicate")
def show_list(request: Request, hub: HubDep, person: Engineer) -> Response:
    with hub.store.reading() as session:
        ranked = adjudication.shown_ranked(session)
        found, total = adjudication.disputes(session, ranked[:LISTED]), len(ranked)
        recent = decided.decided(session, DECIDED)
    return page(
        request, "adjudicate_list.html", title=_("Adjudicate"), nav="consistency", person=person,
        disputes=found, total=total, recent=recent, books=_books(hub, recent),
    )  # fmt: skip


@router.get("/adjudicate/next")
def show_next(hub: HubDep, person: Engineer, after: str = "") -> RedirectResponse:
    """The worst dispute; with `after`, the one behind that, so that skipping goes on and does not come back at once."""
    with hub.store.reading() as session:
        uids = [uid for _id, uid, _compared in adjudication.shown_ranked(session)]
    at = uids.index(after) + 1 if after in uids else 0
    rest = uids[at:] or [u for u in uids if u != after]
    return RedirectResponse(f"/adjudicate/{rest[0]}" if rest else "/adjudicate", 303)


@router.get("/adjudicate/{uid}")
def show(request: Request, hub: HubDep, person: Engineer, uid: str) -> Response:
    return _page(request, hub, person, uid)


@router.get("/adjudicate/{uid}/mask/{label_id}")
def show_mask(hub: HubDep, person: Engineer, uid: str, label_id: int) -> Response:
    """What one person painted, bright where painted: the stored values 1, 2 ... are black to an eye."""
    with hub.store.reading() as session:
        dispute = adjudication.of_record(session, uid)
    label = next((m for m in dispute.labels if m.id == label_id), None) if dispute else None
    if label is None or label.mask is None:
        raise HTTPException(404, f"no mask of label {label_id} on {uid}")
    try:
        mask = cv2.imdecode(np.frombuffer(hub.frames.read(label.mask), np.uint8), cv2.IMREAD_GRAYSCALE)
    except StorageError as e:
        raise HTTPException(404, str(e)) from e
    if mask is None:
        raise HTTPException(404, f"the mask of label {label_id} is broken")
    bright = np.zeros((*mask.shape, 3), np.uint8)
    bright[mask > 0] = (0, 140, 255)
    return Response(cv2.imencode(".png", bright)[1].tobytes(), media_type="image/png")


@router.post("/adjudicate/{uid}")
def decide(
    request: Request, hub: HubDep, person: Engineer, uid: str, reason: Annotated[str, Form()] = "",
    took: Annotated[str, Form()] = "", cls: Annotated[list[str] | None, Form()] = None,
    length_cls: Annotated[list[str] | None, Form()] = None, length_mm: Annotated[list[str] | None, Form()] = None,
    borderline: Annotated[str, Form()] = "", newest: Annotated[int, Form()] = 0,
) -> Response:  # fmt: skip
    """`took` is a label's id, or "own" with the classes ticked and the lengths given; `borderline`: the class whose
    rule the frame then shows, as a borderline case, in the label book's draft; `newest`: the newest decision that the
    page showed, 0 for none."""
    try:
        lengths = dict(zip(length_cls or [], length_mm or [], strict=False))
        own = {c: _length(lengths.get(c, "")) for c in cls or []}
        label_id = None if took == "own" else _label_id(took)
        with hub.store.writing() as session:
            adjudication.decide(session, uid, person.name, reason, wall_ms(), label_id, own, newest)
            if borderline:
                decided.offer(session, uid, borderline, person.name, wall_ms())
    except InputError as e:
        return _page(request, hub, person, uid, e, reason)
    return RedirectResponse(f"/adjudicate/next?after={uid}", 303)


@router.post("/adjudicate/{uid}/borderline")
def offer(request: Request, hub: HubDep, person: Engineer, uid: str, cls: Annotated[str, Form()] = "") -> Response:
    """Show a decided frame in the label book's draft, as a borderline case of the class."""
    try:
        with hub.store.writing() as session:
            decided.offer(session, uid, cls, person.name, wall_ms())
    except InputError as e:
        return _page(request, hub, person, uid, e)
    return RedirectResponse("/adjudicate#decided", 303)


@router.post("/adjudicate/{uid}/gold")
def choose_gold(
    request: Request, hub: HubDep, person: Engineer, uid: str, use: Annotated[bool, Form()] = True,
    reason: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Whether a decided frame may be shown to people as a hidden test."""
    try:
        with hub.store.writing() as session:
            decided.choose_gold(session, uid, use, person.name, reason, wall_ms())
    except InputError as e:
        return _page(request, hub, person, uid, e)
    return RedirectResponse("/adjudicate#decided", 303)


def _books(hub: Hub, recent: list[decided.Decided]) -> dict[str, LabelBook | None]:
    with hub.store.reading() as session:
        return {b: label_books.by_id(session, b) for b in {d.decision.label_book for d in recent}}


def _label_id(took: str) -> int:
    if not took.isdigit():
        raise InputError(_("decision"), _("names no label"), _("choose A, B or E"))
    return int(took)


def _length(text: str) -> float | None:
    try:
        value = float(text) if text.strip() else None
    except ValueError as e:
        raise InputError(_("length"), _("%(text)s is no number", text=repr(text)), _("mm, with a point")) from e
    if value is not None and not 0 <= value < 10_000:
        raise InputError(_("length"), _("%(mm)s mm cannot be", mm=f"{value:g}"), _("mm, 0 or more"))
    return value


def _page(
    request: Request, hub: Hub, person: Person, uid: str, refused: InputError | None = None, reason: str = ""
) -> Response:
    with hub.store.reading() as session:
        dispute = adjudication.of_record(session, uid)
        if dispute is None:
            raise HTTPException(404, f"{uid} is no labelled frame")
        book = label_books.by_id(session, dispute.book_id)
        earlier = adjudication.history(session, dispute.record)
        left = len(adjudication.shown_ranked(session))
        draft = label_books.draft_of(session, book.name) if book else None
    sizes = {
        label.id: {c: measured.longest_mm(label, c) for c in (book.classes if book else ())} for label in dispute.labels
    }
    status = 409 if isinstance(refused, label_books.ChangedMeanwhile) else 422 if refused else 200
    return page(
        request, "adjudicate.html", status, title=_("Adjudicate"), nav="consistency", person=person, d=dispute,
        book=book, sizes=sizes, earlier=earlier, left=left, refused=refused, reason=reason, letters="ABCDFGHI",
        drafted=f"{draft.name}@{draft.version}" if draft else "",
    )  # fmt: skip
