"""The crash-safe outbox of records and frames: SQLite and PNG files, written by one thread.

Order on disk: files first (fsync, rename, fsync of the folder), then the row (WAL, synchronous=FULL). A row therefore
never names a file that is not there, and a file without a row is swept at the next start. Only the hub's
acknowledgement deletes a row. One connection on one thread: SQLite before 3.51.3 has a race in its WAL with two.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from edge.state import write_durably
from inspection.bundle import sha256
from inspection.errors import StorageError

log = structlog.get_logger()

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    rank INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    sent_ns INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS file (
    sha256 TEXT NOT NULL,
    item INTEGER NOT NULL REFERENCES item(id) ON DELETE CASCADE,
    PRIMARY KEY (sha256, item)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS item_by_rank ON item(rank, id);
CREATE INDEX IF NOT EXISTS file_by_item ON file(item);
"""

RANK_HALT, RANK_UNCERTAIN, RANK_AUDIT = 0, 1, 2
"""What goes first to the hub, and last when the disk is full."""


@dataclass(frozen=True, slots=True)
class Item:
    """One message for the hub and the files it names by sha256. `files` are the files' bytes."""

    uid: str
    topic: str
    payload: bytes
    rank: int
    files: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """An item that the hub has not acknowledged. `files`: sha256 and path of each."""

    uid: str
    topic: str
    payload: bytes
    files: tuple[tuple[str, Path], ...]


@dataclass(slots=True)
class SpoolCounters:
    """What became of offered items. `refused`: the queue or the quota was full; `failed`: the disk would not."""

    accepted: int = 0
    acknowledged: int = 0
    refused: int = 0
    failed: int = 0
    pending: int = 0
    pending_bytes: int = 0


class Spool:
    """`offer` takes a function that makes the item, so that PNG encoding happens on the spool's thread."""

    def __init__(self, folder: Path, quota_bytes: int, queue_len: int = 64) -> None:
        self._folder = folder
        self._frames = folder / "frames"
        self._quota = quota_bytes
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue()
        self._places = threading.BoundedSemaphore(queue_len)
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self.counters = SpoolCounters()
        self.on_trouble: Callable[[str], None] = lambda why: None
        self._frames.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        opened: Future[None] = Future()
        self._queue.put(lambda: _settle(opened, self._open))
        self._thread.start()
        opened.result(timeout=30)

    def offer(self, make: Callable[[], Item]) -> bool:
        """Take an item if there is a place in the queue; never blocks. What is refused is counted."""
        if self._closed or not self._places.acquire(blocking=False):
            self.counters.refused += 1
            return False
        self._queue.put(lambda: self._put(make))
        return True

    def batch(self, now_ns: int, limit: int = 32, again_after_ns: int = 10_000_000_000) -> list[Pending]:
        """The next items to send: halts first, then oldest first, those sent lately left out."""
        return self._ask(lambda: self._batch(now_ns, limit, again_after_ns))

    def acknowledge(self, uids: Sequence[str]) -> None:
        """The hub has these: forget them."""
        if not self._closed:
            self._queue.put(lambda: self._delete(uids))

    def flush(self) -> None:
        """Wait until everything offered so far is on disk."""
        self._ask(lambda: None)

    def close(self) -> None:
        """Write what was accepted, then stop."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(self._shut)
        self._thread.join(timeout=10)

    def _ask(self, work: Callable[[], T]) -> T:
        answer: Future[T] = Future()
        if self._closed:
            raise StorageError("the spool is closed")
        self._queue.put(lambda: _settle(answer, work))
        return answer.result(timeout=30)

    # ── the spool's own thread ──────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            try:
                job()
            except _Closed:
                return
            except Exception:
                log.exception("spool job failed")

    def _open(self) -> None:
        for first in range(256):  # made once, so that storing a frame only has to fsync its own folder
            (self._frames / f"{first:02x}").mkdir(exist_ok=True)
        self._db = _connect(self._folder / "spool.db")
        self._sweep()
        self._count()

    def _put(self, make: Callable[[], Item]) -> None:
        self._places.release()
        try:
            item = make()
            size = len(item.payload) + sum(len(f) for f in item.files)
            if not self._make_room(size, item.rank):
                self.counters.refused += 1
                return
            self._store(item, size)
        except (OSError, sqlite3.Error) as e:
            # A connection whose fsync failed says nothing reliable any more: never retry on it.
            self.counters.failed += 1
            self._reopen()
            self.on_trouble(f"spool: {e}")
        else:
            self.counters.accepted += 1

    def _store(self, item: Item, size: int) -> None:
        shas = []
        for data in item.files:
            sha = sha256(data)
            shas.append(sha)
            path = self._path(sha)
            if not path.exists():
                write_durably(path, data)
        db = self._conn()
        with db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO item (uid, topic, payload, rank, bytes) VALUES (?, ?, ?, ?, ?)",
                (item.uid, item.topic, item.payload, item.rank, size),
            )
            if cursor.rowcount:
                db.executemany("INSERT OR IGNORE INTO file VALUES (?, ?)", [(sha, cursor.lastrowid) for sha in shas])
                self.counters.pending += 1
                self.counters.pending_bytes += size

    def _make_room(self, size: int, rank: int) -> bool:
        """Over the quota, items of a lower rank go, oldest first, each counted. Never for one of the same rank."""
        while self.counters.pending_bytes + size > self._quota:
            row = self._conn().execute(
                "SELECT uid FROM item WHERE rank > ? ORDER BY rank DESC, id LIMIT 1", (rank,)
            ).fetchone()  # fmt: skip
            if row is None:
                return False
            self._remove([row[0]])
            self.counters.refused += 1
            self.counters.accepted -= 1
        return True

    def _batch(self, now_ns: int, limit: int, again_after_ns: int) -> list[Pending]:
        db = self._conn()
        rows = db.execute(
            "SELECT id, uid, topic, payload FROM item WHERE sent_ns = 0 OR sent_ns < ? OR sent_ns > ?"
            " ORDER BY rank, id LIMIT ?",
            (now_ns - again_after_ns, now_ns, limit),  # a sent_ns ahead of now is from before a reboot
        ).fetchall()
        pending = []
        for item_id, uid, topic, payload in rows:
            shas = [sha for (sha,) in db.execute("SELECT sha256 FROM file WHERE item = ?", (item_id,))]
            pending.append(Pending(uid, topic, payload, tuple((sha, self._path(sha)) for sha in shas)))
        with db:
            db.executemany("UPDATE item SET sent_ns = ? WHERE id = ?", [(now_ns, row[0]) for row in rows])
        return pending

    def _delete(self, uids: Sequence[str]) -> None:
        self.counters.acknowledged += self._remove(uids)

    def _remove(self, uids: Sequence[str]) -> int:
        db = self._conn()
        gone, shas, size = 0, set(), 0
        with db:
            for uid in uids:
                row = db.execute("SELECT id, bytes FROM item WHERE uid = ?", (uid,)).fetchone()
                if row is None:
                    continue
                shas |= {sha for (sha,) in db.execute("SELECT sha256 FROM file WHERE item = ?", (row[0],))}
                db.execute("DELETE FROM item WHERE id = ?", (row[0],))
                gone, size = gone + 1, size + row[1]
        # Rows first, files after: a crash between leaves a file without a row, which the sweep removes.
        for sha in shas:
            if not db.execute("SELECT 1 FROM file WHERE sha256 = ?", (sha,)).fetchone():
                self._path(sha).unlink(missing_ok=True)
        self.counters.pending -= gone
        self.counters.pending_bytes -= size
        return gone

    def _sweep(self) -> None:
        known = {sha for (sha,) in self._conn().execute("SELECT sha256 FROM file")}
        for path in self._frames.rglob("*"):
            if path.is_file() and path.stem not in known:
                path.unlink()

    def _count(self) -> None:
        row = self._conn().execute("SELECT count(*), coalesce(sum(bytes), 0) FROM item").fetchone()
        self.counters.pending, self.counters.pending_bytes = row

    def _path(self, sha: str) -> Path:
        return self._frames / sha[:2] / f"{sha}.png"

    def _conn(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = _connect(self._folder / "spool.db")
            self._count()
        return self._db

    def _reopen(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _shut(self) -> None:
        self._reopen()
        raise _Closed


class _Closed(Exception):
    """Ends the spool's own loop; never seen outside."""


def _connect(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=5)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            db.execute(f"PRAGMA {pragma}")
        db.executescript(SCHEMA)
    except sqlite3.Error as e:
        raise StorageError(f"{path}: {e}\n  fix: check that the folder is writable and the disk not full") from e
    return db


def _settle(answer: Future[Any], work: Callable[[], Any]) -> None:
    try:
        answer.set_result(work())
    except BaseException as e:
        answer.set_exception(e)
