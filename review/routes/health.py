"""For machines: is the hub alive, what has it counted, which halts are open."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from sqlalchemy import func, select

from review.alarms import OPEN
from review.deps import HubDep, RowId
from review.store import Halt, Record
from review.system import failing

router = APIRouter()


@router.get("/healthz")
def healthz(hub: HubDep) -> Response:
    """200 while database, audit log, storage, disk, broker and badges work; 503 and which one does not."""
    wrong = failing(hub)
    return JSONResponse({"ok": not wrong, **wrong}, 503 if wrong else 200)


@router.get("/api/halts")
def halts(
    hub: HubDep,
    open_only: bool = False,
    before: RowId | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[dict[str, Any]]:
    """Newest first. `before` is the id of the last one of the page before."""
    query = select(Halt).order_by(Halt.id.desc()).limit(limit)
    if open_only:
        query = query.where(Halt.state.in_([*OPEN]))
    if before is not None:
        query = query.where(Halt.id < before)
    with hub.store.reading() as session:
        return [_as_json(halt) for halt in session.scalars(query)]


@router.get("/metrics")
def metrics(hub: HubDep) -> Response:
    """Prometheus text. Counters restart with the hub; rows are counted in the database."""
    with hub.store.reading() as session:
        by_state = session.execute(select(Halt.state, func.count()).group_by(Halt.state)).all()
        records = session.scalar(select(func.count()).select_from(Record)) or 0
    lines = ["# TYPE haltline_hub_messages_total counter"]
    lines += [f'haltline_hub_messages_total{{what="{k}"}} {v}' for k, v in sorted(hub.counts().items())]
    lines += ["# TYPE haltline_hub_halts gauge"]
    lines += [f'haltline_hub_halts{{state="{state}"}} {n}' for state, n in by_state]
    lines += ["# TYPE haltline_hub_records gauge", f"haltline_hub_records {records}"]
    lines += ["# TYPE haltline_hub_broker_connected gauge", f"haltline_hub_broker_connected {int(hub.connected())}"]
    lines += ["# TYPE haltline_hub_streams gauge", f"haltline_hub_streams {hub.news.open_streams}"]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _as_json(halt: Halt) -> dict[str, Any]:
    names = [c.name for c in Halt.__table__.columns if c.name != "station_id"]
    return {"station": halt.station.key, **{name: getattr(halt, name) for name in names}}
