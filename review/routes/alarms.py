"""The alarm list: what holds a line first, bursts as one item, the shelf, then the past, a page at a time by key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from review import alarm_row, faults, shelving
from review.alarms import ACTIVE, OPEN, UNACKED, State, Verdict
from review.bursts import Burst, Listed, bursts
from review.clock import wall_ms
from review.deps import ActingPerson, HubDep, MaybePerson, RowId, page, same_for_all
from review.halt_view import VERDICT_WORDS, shelf_words
from review.halts import NotNow, acknowledge, load, urgency
from review.hub import Hub
from review.language import _
from review.store import Halt, Person, Shelf, Station

router = APIRouter()

PAGE = 25
MAX_OPEN = 200

Ids = Annotated[str, Field(pattern=r"^[0-9]{1,9}(,[0-9]{1,9})*$", max_length=2400)]
"""What one checkbox stands for: the unacknowledged halts of a burst."""
Ms = Annotated[int | None, Query(ge=0, le=10**14)]
OpenKey = Annotated[str, Query(pattern=r"^([0-2]-[1-9][0-9]{0,8})?$")]
"""The last open halt of the page before: how urgent it was then (`halts.urgency`) and its id."""


@router.get("/alarms")
async def alarms(
    request: Request,
    hub: HubDep,
    person: MaybePerson,
    station: str = "",
    verdict: Verdict | Literal[""] = "",
    cls: Annotated[str | None, Query(max_length=32)] = None,
    code: Annotated[int | None, Query(ge=0, le=99)] = None,
    from_ms: Ms = None,
    to_ms: Ms = None,
    before: RowId | None = None,
    open_after: OpenKey = "",
) -> Response:
    """`station` is a station's key; `before` the id of the last halt of the page before, `open_after` likewise of the
    open ones; the rest are filters that the numbers of the Alarm performance page link with. The page's own form says
    station and verdict always, empty for all."""
    asked = Asked(station, verdict or None, cls, code, from_ms, to_ms, before, open_after)

    def make() -> Response:
        return _list(request, hub, person, asked)

    if request.headers.get("hx-request"):  # the list alone: a refetch after news, of every tab at once
        return await same_for_all(request, make, signed_in=person is not None)
    return await run_in_threadpool(make)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which alarms; the address in one value."""

    station: str
    verdict: Verdict | None
    cls: str | None
    code: int | None
    from_ms: int | None
    to_ms: int | None
    before: int | None
    open_after: str

    @property
    def first(self) -> bool:
        """Not a page of what was cut off: the one with everything."""
        return self.before is None and not self.open_after


def _list(request: Request, hub: Hub, person: Person | None, asked: Asked) -> Response:
    now_ms, station, before = wall_ms(), asked.station, asked.before
    with hub.store.reading() as session:
        stations = sorted(session.scalars(select(Station)), key=lambda s: s.key)
        chosen = [s.id for s in stations if not station or s.key == station]
        which: list[ColumnElement[bool]] = [Halt.station_id.in_(chosen)] if station else []
        for column, value in ((Halt.verdict, asked.verdict), (Halt.cls, asked.cls), (Halt.code, asked.code)):
            which += [column == value] if value is not None else []
        which += [Halt.at_ms >= asked.from_ms] if asked.from_ms is not None else []
        which += [Halt.at_ms < asked.to_ms] if asked.to_ms is not None else []
        still_open, hidden = ([], 0) if before else _open(session, which, asked.open_after)
        closed = [] if asked.open_after else _closed(session, which, before)
        shelves = shelving.current(session, now_ms)
        of_stations = (
            [] if not asked.first else [f for f in faults.listed(session) if not station or f.station_id in chosen]
        )
    open_bursts = sorted(bursts(still_open), key=lambda b: _urgency(b, shelves))
    signed_in = person is not None
    return page(
        request,
        "alarms_list.html" if request.headers.get("hx-request") else "alarms.html",
        nav="alarms",
        title=_("Alarms"),
        person=person,
        open=[_row(b, shelves, signed_in) for b in open_bursts],
        may_ack=signed_in and any(b.unacked and not b.held for b in open_bursts),
        hidden=hidden,
        open_more=request.url.include_query_params(open_after=_key(still_open[-1])).query if hidden else None,
        first=asked.first,
        open_after=asked.open_after,
        closed=[alarm_row.facts(b, may_act=False, shelf="") for b in bursts(closed[:PAGE])[::-1]],
        more=request.url.include_query_params(before=closed[PAGE - 1].id).query if len(closed) > PAGE else None,
        filtered=bool(which),
        shelves=shelves,
        faults=[_fault_row(f, shelves, signed_in) for f in of_stations if f.rule is None],
        suppressed=[_fault_row(f, shelves, signed_in) for f in of_stations if f.rule is not None],
        stations=stations,
        station=station,
        verdict=asked.verdict or "",
        verdicts=VERDICT_WORDS,
    )


@router.post("/alarms/ack")
def ack_many(
    hub: HubDep, person: ActingPerson, ids: Annotated[list[Ids], Form(max_length=MAX_OPEN)]
) -> RedirectResponse:
    """Only what no longer holds a line: each of the others is looked at on its own page."""
    for halt_id in {int(i) for several in ids for i in several.split(",")}:
        with hub.store.reading() as session:
            held = load(session, halt_id).state in ACTIVE
        try:
            if not held:
                acknowledge(hub, halt_id, person.name)
        except NotNow:
            continue  # somebody else was faster
    return RedirectResponse("/alarms", 303)


def _row(burst: Burst, shelves: dict[shelving.CauseKey, Shelf], signed_in: bool) -> alarm_row.RowFacts:
    shelf = shelves.get(burst.cause)
    return alarm_row.facts(burst, may_act=signed_in, shelf=shelf_words(shelf) if shelf else "")


def _fault_row(
    fault: faults.ListedFault, shelves: dict[shelving.CauseKey, Shelf], signed_in: bool
) -> alarm_row.FaultFacts:
    shelf = shelves.get(shelving.cause_of_fault(fault.station_id, fault.kind))
    return alarm_row.fault_facts(fault, signed_in=signed_in, shelf=shelf_words(shelf) if shelf else "")


def _urgency(burst: Burst, shelves: dict[shelving.CauseKey, Shelf]) -> tuple[bool, bool, bool, int]:
    """What calls comes before what is shelved or seen, what holds a line before what is over, oldest first."""
    return burst.cause in shelves, not burst.unacked, not burst.held, burst.halts[0].at_ms


LISTED = (
    Halt.id, Halt.station_id, Halt.code, Halt.cls, Halt.state, Halt.at_ms, Halt.verdict, Halt.length_mm,
    Station.line, Station.station,
)  # fmt: skip
"""The columns of `Listed`. Whole halts bring their stages and records as JSON, which no list shows."""


def _rows(session: Session, found: Select[*tuple[Any, ...]]) -> list[Listed]:
    # An outer join: it is the halts that are in order, and a database may begin with the stations otherwise.
    return [Listed(*row) for row in session.execute(found.join(Station, isouter=True))]


def _open(session: Session, which: list[ColumnElement[bool]], after: str = "") -> tuple[list[Listed], int]:
    """What holds a line, what nobody has seen, then the newest of the rest, and how many more are open: a flood hides
    no new one, and whoever acknowledges it gets to its end. `after`: an `OpenKey`."""
    wanted = [*which, Halt.state.in_([*OPEN])]
    if after:
        rank, last = map(int, after.split("-"))
        wanted.append(or_(urgency() > rank, and_(urgency() == rank, Halt.id < last)))
    found = select(*LISTED).select_from(Halt).where(*wanted)
    first = _rows(session, found.order_by(urgency(), Halt.id.desc()).limit(MAX_OPEN))
    if len(first) < MAX_OPEN:
        return first, 0
    count = select(func.count()).select_from(Halt).where(*wanted)
    return first, (session.scalar(count) or 0) - len(first)


def _key(halt: Listed) -> str:
    rank = 0 if halt.state in ACTIVE else 1 if halt.state in UNACKED else 2
    return f"{rank}-{halt.id}"


def _closed(session: Session, which: list[ColumnElement[bool]], before: int | None) -> list[Listed]:
    older = () if before is None else (Halt.id < before,)
    found = select(*LISTED).select_from(Halt).where(*which, Halt.state == State.CLOSED, *older)
    return _rows(session, found.order_by(Halt.id.desc()).limit(PAGE + 1))
