"""The label pages. Blind: what a person is sent holds the frame, the rules and their own label, never another's."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from pydantic import ValidationError

from inspection.errors import InputError, StorageError
from inspection.label_book import LabelBook
from review import label_books, mirror
from review import label_queue as queue
from review.deps import ActingPerson, Engineer, HubDep, NamedPerson, page
from review.exchange import Wanted
from review.export import ARRIVING, export_zip
from review.hub import Hub, wall_ms
from review.labelling import MAX_MASK_BYTES, LabelIn, check
from review.language import _
from review.store import Label, Person

router = APIRouter()

MAX_BODY_BYTES = MAX_MASK_BYTES * 4 // 3 + 2**18
LISTED = 50
DAY_MS = 24 * 3600 * 1000
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@router.get("/label")
def show_queue(request: Request, hub: HubDep, person: ActingPerson) -> Response:
    with hub.store.reading() as session:
        waiting = queue.waiting_for(session, person, LISTED, hub.settings.labels_per_frame)
        today, orphans = queue.done_by(session, person.name, wall_ms() - DAY_MS), queue.without_book(session)
    return page(
        request,
        "label_queue.html",
        title=_("Label"),
        nav="label",
        person=person,
        waiting=waiting,
        done_today=today,
        orphans=orphans,
        may_export=person.role in queue.SETTLES,
        each=hub.settings.labels_per_frame,
    )


@router.get("/label/next")
def show_next(hub: HubDep, person: ActingPerson, after: str = "") -> RedirectResponse:
    """To the frame that waits longest; `after` skips one without labelling it."""
    with hub.store.reading() as session:
        skipped = queue.task(session, after, person.name) if after else None
        following = queue.next_for(session, person, skipped, hub.settings.labels_per_frame)
    return RedirectResponse(f"/label/{following.uid}" if following else "/label", 303)


@router.get("/label/{uid}")
def show_record(request: Request, hub: HubDep, person: ActingPerson, uid: str) -> Response:
    task, book = _labelable(hub, uid, person)
    need = hub.settings.labels_per_frame
    with hub.store.reading() as session:
        mine = queue.current(session, task, person.name)
        following = queue.next_for(session, person, task, need)
        waiting = queue.waiting_for(session, person, 0, need)
        shows = label_books.shown_beside(session, book, task.record.id)
    return page(
        request,
        "label.html",
        title=_("Label"),
        nav="label",
        person=person,
        task=task,
        record=task.record,
        book=book,
        waiting=waiting,
        following=following,
        shows=shows,
        mine_under=mine.label_book if mine and mine.label_book != book.id else None,
        data=_page_data(hub, task, book, mine, person),
    )


@router.get("/label/{uid}/frame")
def show_frame(hub: HubDep, person: ActingPerson, uid: str) -> Response:
    task, _ = _labelable(hub, uid, person)
    assert task.record.image is not None
    return _stored_png(hub, task.record.image, task.flip)


@router.get("/label/{uid}/heat")
def show_heat(hub: HubDep, person: ActingPerson, uid: str) -> Response:
    """The model's suggestion; a request of its own, so that a page never carries it unasked."""
    task, _ = _labelable(hub, uid, person)
    if task.record.heat is None:
        raise HTTPException(404, f"record {uid} came without a heat map")
    return _stored_png(hub, task.record.heat, task.flip)


@router.get("/label/{uid}/mine")
def show_mine(hub: HubDep, person: ActingPerson, uid: str) -> Response:
    """The mask this person painted."""
    task, _ = _labelable(hub, uid, person)
    with hub.store.reading() as session:
        mine = queue.current(session, task, person.name)
    if mine is None or mine.mask is None:
        raise HTTPException(404, f"you have painted nothing on record {uid}")
    data = mirror.picture(hub.frames.read(mine.mask), task.flip)
    return Response(data, media_type="image/png", headers={"Cache-Control": "no-store"})


async def read_label(request: Request) -> LabelIn | InputError:
    """The body, never more than `MAX_BODY_BYTES` of it in memory, as a label or as what is wrong with it."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"a label has at most {MAX_BODY_BYTES} bytes: send the mask as compressed PNG")
    try:
        return LabelIn.model_validate_json(bytes(body))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        return InputError(where, first["msg"], "JSON as the label page sends it")


@router.post("/label/{uid}")
def save_label(
    hub: HubDep, person: NamedPerson, uid: str, label: Annotated[LabelIn | InputError, Depends(read_label)]
) -> Response:
    task, book = _labelable(hub, uid, person)
    width_px, height_px = task.record.width_px, task.record.height_px
    try:
        if isinstance(label, InputError):
            raise label
        checked = mirror.label(check(label, book, width_px, height_px), task.flip, width_px, height_px)
    except InputError as e:
        return JSONResponse({"where": e.where, "what": e.what, "fix": e.fix}, 422)
    # The mask is on disk before the row that names it is.
    mask_sha = hub.frames.put(checked.mask_png) if checked.mask_png is not None else None
    need = hub.settings.labels_per_frame
    with hub.store.writing() as session:
        queue.save(session, uid, person.name, checked, mask_sha, wall_ms(), need)
    with hub.store.reading() as session:
        following = queue.next_for(session, person, task, need)
    return JSONResponse({"saved": uid, "next": f"/label/{following.uid}" if following else "/label"})


def _a_while() -> Iterator[Path]:
    """A folder until the answer has left, or the browser that wanted it: nobody closes an answer's generator then."""
    with tempfile.TemporaryDirectory(prefix=ARRIVING, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@router.get("/labels/export.zip")
def download_labels(
    hub: HubDep, person: Engineer, folder: Annotated[Path, Depends(_a_while)], task: str = "",
    allow_single: bool = False, soft: bool = False, form: Wanted = "labelled",
) -> Response:  # fmt: skip
    try:
        path, summary = export_zip(
            hub.store, hub.frames, folder, task or None,
            allow_single=allow_single, soft=soft, form=form, need=hub.settings.labels_per_frame,
        )  # fmt: skip
    except InputError as e:
        raise HTTPException(422, str(e)) from e
    headers = {"X-Haltline-Export": summary.line()}
    return FileResponse(path, media_type="application/zip", filename=path.name, headers=headers)


def _labelable(hub: Hub, uid: str, person: Person) -> tuple[queue.Task, LabelBook]:
    with hub.store.reading() as session:
        task = queue.task(session, uid, person.name)
        book = queue.book_of(session, task.record) if task else None
    if task is None or task.record.image is None:
        raise HTTPException(404, f"no record {uid} with a picture is here")
    if book is None:
        raise HTTPException(404, f"record {uid} names the label book {task.record.label_book!r}, which the hub lacks")
    return task, book


def _stored_png(hub: Hub, sha: str, flip: str) -> Response:
    try:
        data = mirror.picture(hub.frames.read(sha), flip)
    except (StorageError, InputError) as e:
        raise HTTPException(404, str(e)) from e
    return Response(data, media_type="image/png", headers=FOREVER)


def _page_data(hub: Hub, task: queue.Task, book: LabelBook, mine: Label | None, person: Person) -> dict[str, Any]:
    """What the canvas needs. Nothing of what the model or another person said: both would lead the eye. And nothing
    that tells an ordinary frame from a check."""
    base, record = f"/label/{task.uid}", task.record
    return {
        "uid": task.uid,
        "person": person.name,
        "width": record.width_px,
        "height": record.height_px,
        "pxPerMm": record.px_per_mm,
        "frame": f"{base}/frame",
        "save": base,
        "skip": f"/label/next?after={task.uid}",
        "heat": _heat(hub, task, base),
        "book": json.loads(book.model_dump_json(include={"rules"})) | {"id": book.id},
        "mine": _mine(mine, book, task, base),
    }


def _heat(hub: Hub, task: queue.Task, base: str) -> dict[str, Any] | None:
    record = task.record
    if record.heat is None:
        return None
    to_frame: Sequence[float] = record.heat_to_frame
    if task.flip:
        try:
            header = hub.frames.read(record.heat)[:24]
        except StorageError:
            return None
        size = struct.unpack(">II", header[16:24])
        to_frame = mirror.affine(to_frame, task.flip, (record.width_px, record.height_px), size)
    return {"url": f"{base}/heat", "affine": list(to_frame)}


def _mine(label: Label | None, book: LabelBook, task: queue.Task, base: str) -> dict[str, Any] | None:
    """My earlier label, where the rules it was made under still hold; else the page starts empty and says so."""
    if label is None or label.label_book != book.id:
        return None
    value = {cls: k for k, cls in enumerate(book.classes, start=1)}
    size = task.record.width_px, task.record.height_px
    drawn = [(a["cls"], a["points_px"]) for a in label.annotations if a.get("points_px")]
    lines = [{"value": value[cls], "points": mirror.points(points, task.flip, *size)} for cls, points in drawn]
    return {
        "present": [value[cls] for cls in label.classes],
        "good": not label.classes and not label.unsure,
        "unsure": label.unsure,
        "lines": lines,
        "mask": f"{base}/mine?v={label.created_ms}" if label.mask else None,
    }
