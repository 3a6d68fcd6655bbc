"""What the System page knows: what fails, how long the disk lasts, what each edge really runs on.

Every part is worked out by itself, because this is the page people open when something is broken.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from inspection.errors import HaltlineError, StorageError
from inspection.station_messages import CameraAnswer
from review import audit_anchor, backup, retirement
from review.clock import wall_ms
from review.hub import Hub
from review.language import N_, _
from review.live import Now, Shown, shown, unkept
from review.store import Record

DAY_MS = 24 * 3_600_000
LOOKED_AT = 1000
"""So many of the newest records say how fast the disk fills,"""
MEASURED = 60
"""... and so many of them how large their pictures are."""
SKEW_MS = 2000
"""A clock further off than this makes times on the pages wrong enough to mislead."""
FEW_DAYS = 14
FULL_BYTES = 32 * 2**20
"""A group of frames has up to 20 MiB, and the database grows by some."""
BACKUP_OLD_MS = 7 * DAY_MS

WITHOUT = {
    "database": N_("nothing can be read or acknowledged here; edges keep their evidence and the line stays guarded"),
    "storage": N_("new records wait at the edges and the broker; what is here can be read"),
    "disk": N_("what still fits is kept; then new records wait at the edges and the broker"),
    "broker": N_("no station is heard; lines are still stopped by their edges and controllers"),
    "audit": N_("acts are recorded and chained as before; whether one is missing at the end is shown by paper alone"),
    "badges": N_("no badge signs anybody in or can be enrolled; names with a PIN or a password do"),
}
"""What still works while this part does not."""


@dataclass(frozen=True, slots=True)
class Disk:
    free_bytes: int
    total_bytes: int
    per_day_bytes: float
    days_left: float | None
    """None while nothing is written."""

    @property
    def short(self) -> bool:
        return self.free_bytes < self.total_bytes / 20 or (self.days_left is not None and self.days_left < FEW_DAYS)


@dataclass(frozen=True, slots=True)
class EdgeFacts:
    now: Now
    shown: Shown
    skewed: bool
    cameras: tuple[tuple[str, dict[str, Any], CameraAnswer | None], ...]
    not_as_asked: bool
    """The model runs on something else than its configuration names."""
    silent: bool
    """Neither the edge nor the line's controller is heard."""
    troubles: tuple[str, ...]
    """What its disk, its state folder and the broker's rules do not let it do."""


@dataclass(frozen=True, slots=True)
class View:
    """`wrong`: (what fails, why, what still works); the page is in safe mode while there is any."""

    wrong: tuple[tuple[str, str, str], ...]
    disk: Disk | None
    backup: backup.Backup | None
    backup_old: bool
    records: int | None
    edges: tuple[EdgeFacts, ...]


def failing(hub: Hub) -> dict[str, str]:
    """What does not work right now and why; empty when all does."""
    wrong: dict[str, str] = {}
    try:
        hub.store.check()
        if why := audit_anchor.failing(hub.store, hub.settings.data_dir):
            wrong["audit"] = why
    except StorageError as e:
        wrong["database"] = str(e)
    except SQLAlchemyError as e:
        wrong["database"] = str(e).splitlines()[0]
    if why := hub.failing():
        wrong["storage"] = why
    elif why := _full(hub):
        wrong["disk"] = why
    if not hub.connected():
        wrong["broker"] = f"not connected to {hub.settings.mqtt.host}:{hub.settings.mqtt.port}"
        if why := hub.mqtt.away:
            wrong["broker"] += f": {why}"
    elif why := hub.mqtt.deaf:
        wrong["broker"] = why
    if why := hub.settings.badges_failing():
        wrong["badges"] = why
    return wrong


def _full(hub: Hub) -> str:
    """Before the first record cannot be stored: a quiet station's may come hours later."""
    try:
        free = shutil.disk_usage(hub.settings.data_dir).free
    except OSError as e:
        return str(e)
    return f"{free / 2**20:.0f} MiB are free for {hub.settings.data_dir}" if free < FULL_BYTES else ""


def view(hub: Hub) -> View:
    now_ns, now_ms = time.monotonic_ns(), wall_ms()
    disk, records, wrong = None, None, failing(hub)
    try:
        disk, records = _disk(hub, now_ms), _records(hub)
    except (HaltlineError, SQLAlchemyError, OSError) as e:
        # The check may have met a connection that still has what it read before.
        wrong.setdefault("database", str(e).splitlines()[0])
    newest = _newest_backup(hub, now_ms)
    return View(
        wrong=tuple((what, why, WITHOUT[what]) for what, why in wrong.items()),
        disk=disk,
        backup=newest,
        backup_old=newest is None or abs(now_ms - newest.at_ms) > BACKUP_OLD_MS,
        records=records,
        edges=tuple(_edge(now, now_ns) for now in hub.live.stations()),
    )


def _newest_backup(hub: Hub, now_ms: int) -> backup.Backup | None:
    try:
        return backup.newest(hub.backups.folder, now_ms)
    except (HaltlineError, OSError):
        return None


def _disk(hub: Hub, now_ms: int) -> Disk:
    """Days left at the pace of the newest records: their number, their pictures' mean size, the time they took."""
    usage = shutil.disk_usage(hub.settings.data_dir)
    columns = (Record.received_ms, Record.image, Record.heat)
    with hub.store.reading() as session:
        rows = session.execute(select(*columns).order_by(Record.id.desc()).limit(LOOKED_AT)).all()
    if len(rows) < 2 or now_ms <= rows[-1].received_ms:
        return Disk(usage.free, usage.total, 0.0, None)
    shas = [(row.image, row.heat) for row in rows[:: max(1, len(rows) // MEASURED)]]
    mean = sum(_size(hub, sha) for pair in shas for sha in pair if sha) / len(shas)
    per_day = mean * len(rows) * DAY_MS / max(60_000, now_ms - rows[-1].received_ms)
    return Disk(usage.free, usage.total, per_day, usage.free / per_day if per_day > 0 else None)


def _size(hub: Hub, sha: str) -> int:
    try:
        with hub.frames.open(sha) as file:
            return file.seek(0, 2)
    except StorageError:
        return 0


def _records(hub: Hub) -> int:
    """The newest row's number: counting ten million rows would take longer than the page."""
    with hub.store.reading() as session:
        return session.scalar(select(Record.id).order_by(Record.id.desc()).limit(1)) or 0


def _edge(now: Now, now_ns: int) -> EdgeFacts:
    about = now.about
    facts: dict[str, Any] = about.facts if about else {}
    named = facts.get("cameras") or {name: {} for name in now.pictures}
    model = facts.get("model", {})
    broker = facts.get("broker", {})
    refuses = str(broker.get("refuses", "nothing")) if isinstance(broker, dict) else "nothing"
    refused = [] if refuses == "nothing" else [_("the broker does not let this edge: %(what)s", what=refuses)]
    asked, runs = str(model.get("asked_for", "")), str(model.get("runs_on", ""))
    return EdgeFacts(
        now=now,
        shown=shown(now, now_ns),
        skewed=now.skew_ms is not None and abs(now.skew_ms) > SKEW_MS,
        cameras=tuple((name, known, now.answers.get(name)) for name, known in named.items() if isinstance(known, dict)),
        not_as_asked=bool(asked and runs) and asked.split(":")[0].lower() not in runs.lower(),
        silent=retirement.silent(now, now_ns),
        troubles=(*unkept(now), *refused),
    )
