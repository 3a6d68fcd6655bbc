"""Power cuts and failing disks under a real spool, without a process of its own: faults 13 and 19."""

from __future__ import annotations

import errno
import hashlib
import random
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.storage_disk import FailingDisk, PowerCut, RecordingDisk, Step, disk_error
from edge import spool_db
from edge.spool import RANK_CONTEXT, RANK_HALT, Item, Pending, Spool
from inspection.errors import StorageError

PNG = b"\x89PNG\r\n\x1a\n"
OFTEN = 6
"""Commits between checkpoints while power is cut, so that a short run has many."""


@dataclass(slots=True)
class Losses:
    """What cuts or injections did: `lost` items of those said to be durable, `torn` pictures that would be served,
    `broken` databases, and what went wrong first, in words."""

    runs: int = 0
    accepted: int = 0
    lost: int = 0
    torn: int = 0
    broken: int = 0
    first: str = ""

    def note(self, why: str) -> None:
        self.first = self.first or why


def evidence(rng: random.Random, number: int) -> Item:
    """An item like the edge's: a picture, sometimes a heat map that others share."""
    picture = PNG + rng.randbytes(rng.randint(600, 6_000))
    files = (picture, PNG + bytes([number % 5]) * 700) if rng.random() < 0.6 else (picture,)
    uid = hashlib.sha256(f"{number}".encode()).hexdigest()[:32]
    return Item(uid, "t", f"payload {number}".encode() * 20, rng.choice((RANK_HALT, RANK_CONTEXT)), files)


def recorded_run(folder: Path, seed: int, items: int = 60, *, lie: bool = False) -> tuple[list[Step], dict[str, Item]]:
    """Offers, uploads and acknowledgements on a disk that writes down each step; all steps, and what was offered."""
    rng = random.Random(seed)
    disk = RecordingDisk(folder, lie=lie)
    offered: dict[str, Item] = {}
    before, spool_db.CHECKPOINT_EVERY = spool_db.CHECKPOINT_EVERY, OFTEN
    try:
        spool = Spool(folder, 10**9, disk=disk, on_durable=lambda uid: disk.say("durable", uid))
        for number in range(items):
            item = evidence(rng, number)
            offered[item.uid] = item
            spool.offer(lambda item=item: item, item.rank)  # type: ignore[misc]
            if rng.random() < 0.3:
                spool.flush()
            if rng.random() < 0.25:
                spool.set_uploaded([p.uid for p in spool.to_upload(4)])
            if rng.random() < 0.2:
                gone = [p.uid for p in spool.to_send(rng.randint(1, 4))]
                for uid in gone:
                    disk.say("acked", uid)
                spool.acknowledge(gone)
        spool.flush()
        spool.close()
    finally:
        spool_db.CHECKPOINT_EVERY = before
    return disk.steps, offered


def cut_power(times: int, seed: int = 1, *, lie: bool = False) -> Losses:
    """Fault 13: `times` power cuts laid into recorded runs, each followed by a restart on what was left."""
    losses = Losses()
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        steps: list[Step] = []
        offered: dict[str, Item] = {}
        for number in range(times):
            if number % 20 == 0:
                run = Path(name) / f"run{number}"
                run.mkdir()
                steps, offered = recorded_run(run, seed + number, lie=lie)
            first = next(k for k, step in enumerate(steps) if step.kind == "sqlite")
            at = rng.randint(first + 1, len(steps))
            left = Path(name) / f"left{number}"
            PowerCut(steps, at, rng).write_to(left)
            _restart(left, steps[:at], offered, losses)
    return losses


def _restart(folder: Path, steps: list[Step], offered: dict[str, Item], losses: Losses) -> None:
    losses.runs += 1
    acked = {step.name for step in steps if step.kind == "acked"}
    durable = [step.name for step in steps if step.kind == "durable" and step.name not in acked]
    losses.accepted += len(durable)
    try:
        spool = Spool(folder, 10**9)
    except StorageError as e:
        losses.broken += 1
        losses.lost += len(durable)
        losses.note(str(e))
        return
    there = {p.uid: p for p in spool.to_upload(10_000) + spool.to_send(10_000)}
    spool.close()
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        if (found := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            losses.broken += 1
            losses.note(found)
    for uid in durable:
        if uid not in there or there[uid].payload != offered[uid].payload:
            losses.lost += 1
            losses.note(f"{uid} was durable and is gone")
    losses.torn += sum(not _is_whole(item, losses) for item in there.values())


def _is_whole(item: Pending, losses: Losses) -> bool:
    for sha, path in item.files:
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha:
            losses.note(f"{item.uid}: {path.name} is torn or missing")
            return False
    return True


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────

SITES = ("create", "write", "sync", "rename", "sync_folder", "commit")
CODES = (errno.EIO, errno.ENOSPC)


def inject(op: str, code: int, seed: int = 1) -> Losses:
    """Fault 19 at one write site: some items stored, some refused by the disk, some stored again, then a restart.

    `lost`: said to be durable and not there after the restart. `torn`: stored although the disk refused it, or a
    descriptor used again after its fsync had failed. `broken`: the spool did not recover by itself."""
    losses = Losses(runs=1)
    rng = random.Random(seed)
    items = [evidence(rng, number) for number in range(18)]
    durable: set[str] = set()
    with tempfile.TemporaryDirectory() as name:
        folder, disk = Path(name), FailingDisk()
        spool = Spool(folder, 10**9, disk=disk, on_durable=durable.add)
        phases = (items[:6], items[6:12], items[12:])
        for number, phase in enumerate(phases):
            disk.fail = {op: disk_error(op, code)} if number == 1 else {}
            before = set(durable)
            for item in phase:
                spool.offer(lambda item=item: item, item.rank)  # type: ignore[misc]
            spool.flush()
            said = len(durable - before)
            if number == 1 and said:
                losses.torn += said
                losses.note(f"{said} items were called durable while {op} failed")
            if number == 1 and spool.counters.refused + spool.counters.failed != len(phase):
                losses.broken += 1
                losses.note(f"not each was counted: {spool.counters}")
            if number != 1 and said != len(phase):
                losses.broken += 1
                losses.note(f"after {op} worked again only {said} of {len(phase)} were stored: {spool.trouble}")
        losses.torn += disk.touched_again
        spool.close()
        losses.accepted = len(durable)
        spool = Spool(folder, 10**9)
        there = {p.uid: p for p in spool.to_upload(10_000) + spool.to_send(10_000)}
        losses.lost += len(durable - there.keys())
        losses.torn += sum(not _is_whole(item, losses) for item in there.values())
        spool.close()
    return losses
