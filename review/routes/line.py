"""The Line page: every station with its state, its picture and the open halt to look at first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inspection.errors import StorageError
from inspection.live_picture import LivePicture
from inspection.types import Code
from review import pictures, shelving
from review.alarms import ACTIVE, OPEN
from review.clock import wall_ms
from review.deps import HubDep, page, same_for_all
from review.halt_view import cause_words, reason_words
from review.hub import Hub
from review.language import N_, _, current, raw
from review.live import NEVER_MS, PERMIT_STALE_MS, Mode, Now, Shown, shown
from review.shelving import CauseKey
from review.station_card import CardFacts
from review.store import Halt, Shelf, Station, ids_by_key

router = APIRouter()

Shelves = dict[CauseKey, Shelf]
Floor = tuple[dict[int, tuple[Halt, int]], dict[int, int | None]]
"""By station: the open halt to look at first with how many are open, and when its newest began."""


@dataclass(frozen=True, slots=True)
class Card:
    """What one station's card says. `picture_at_ms`: when its picture reached the hub, by the hub's clock."""

    now: Now
    shown: Shown
    picture_at_ms: int | None
    plc: str
    runs_without_permit: bool
    halt: Halt | None
    open_halts: int
    last_halt_ms: int | None
    shelf: Shelf | None

    @property
    def facts(self) -> CardFacts:
        """What the Line page shows of it."""
        now, halt, shelf = self.now, self.halt, self.shelf
        picture, model = now.picture, now.model
        return CardFacts(
            language=current(), today=datetime.now().astimezone().date(), key=now.key, site=now.topics.site,
            line=now.topics.line, station=now.topics.station, mode=self.shown.mode, word=self.shown.word,
            why=self.shown.why, plc=self.plc, runs_without_permit=self.runs_without_permit,
            camera=picture.camera if picture else None, call=picture.call if picture else "",
            picture_at_ms=self.picture_at_ms, halt_id=halt.id if halt else None,
            cause=cause_words(halt) if halt else "", length_mm=halt.length_mm if halt else 0.0,
            unacked=halt is not None and halt.state.endswith("UNACKED"), judged=halt is not None and bool(halt.verdict),
            asked=halt is not None and halt.code == Code.STOP,
            halt_at_ms=halt.at_ms if halt else 0, open_halts=self.open_halts, shelved=shelf is not None,
            shelf_until_ms=shelf.until_ms if shelf else None, last_halt_ms=self.last_halt_ms,
            bundle=model.bundle if model else "",
            refused=model.wanted if model is not None and model.state == "refused" else "",
        )  # fmt: skip


@router.get("/")
def line(request: Request, hub: HubDep) -> Response:
    return page(request, "line.html", cards=_facts(hub), nav="line", title=_("Line"))


@router.get("/line/stations")
async def stations(request: Request, hub: HubDep) -> Response:
    return await same_for_all(request, lambda: page(request, "line_stations.html", person=None, cards=_facts(hub)))


Key = Annotated[str, Path(max_length=100)]
Camera = Annotated[str, Query(max_length=400)]
NOW_ONLY = {"Cache-Control": "no-store"}


@router.get("/stations/{key}")
def station(request: Request, hub: HubDep, key: Key) -> Response:
    return _cameras(request, hub, key, "line_station.html")


@router.get("/stations/{key}/cameras")
def cameras(request: Request, hub: HubDep, key: Key) -> Response:
    return _cameras(request, hub, key, "line_cameras.html")


@router.get("/live/{key}.jpg")
def picture(hub: HubDep, key: Key, camera: Camera = "") -> Response:
    return Response(_live_picture(hub, key, camera).jpeg, media_type="image/jpeg", headers=NOW_ONLY)


@router.get("/live/{key}/heat.png")
def live_heat(hub: HubDep, key: Key, camera: Camera = "") -> Response:
    """The newest picture's heat map, to be laid over it; 204 while all of it is cold."""
    heat = _live_picture(hub, key, camera).heat
    if not heat:
        return Response(status_code=204, headers=NOW_ONLY)
    try:
        size = pictures.png_size(heat) or (0, 0)
        layer = pictures.heat_layer(heat, (1, 0, 0, 0, 1, 0), pictures.Rect(0, 0, *size))
    except StorageError as e:
        raise HTTPException(404, f"the edge's heat map does not read: {e}") from e
    return Response(layer, media_type="image/png", headers=NOW_ONLY)


def _live_picture(hub: Hub, key: str, camera: str) -> LivePicture:
    """`camera` empty: the station's first."""
    now = hub.live.get(key)
    seen = now.pictures.get(camera) if now and camera else None
    found = seen.picture if seen else now.picture if now and not camera else None
    if found is None:
        raise HTTPException(404, "no picture has arrived from this camera since the hub started")
    return found


def _cameras(request: Request, hub: Hub, key: str, template: str) -> Response:
    now_ns, now_ms = time.monotonic_ns(), wall_ms()
    card = next((c for c in cards(hub) if c.now.key == key), None)
    if card is None:
        raise HTTPException(404, _("no station %(key)s has reported", key=key))
    seen = [(s.picture, now_ms - (now_ns - s.at_ns) // 1_000_000) for _, s in sorted(card.now.pictures.items())]
    return page(request, template, c=card, seen=seen, nav="line", title=card.now.topics.station)


def _facts(hub: Hub) -> list[CardFacts]:
    return [card.facts for card in cards(hub)]


def cards(hub: Hub) -> list[Card]:
    now_ns, now_ms = time.monotonic_ns(), wall_ms()
    with hub.store.reading() as session:
        rows = ids_by_key(session)
        shelves = shelving.current(session, now_ms)
        open_halts, last_halt = _floor(session, now_ms)
        stations = [(now, shown(now, now_ns), rows.get(now.key, 0)) for now in hub.live.stations()]
        reasons = _reasons(session, stations)
        return [
            _card(now, seen, reasons.get(row, ""), open_halts.get(row), last_halt.get(row), shelves, now_ns, now_ms)
            for now, seen, row in stations
        ]


def _floor(session: Session, now_ms: int) -> Floor:
    """Two queries for all stations: what each has open, and when its newest halt was."""
    # What calls before what is shelved: a shelf must not stand in front of another halt. Then what holds the line: an
    # old one that only waits for a verdict would else stand in front of the one with Reset.
    order = (shelving.calling(now_ms).desc(), Halt.state.in_([*ACTIVE]).desc(), Halt.id)
    first = func.row_number().over(partition_by=Halt.station_id, order_by=order)
    count = func.count().over(partition_by=Halt.station_id)
    ranked = select(Halt.id, first.label("place"), count.label("n")).where(Halt.state.in_([*OPEN])).subquery()
    found = select(Halt, ranked.c.n).join(ranked, ranked.c.id == Halt.id).where(ranked.c.place == 1)
    foremost = {halt.station_id: (halt, n) for halt, n in session.execute(found)}
    newest = select(func.max(Halt.at_ms)).where(Halt.station_id == Station.id).correlate(Station).scalar_subquery()
    last: dict[int, int | None] = dict(tuple(row) for row in session.execute(select(Station.id, newest)))
    return foremost, last


def _card(
    now: Now,
    seen: Shown,
    reason: str,
    foremost: tuple[Halt, int] | None,
    last_halt_ms: int | None,
    shelves: Shelves,
    now_ns: int,
    now_ms: int,
) -> Card:
    age_ms = now.picture_age_ms(now_ns)
    picture_at = None if age_ms >= NEVER_MS else now_ms - age_ms
    halt, count = foremost or (None, 0)
    shelf = shelves.get(shelving.cause_of(halt)) if halt else None
    return Card(
        now,
        replace(seen, why=reason) if reason else seen,
        picture_at,
        _plc_word(now, now_ns),
        _runs_anyway(now, now_ns),
        halt,
        count,
        last_halt_ms,
        shelf,
    )


def _runs_anyway(now: Now, now_ns: int) -> bool:
    """The line moves though it has no permit: its watchdog does not work, and somebody must know at once."""
    moving = now.plc is not None and now.plc.state == "RUNNING" and not now.plc_silent(now_ns)
    permitted = now.permit is not None and now.permit.run == 1 and now.permit_age_ms(now_ns) <= PERMIT_STALE_MS
    return moving and not permitted


def _reasons(session: Session, stations: Sequence[tuple[Now, Shown, int]]) -> dict[int, str]:
    """By station's row: a halted station says why in the edge's own words, once the halt event is here."""
    held = {row: now.permit.halt for now, seen, row in stations if seen.mode is Mode.HALTED and now.permit is not None}
    if not held:
        return {}
    # All that hold a line in one query, then the few that the hub has closed already: a database reads every halt
    # when it is asked for pairs.
    active = session.scalars(select(Halt).where(Halt.state.in_([*ACTIVE])))
    halts = {h.station_id: h for h in active if held.get(h.station_id) == h.halt}
    for row in held.keys() - halts.keys():
        if halt := session.scalar(select(Halt).where(Halt.station_id == row, Halt.halt == held[row])):
            halts[row] = halt
    return {row: reason_words(halt) for row, halt in halts.items() if halt.reason}


def _plc_word(now: Now, now_ns: int) -> str:
    if now.plc is None:
        return _("not reported")
    words = {"RUNNING": N_("running"), "TRIPPED": N_("tripped"), "READY": N_("ready to start")}
    said = raw(words[now.plc.state])
    return _("silent (last said %(state)s)", state=said) if now.plc_silent(now_ns) else said
