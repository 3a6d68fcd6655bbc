"""Which bundle each station should serve, who asked for it, and what its edge made of the request.

A request is a retained message, so an edge that was away meets it when it comes back. The edge decides: it verifies,
replays the golden frames, and serves or refuses; what it reports is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inspection.errors import BundleError, InputError
from inspection.messages import Message, ModelDesired, ModelReported, Topics
from review.registry import Bundle, Registry, url_of
from review.store import Bundle as BundleRow
from review.store import Rollout, Station, Store

Publish = Callable[[Topics, Message], bool]
Known = dict[str, Bundle | None]
"""What the registry has, newest first, by id; None where it cannot be served."""
HISTORY = 5
MAY_ROLL_OUT = ("engineer", "admin")


@dataclass(frozen=True, slots=True)
class StationModel:
    """What the Models page shows of one station. `state`: none, asked, fetching, refused or serving."""

    station: Station
    state: str
    why: str
    asked: Rollout | None
    history: Sequence[Rollout]
    back_to: str | None
    """The bundle a roll back would bring, None when there is none."""


def keep_row(session: Session, bundle: Bundle, folder: str, who: str, now_ms: int) -> BundleRow:
    """The bundle's row, made when it is new; who brought it stays the first one."""
    row = session.scalar(select(BundleRow).where(BundleRow.bundle == bundle.id))
    if row is None:
        row = BundleRow(
            bundle=bundle.id, manifest_sha256=bundle.sha256, path=folder, uploaded_by=who, uploaded_ms=now_ms
        )
        session.add(row)
        session.flush()
    return row


def brought_by(session: Session) -> dict[str, BundleRow]:
    """Bundle id -> its row: who brought it and when."""
    return {row.bundle: row for row in session.scalars(select(BundleRow))}


def find_station(session: Session, key: str) -> Station:
    """The station of `site~line~station`; InputError when there is none."""
    parts = key.split("~")
    found = None
    if len(parts) == 3:
        names = zip((Station.site, Station.line, Station.station), parts, strict=True)
        found = session.scalar(select(Station).where(*(column == name for column, name in names)))
    if found is None:
        raise InputError("station", f"{key!r} is not known", "it appears here when its edge connects")
    return found


def ask(
    session: Session,
    publish: Publish,
    registry: Registry,
    station: Station,
    bundle: Bundle,
    who: str,
    now_ms: int,
    *,
    rollback: bool,
) -> Rollout:
    """Record the request and send it; InputError, and no record, when it makes no sense or cannot be sent."""
    _check_fits(registry, station, bundle, rollback=rollback)
    row = keep_row(session, bundle, str(registry.folder / bundle.id), "", now_ms)
    before = _history(session, station, 1)
    if before:  # an edge goes by the time; a clock that was set back must not make this request the older one
        now_ms = max(now_ms, before[0].wanted_ms + 1)
    rollout = Rollout(
        station_id=station.id,
        bundle_id=row.id,
        wanted_by=who,
        wanted_ms=now_ms,
        rollback=rollback,
        state="asked",
        why="",
        state_ms=now_ms,
    )
    session.add(rollout)
    session.flush()
    message = ModelDesired(bundle=bundle.id, sha256=bundle.sha256, url=bundle.url, rollback=rollback, ts_ms=now_ms)
    # Sent before the commit: a request that is recorded but was never sent would be waited for in vain.
    if not publish(Topics(station.site, station.line, station.station), message):
        raise InputError("broker", "the hub is not connected to it, so nothing was asked", "try again when it is back")
    return rollout


def say_again(store: Store, publish: Publish) -> None:
    """Send every station's newest request once more. A broker that has restarted may have forgotten it, and an edge
    that asks it then would go on with what was withdrawn."""
    with store.reading() as session:
        asked = session.scalars(select(Rollout.station_id).distinct()).all()
    for station_id in asked:
        with store.writing() as session:
            # Held, one at a time: `ask` refers to its station before it sends, so that a newer request goes out after
            # this one, and is what the broker keeps. On SQLite one session writes at a time anyway.
            station = session.get_one(Station, station_id, with_for_update=True)
            newest = _history(session, station, 1)[0]
            bundle = newest.bundle.bundle
            sha256 = newest.bundle.manifest_sha256
            back, asked_ms = newest.rollback, newest.wanted_ms
            message = ModelDesired(bundle=bundle, sha256=sha256, url=url_of(bundle), rollback=back, ts_ms=asked_ms)
            topics = Topics(station.site, station.line, station.station)
            if station.retired_ms is None and not publish(topics, message):
                return  # the next connect says all of them


def _check_fits(registry: Registry, station: Station, bundle: Bundle, *, rollback: bool) -> None:
    serving = _known(registry, station.bundle)
    if serving is None:
        return
    ours, theirs = bundle.manifest, serving.manifest
    if ours.task != theirs.task:
        raise InputError(
            bundle.id,
            f"is for the task {ours.task}, {station.station} inspects {theirs.task}",
            "change a station's task in its edge.yaml, where its camera and policy are",
        )
    if ours.name == theirs.name and ours.version_key() < theirs.version_key() and not rollback:
        raise InputError(bundle.id, f"is older than {serving.id}, which {station.station} serves", "use Roll back")


def heard(session: Session, station: Station, said: ModelReported, now_ms: int) -> None:
    """Note what an edge reported on the newest request to its station."""
    newest = _history(session, station, 1)
    if newest:
        state = _state_of(newest[0].bundle.bundle, said.bundle, said.state, said.wanted)
        if state != "asked" and (state, said.why) != (newest[0].state, newest[0].why):
            newest[0].state, newest[0].why, newest[0].state_ms = state, said.why, now_ms


def board(session: Session, registry: Registry) -> list[StationModel]:
    """Every station that is not retired, by name."""
    here = select(Station).where(Station.retired_ms.is_(None))
    stations = session.scalars(here.order_by(Station.site, Station.line, Station.station)).all()
    ranked = select(
        Rollout.id, func.row_number().over(partition_by=Rollout.station_id, order_by=Rollout.id.desc()).label("place")
    ).subquery()
    newest = select(Rollout).join(ranked, ranked.c.id == Rollout.id).where(ranked.c.place <= HISTORY)
    histories: dict[int, list[Rollout]] = {}
    for row in session.scalars(newest.order_by(Rollout.id.desc())):
        histories.setdefault(row.station_id, []).append(row)
    known = _all_known(registry)
    return [_station_model(known, station, histories.get(station.id, [])) for station in stations]


def station_model(session: Session, registry: Registry, station: Station) -> StationModel:
    return _station_model(_all_known(registry), station, _history(session, station, HISTORY))


def _station_model(known: Known, station: Station, history: Sequence[Rollout]) -> StationModel:
    asked = history[0] if history else None
    if asked is None:
        state, why = station.bundle_state or "none", station.bundle_why
    else:
        # What was heard since the request, not the newest report: that may still tell of the request before.
        state, why = asked.state, asked.why
    return StationModel(station, state, why, asked, history, _back_to(known, station, history))


def _state_of(asked: str, serving: str, reported: str, wanted: str) -> str:
    """Where the request for `asked` stands, by what the edge reported."""
    if wanted == asked and reported in ("fetching", "refused"):
        return reported
    return "serving" if serving == asked else "asked"


def _back_to(known: Known, station: Station, history: Sequence[Rollout]) -> str | None:
    """What served before what serves now; without a history, the next older version of it."""
    before = [r.bundle.bundle for r in history if r.state == "serving" and r.bundle.bundle != station.bundle]
    serving = known.get(station.bundle)
    if serving is not None:
        name, version = serving.manifest.name, serving.manifest.version_key()
        older = (b for b in known.values() if b is not None and b.manifest.name == name)
        before += [b.id for b in older if b.manifest.version_key() < version]
    return next((bundle for bundle in before if bundle in known), None)


def _all_known(registry: Registry) -> Known:
    return {bundle: _known(registry, bundle) for bundle in registry.ids()}


def _history(session: Session, station: Station, limit: int) -> Sequence[Rollout]:
    newest_first = select(Rollout).where(Rollout.station_id == station.id).order_by(Rollout.id.desc())
    return session.scalars(newest_first.limit(limit)).all()


def _known(registry: Registry, bundle: str) -> Bundle | None:
    try:
        return registry.get(bundle) if bundle else None
    except BundleError:
        return None
