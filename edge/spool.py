"""The crash-safe outbox of records and frames: SQLite and PNG files, written by one thread.

Order on disk: files first (fsync, rename, fsync of the folder), then the rows (WAL, synchronous=FULL), then
`on_durable`. A row therefore never names a file that is not there, and a file without a row is swept at the next
start. Only the hub's acknowledgement deletes a row, or, over the quota, an item that matters more (`evicted`).
Before that, pictures that the hub has already confirmed make room (`released`).
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from edge.files import DISK, Ballast, Disk, claim, is_full, write_beside
from edge.intake import Intake, Offer
from edge.spool_db import Row, Rows
from edge.tuning import yield_to_others
from inspection.bundle import sha256
from inspection.errors import StorageError

log = structlog.get_logger()

T = TypeVar("T")

RANK_HALT, RANK_CONTEXT, RANK_UNCERTAIN, RANK_AUDIT = 0, 1, 2, 3
"""What goes first to the hub, and last when there is no room. Context is the frames before a halt."""
GROUP = 8
"""Offers that share one fsync of the folder and one commit. A single one is not made to wait for others."""
QUEUE_BYTES = 24 * 2**20
MORE_BYTES = {RANK_HALT: math.inf, RANK_CONTEXT: 56 * 2**20}
"""A halt's own frame is never too large to wait: there is one. The frames before it and the film were in memory already
(32 and 20 MiB of a camera) and only change hands."""
BALLAST_BYTES = 2 * 2**20
RELEASE_BYTES = 32 * 2**20
ANSWER_S = 30.0
NICE = 5
"""Evidence gives way to frames and permits, not to everything: behind other processes it would be refused. What falls
behind, a full group at once or several jobs, gives way no longer, where the system lets a thread take that back."""


@dataclass(frozen=True, slots=True)
class Item:
    """One message for the hub and the files it names by sha256. `files` are the files' bytes; `then` runs, on the
    spool's thread, when the item would survive a power cut; `shas`: of `files`, where their maker knows them."""

    uid: str
    topic: str
    payload: bytes
    rank: int
    files: tuple[bytes, ...] = ()
    then: Callable[[], None] | None = None
    shas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """An item that the hub has not acknowledged. `files`: sha256 and path of each."""

    uid: str
    topic: str
    payload: bytes
    files: tuple[tuple[str, Path], ...]


@dataclass(slots=True)
class SpoolCounters:
    """What became of offered items since the start.

    `refused`: no place in the queue, the quota or on the disk. `failed`: the disk would not, or the item could not
    be made. `evicted`: accepted, then deleted for one of a higher rank. `released`: files deleted because the hub has
    them and room was needed. `damaged`: cannot be brought to the hub as it is. `thinned`: too like the one kept
    before."""

    accepted: int = 0
    acknowledged: int = 0
    duplicates: int = 0
    thinned: int = 0
    refused: int = 0
    failed: int = 0
    evicted: int = 0
    released: int = 0
    damaged: int = 0
    pending: int = 0
    pending_bytes: int = 0


class Spool:
    """`offer` takes a function that makes the item, so that PNG encoding happens on the spool's thread.

    `reserve_bytes`: when less of the disk is free, only halts are still taken. `on_durable` is called on the spool's
    thread with each uid that would survive a power cut from now on."""

    def __init__(
        self,
        folder: Path,
        quota_bytes: int,
        queue_len: int = 64,
        *,
        queue_bytes: int = QUEUE_BYTES,
        reserve_bytes: int = 0,
        disk: Disk = DISK,
        on_durable: Callable[[str], None] | None = None,
    ) -> None:
        self._folder = folder
        self._frames = folder / "frames"
        self._quota, self._reserve, self._disk = quota_bytes, reserve_bytes, disk
        self._on_durable = on_durable
        self.ballast = Ballast(folder / "ballast", BALLAST_BYTES, disk)
        """For what else must be written beside the spool on a disk that it has filled."""
        self._intake: Intake[Item | None] = Intake(queue_len, queue_bytes, MORE_BYTES)
        self._counting = threading.Lock()
        self._settled = self._taken = 0
        self._ending = self.closed = False
        self.counters = SpoolCounters()
        self.trouble = ""
        """Why the last item could not be stored; empty when it could."""
        self._rows: Rows
        self._in_hand: set[str] = set()
        """Files that rows on their way to the database name: whoever makes room must leave them."""
        self._lock = claim(folder, self._frames)
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._thread.start()
        try:
            self._ask(self._open)
        except BaseException:
            self.close()
            raise

    def offer(self, make: Callable[[], Item | None], rank: int = RANK_UNCERTAIN, cost_bytes: int = 0) -> bool:
        """Take an item if there is a place for it; never blocks. What is refused is counted. None is a thinned one."""
        if self.closed:
            self._add(refused=1)
            return False
        offer = Offer(make, rank, cost_bytes)
        gone = self._intake.offer(offer)
        with self._counting:
            self._taken += 1
            self._settled += len(gone)
            self.counters.refused += len(gone)
        return offer not in gone

    def to_upload(self, limit: int = 32, leave_out: Collection[str] = ()) -> list[Pending]:
        """The next items whose files the hub may not have, halts first, then oldest first."""
        return self._ask(lambda: self._turn(False, limit, leave_out))

    def to_send(self, limit: int = 100, leave_out: Collection[str] = ()) -> list[Pending]:
        """The next items whose files the hub has."""
        return self._ask(lambda: self._turn(True, limit, leave_out))

    def set_uploaded(self, uids: Sequence[str], uploaded: bool = True) -> None:
        """Whether the hub has their files; False sends an item on its way from the start."""
        if uids:
            self._ask(lambda: self._let_go(lambda: self._rows.set_files_up(uids, uploaded)))

    def acknowledge(self, uids: Sequence[str]) -> None:
        """The hub has these: forget them. One that cannot be forgotten now is sent, and acknowledged, once more."""
        if not self.closed:
            self._intake.ask(lambda: self._acknowledge(uids))

    def count_damaged(self) -> None:
        self._add(damaged=1)

    def flush(self, timeout_s: float = ANSWER_S) -> None:
        """Wait until everything offered so far is on disk, or refused."""
        until, end_s = self._taken, time.monotonic() + timeout_s
        while self._settled < until:
            if time.monotonic() > end_s or not self._thread.is_alive():
                raise StorageError(f"{self._folder}: the disk does not answer")
            time.sleep(0.002)

    def close(self) -> None:
        """Write what was accepted, then stop."""
        if self.closed:
            return
        self.closed = self._ending = True
        self._intake.ask(lambda: None)
        self._thread.join(timeout=10)
        os.close(self._lock)

    def _ask(self, work: Callable[[], T]) -> T:
        answer: Future[T] = Future()
        if self.closed:
            raise StorageError("the spool is closed")
        self._intake.ask(lambda: _settle(answer, work))
        try:
            return answer.result(timeout=ANSWER_S)
        except TimeoutError as e:
            raise StorageError(f"{self._folder}: the disk does not answer") from e

    def _add(self, **more: int) -> None:
        with self._counting:
            for name, count in more.items():
                setattr(self.counters, name, getattr(self.counters, name) + count)

    # ── the spool's own thread ──────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        yields = 0
        while True:
            jobs, offers = self._intake.take(GROUP, 0.0 if self._ending else 1.0)
            behind = len(offers) == GROUP or len(jobs) > 1
            if yields != (0 if behind else NICE):
                yields = 0 if behind else NICE
                yield_to_others(yields)
            for job in jobs:
                try:
                    job()
                except Exception as e:
                    self._note(e)
            try:
                self._store(offers)
            except Exception as e:
                log.exception("spool failed")
                self._give_up(len(offers), e)
            with self._counting:
                self._settled += len(offers)
            if self._ending and not jobs and not offers:
                break
        if hasattr(self, "_rows"):
            self._rows.close()

    def _open(self) -> None:
        try:
            self._open_rows()
        except StorageError:
            # SQLite takes 32 KiB to open a database, and does not say that it is room which is missing.
            if self._disk.free_bytes(self._folder) >= BALLAST_BYTES or not self.ballast.lend(self._open_rows):
                raise
        try:
            self._sweep()
        except OSError as e:
            raise StorageError(f"{e.filename or self._frames}: {e.strerror}\n  fix: check the folder's owner") from e
        self.ballast.keep()
        self.counters.pending, self.counters.pending_bytes = self._rows.count()

    def _open_rows(self) -> None:
        self._rows = Rows(self._folder, self._disk)

    def _store(self, offers: list[Offer[Item | None]]) -> None:
        """One group: the files of all, one fsync of the folder, one commit."""
        if not offers:
            return
        rows: list[Row] = []
        items: list[Item] = []
        new: set[str] = set()
        self._in_hand.clear()
        for offer in offers:
            made = self._prepare(offer, sum(row.size for row in rows), new)
            if made:
                items.append(made[0])
                rows.append(made[1])
        if not rows:
            self._let_files_go(new)
            return
        try:
            if new:
                self._disk.sync_folder(self._frames)
            stored = self._change(lambda: self._rows.insert(rows))
        except (OSError, sqlite3.Error, StorageError) as e:
            self._let_files_go(new)
            self._give_up(len(rows), e)
            return
        self._note(None)
        count, size = sum(stored), sum(row.size for row, is_new in zip(rows, stored, strict=True) if is_new)
        self._add(accepted=count, pending=count, pending_bytes=size, duplicates=len(rows) - count)
        self._let_files_go(new)
        for item in items:
            if item.then:
                item.then()
            if self._on_durable:
                self._on_durable(item.uid)

    def _prepare(self, offer: Offer[Item | None], planned: int, new: set[str]) -> tuple[Item, Row] | None:
        """Make an item and write its files; None when it ends here, which is counted. `new` gets its new files."""
        try:
            item = offer.make()
            if item is None:
                self._add(thinned=1)
                return None
            if self._rows.has(item.uid, item.rank):
                self._add(duplicates=1)
                if self._on_durable:
                    self._on_durable(item.uid)
                return None
            size = len(item.payload) + sum(len(data) for data in item.files)
            if why := self._no_room(size, planned, item.rank):
                self._add(refused=1)
                self._note(StorageError(why))
                return None
            row = Row(item.uid, item.topic, item.payload, item.rank, size, item.shas or tuple(map(sha256, item.files)))
            for sha, data in zip(row.shas, item.files, strict=True):
                path = self._path(sha)
                if sha not in new and not (self._rows.names(sha) and path.exists()):
                    write_beside(path, data, self._disk)
                    new.add(sha)
            self._in_hand.update(row.shas)
        except Exception as e:
            self._give_up(1, e)
            return None
        return item, row

    def _no_room(self, size: int, planned: int, rank: int) -> str:
        """Why an item cannot be stored; empty when it can. First pictures go that the hub has; then, over the quota,
        items of a lower rank, oldest first, each counted, never one of the same rank. When the disk is full nothing
        else goes: others may have filled it."""
        if rank > RANK_CONTEXT:
            short = self._reserve + planned + size - self._disk.free_bytes(self._folder)
            if short > 0 and self._release(short) < short:
                return f"less than {self._reserve >> 20} MiB of the disk are free, which are kept for halts"
        over = self.counters.pending_bytes + planned + size - self._quota
        if over > 0:
            over -= self._release(over)
        if over > 0:
            victims = self._rows.victims(rank, over)
            if not victims:
                return f"the quota of {self._quota >> 20} MiB is used up"
            self._add(evicted=self._let_go(lambda: self._remove(victims)))
        return ""

    def _release(self, need_bytes: int) -> int:
        """Some at a time: each call looks at all that wait."""
        freed, shas = self._let_go(lambda: self._rows.release(max(need_bytes, RELEASE_BYTES)))
        for sha in shas:
            self._unlink(sha)
        self._add(released=len(shas), pending_bytes=-freed)
        return freed

    def _change(self, work: Callable[[], T]) -> T:
        """A change of the rows, on a file that can be trusted."""
        if self._rows.doubtful:
            self._rows.reopen()
        done = work()
        with contextlib.suppress(OSError, sqlite3.Error):  # it stays due, and the next change tries again
            self._rows.checkpoint_if_due()
        return done

    def _let_go(self, work: Callable[[], T]) -> T:
        """A change on the way to free room: a full disk must not keep it from being written."""
        try:
            return self._change(work)
        except (OSError, sqlite3.Error) as e:
            if not is_full(e) or not self.ballast.drop():
                raise
            return self._change(work)

    def _acknowledge(self, uids: Sequence[str]) -> None:
        self._add(acknowledged=self._let_go(lambda: self._remove(uids)))
        self.ballast.keep()

    def _remove(self, uids: Sequence[str]) -> int:
        gone, size, shas = self._rows.remove(uids)
        # Rows first, files after: a crash between leaves a file without a row, which the sweep removes.
        for sha in shas:
            self._unlink(sha)
        self._add(pending=-gone, pending_bytes=-size)
        return gone

    def _turn(self, files_up: bool, limit: int, leave_out: Collection[str]) -> list[Pending]:
        rows = self._rows.turn(files_up, limit, leave_out)
        return [Pending(r.uid, r.topic, r.payload, tuple((sha, self._path(sha)) for sha in r.shas)) for r in rows]

    def _let_files_go(self, new: Collection[str]) -> None:
        """The group is through, or given up: what it wrote, or held on to, and no row names."""
        held, self._in_hand = self._in_hand, set()
        for sha in held.union(new):
            with contextlib.suppress(OSError, sqlite3.Error):
                if not self._rows.names(sha):
                    self._disk.unlink(self._path(sha))

    def _unlink(self, sha: str) -> None:
        if sha in self._in_hand:
            return
        with contextlib.suppress(OSError):
            self._disk.unlink(self._path(sha))

    def _give_up(self, count: int, why: Exception) -> None:
        self._add(**{"refused" if is_full(why) else "failed": count})
        self._note(why)
        if is_full(why):
            with contextlib.suppress(OSError, sqlite3.Error):
                self._release(RELEASE_BYTES)  # for the next one

    def _note(self, why: Exception | None) -> None:
        """At 30 frames/s a full disk would fill the log as well: only what changed is said."""
        trouble = f"{type(why).__name__}: {why}" if why else ""
        if trouble and not self.trouble:
            log.error("evidence cannot be stored, what comes is counted", why=trouble, folder=str(self._folder))
        elif self.trouble and not trouble:
            log.info("evidence can be stored again", folder=str(self._folder))
        self.trouble = trouble

    def _sweep(self) -> None:
        """Remove what no row names: left over by a crash between a file and its row, or a row and its file."""
        known = self._rows.all_shas()
        for path in list(self._frames.rglob("*")):
            if path.is_dir():
                continue
            if path.stem not in known or path.suffix != ".png":
                self._disk.unlink(path)
            elif path.parent != self._frames:  # how frames lay before 0.1.0
                self._disk.rename(path, self._path(path.stem))

    def _path(self, sha: str) -> Path:
        return self._frames / f"{sha}.png"


def _settle(answer: Future[Any], work: Callable[[], Any]) -> None:
    try:
        answer.set_result(work())
    except BaseException as e:
        answer.set_exception(e)
