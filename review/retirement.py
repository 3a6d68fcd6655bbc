"""A station that is gone for good: off every list of what is now, while its records, halts and labels stay.

The broker still remembers what its edge last said, and says it again after every reconnect; only what an edge says
live brings the station back. Times are Unix ms.
"""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from review import audit
from review.alarms import ACTIVE, Cause
from review.broadcast import News
from review.halts import NotNow
from review.hub import Hub
from review.ingest import change
from review.language import _
from review.live import PERMIT_STALE_MS, Now
from review.store import Halt, Station, ids_by_key


def retire(hub: Hub, key: str, who: str, now_ms: int) -> None:
    """NotNow while it is heard: a station somebody inspects with is not to vanish from anybody's page."""
    now = hub.live.get(key)
    if now is None:
        raise NotNow(_("no station of this name is shown"))
    if not silent(now, time.monotonic_ns()):
        raise NotNow(_("its edge or its line's controller is heard: switch them off first"))
    hub.live.retire(key)
    with hub.store.writing() as session:
        audit.in_turn(session)  # before the station's lock
        row = ids_by_key(session).get(key)
        if row is not None:
            session.get_one(Station, row, with_for_update=True).retired_ms = now_ms
            _let_go(session, row)
            audit.note(session, who, "station_retired", f"station {row}", key=key)
    for kind in ("line", "halt", "system", "model"):
        hub.news.tell(News(kind, key))


def silent(now: Now, now_ns: int) -> bool:
    """Whether neither the edge nor the line's controller is heard: either would bring the station back at once."""
    return now.permit_age_ms(now_ns) > PERMIT_STALE_MS and now.plc_silent(now_ns)


def bring_back(hub: Hub, session: Session, *, write: bool = True) -> bool:
    """Whoever was heard live since is retired no more. True when there is one."""
    retired = session.scalars(select(Station).where(Station.retired_ms.is_not(None)))
    heard = [station for station in retired if station.key not in hub.live.retired()]
    for station in heard if write else ():
        station.retired_ms = None
        audit.note(session, "hub", "station_came_back", f"station {station.id}", key=station.key)
    return bool(heard)


def _let_go(session: Session, station_id: int) -> None:
    """Nobody is left to end its halts. Those that nobody acknowledged or judged still ask for it."""
    found = select(Halt).where(Halt.station_id == station_id, Halt.state.in_([*ACTIVE]))
    for halt in session.scalars(found.options(selectinload(Halt.events))):
        change(session, halt, Cause.GONE, why="the station was retired")
