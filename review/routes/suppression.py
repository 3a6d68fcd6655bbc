"""Rules that keep station alarms quiet, and stations somebody works at. Everybody reads them; engineers write rules."""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select

from inspection.errors import InputError
from review import faults, suppression
from review.broadcast import News
from review.clock import wall_ms
from review.deps import ActingPerson, Engineer, HubDep, MaybePerson, RowId, page
from review.fault_kinds import KINDS, RUNS_ANYWAY
from review.hub import Hub
from review.language import _
from review.shelving import MINUTES
from review.store import Maintenance, Person, Station, SuppressionRule
from review.suppression import CONDITION_WORDS, Condition, Wanted

router = APIRouter()

Line = Annotated[str, Form(max_length=1000)]


@router.get("/alarms/rules")
def show(request: Request, hub: HubDep, person: MaybePerson, change: RowId | None = None) -> Response:
    """`change`: the number of a rule whose next version is to be written."""
    return _show(request, hub, person, change=change)


@router.post("/alarms/rules")
def define(
    request: Request,
    hub: HubDep,
    person: Engineer,
    name: Line = "",
    why: Line = "",
    condition: Annotated[Condition, Form()] = Condition.MAINTENANCE,
    kind: Line = "",
    whole_line: Annotated[bool, Form()] = False,
    stations: Line = "*",
    alarms: Annotated[list[str], Form(max_length=40)] = [],  # noqa: B006 - FastAPI copies it
    rule: Annotated[RowId | None, Form()] = None,
) -> Response:
    wanted = Wanted(rule, name, condition, kind, whole_line, stations.strip(), tuple(alarms), why)
    try:
        with hub.store.writing() as session:
            suppression.define(session, wanted, person.name, wall_ms())
    except InputError as e:
        return _show(request, hub, person, f"{e.where} {e.what}: {e.fix}", wanted, rule)
    hub.news.tell(News("halt", "rule"))
    return RedirectResponse("/alarms/rules", 303)


@router.post("/alarms/rules/{rule}/end")
def end(hub: HubDep, person: Engineer, rule: RowId) -> RedirectResponse:
    with hub.store.writing() as session:
        suppression.end(session, rule, person.name, wall_ms())
    hub.news.tell(News("halt", "rule"))
    return RedirectResponse("/alarms/rules", 303)


@router.post("/alarms/maintenance")
def maintenance(
    request: Request,
    hub: HubDep,
    person: ActingPerson,
    station: Annotated[RowId, Form()],
    minutes: Annotated[int, Form()] = 0,
    why: Line = "",
) -> Response:
    try:
        with hub.store.writing() as session:
            suppression.begin_maintenance(session, station, person.name, why, minutes, wall_ms())
    except InputError as e:
        return _show(request, hub, person, f"{e.where} {e.what}: {e.fix}")
    hub.news.tell(News("halt", "rule"))
    return RedirectResponse("/alarms/rules", 303)


@router.post("/alarms/maintenance/{row_id}/end")
def end_maintenance(hub: HubDep, person: ActingPerson, row_id: RowId) -> RedirectResponse:
    with hub.store.writing() as session:
        if (row := session.get(Maintenance, row_id)) is not None:
            suppression.end_maintenance(session, row, person.name, wall_ms())
    hub.news.tell(News("halt", "rule"))
    return RedirectResponse("/alarms/rules", 303)


@router.post("/alarms/faults/{fault_id}/ack")
def ack(hub: HubDep, person: ActingPerson, fault_id: RowId) -> RedirectResponse:
    with hub.store.writing() as session:
        faults.acknowledge(session, fault_id, person.name, wall_ms())
    hub.news.tell(News("halt", "fault"))
    return RedirectResponse("/alarms", 303)


def _show(
    request: Request,
    hub: Hub,
    person: Person | None,
    problem: str = "",
    wanted: Wanted | SuppressionRule | None = None,
    change: int | None = None,
) -> Response:
    with hub.store.reading() as session:
        rules, past = suppression.in_force(session), suppression.history(session)
        here = select(Station).where(Station.retired_ms.is_(None))
        stations = sorted(session.scalars(here), key=suppression.place)
        working = list(suppression.in_maintenance(session, wall_ms()).values())
        now_ns = time.monotonic_ns()
        at_edge = [now.topics for now in hub.live.stations() if faults.in_maintenance(now, now_ns)]
        held = [f for f in faults.open_faults(session) if f.suppressed_by is not None]
    of_rule = Counter(f.suppressed_by for f in held)
    return page(
        request,
        "suppression.html",
        422 if problem else 200,
        nav="alarms",
        title=_("Suppression"),
        person=person,
        engineer=person is not None and person.role in ("engineer", "admin"),
        problem=problem,
        form=wanted or next((r for r in rules if r.rule == change), None),
        change=change,
        rules=rules,
        past=past,
        of_rule=of_rule,
        held=held,
        stations=stations,
        working=working,
        at_edge=at_edge,
        minutes=MINUTES,
        kinds=KINDS,
        choices=[kind for kind in KINDS if kind != RUNS_ANYWAY],
        conditions=CONDITION_WORDS,
    )
