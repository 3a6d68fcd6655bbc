"""The audit log as a page and as a file; for engineers, because it tells of everybody."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy import select

from review import audit
from review.deps import Engineer, HubDep, RowId, page
from review.language import _
from review.store import AuditRow

router = APIRouter()

PAGE = 50


@router.get("/audit")
def show(
    request: Request,
    hub: HubDep,
    person: Engineer,
    who: Annotated[str, Query(max_length=64)] = "",
    before: RowId | None = None,
    check: bool = False,
) -> Response:
    """Newest first; `check` reads the whole chain, which takes seconds where there are many acts."""
    wanted = [*([AuditRow.who == who] if who else []), *([AuditRow.seq < before] if before else [])]
    with hub.store.reading() as session:
        query = select(AuditRow).where(*wanted).order_by(AuditRow.seq.desc()).limit(PAGE + 1)
        rows = session.scalars(query).all()
    checked = audit.stored_problems(hub.store, hub.settings.data_dir) if check else None
    return page(
        request,
        "audit.html",
        title=_("Audit log"),
        nav="audit",
        person=person,
        rows=rows[:PAGE],
        more=rows[PAGE - 1].seq if len(rows) > PAGE else None,
        who=who,
        head=audit.newest(hub.store),
        checked=checked,
    )


@router.get("/audit/export.jsonl")
def export(hub: HubDep, person: Engineer) -> StreamingResponse:
    headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(audit.export(hub.store), media_type="application/jsonl", headers=headers)
