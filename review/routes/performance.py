"""The Alarm performance page: every number beside its target, and a link to the alarms it counts."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from review import faults, performance
from review.clock import wall_ms
from review.deps import HubDep, page
from review.halt_view import CODE_WORDS
from review.language import _
from review.performance import CauseCount, Report

router = APIRouter()


@router.get("/performance")
def show(request: Request, hub: HubDep, days: Annotated[int, Query(ge=1, le=30)] = 1) -> Response:
    if days not in performance.DAYS:
        choices = ", ".join(map(str, performance.DAYS))
        raise HTTPException(422, _("%(days)s days is no choice: one of %(choices)s", days=days, choices=choices))
    now_ms = wall_ms()
    with hub.store.reading() as session:
        from_ms, bar_hours = now_ms - days * performance.DAY_MS, performance.DAYS[days]
        held = faults.held(session, from_ms, now_ms)
        report = performance.report(session, from_ms, now_ms, hub.counted, bar_hours)
    return page(
        request,
        "performance.html",
        nav="performance",
        title=_("Alarm performance"),
        r=report,
        held=held,
        days=days,
        choices=list(performance.DAYS),
        bar_hours=bar_hours,
        limits=performance,
        code_words=CODE_WORDS,
        link=_link,
        cause_link=lambda c: _cause_link(report, c),
    )


def _link(from_ms: int, to_ms: int, **more: object) -> str:
    return "/alarms?" + urlencode({"from_ms": from_ms, "to_ms": to_ms, **more})


def _cause_link(report: Report, c: CauseCount) -> str:
    return _link(report.from_ms, report.to_ms, station=c.station.key, code=c.code, cls=c.cls)
