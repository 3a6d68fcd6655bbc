"""The spool's rows: SQLite in WAL mode, synchronous=FULL, one connection on one thread.

SQLite before 3.51.3 has a race in its WAL with two connections. Checkpoints are made here, never inside a commit,
so that a failed one is seen.

A database whose fsync failed is left behind: the kernel may call pages clean that never reached the disk, and a
commit after them would be lost with them. What had been committed is copied into a new file, under a new number.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.files import Disk, is_full
from inspection.errors import StorageError

SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    rank INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    files_up INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS file (
    sha256 TEXT NOT NULL,
    item INTEGER NOT NULL REFERENCES item(id) ON DELETE CASCADE,
    PRIMARY KEY (sha256, item)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS item_by_turn ON item(files_up, rank, id);
CREATE INDEX IF NOT EXISTS item_by_rank ON item(rank, id);
CREATE INDEX IF NOT EXISTS file_by_item ON file(item);
"""
CHECKPOINT_EVERY = 64
"""Commits between checkpoints: the WAL stays at a few MB. It is used again from its start, and does not shrink."""


@dataclass(frozen=True, slots=True)
class Row:
    """An item as it is stored. `shas`: its files."""

    uid: str
    topic: str
    payload: bytes
    rank: int
    size: int
    shas: tuple[str, ...]


class Rows:
    """Every method raises sqlite3.Error; after one the transaction is rolled back, and `doubtful` says whether the
    file may still be written to. `reopen` mends it."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder, self._disk = folder, disk
        known = _numbers(folder)
        self._number = max(known, default=0)
        self.doubtful = False
        self._commits = 0
        self._db = _connect(self.path)
        for older in known[:-1]:
            _remove_database(_path(folder, older))

    @property
    def path(self) -> Path:
        return _path(self._folder, self._number)

    def insert(self, rows: Iterable[Row]) -> list[bool]:
        """Store rows in one transaction; False where the uid was there already."""
        new = []
        with self._transaction():
            for row in rows:
                cursor = self._db.execute(
                    "INSERT OR IGNORE INTO item (uid, topic, payload, rank, bytes, files_up) VALUES (?, ?, ?, ?, ?, ?)",
                    (row.uid, row.topic, row.payload, row.rank, row.size, 0 if row.shas else 1),
                )
                new.append(bool(cursor.rowcount))
                if new[-1]:
                    of_item = [(sha, cursor.lastrowid) for sha in row.shas]
                    self._db.executemany("INSERT OR IGNORE INTO file VALUES (?, ?)", of_item)
                else:
                    self._promote(row)
        return new

    def _promote(self, row: Row) -> None:
        """A frame kept before turned out to belong to a halt: from now on it is guarded, and told, as one."""
        changed = self._db.execute(
            "UPDATE item SET rank = ?, payload = ?, files_up = 0 WHERE uid = ? AND rank > ? RETURNING id",
            (row.rank, row.payload, row.uid, row.rank),
        ).fetchone()
        if changed:
            of_item = [(sha, changed[0]) for sha in row.shas]
            self._db.executemany("INSERT OR IGNORE INTO file VALUES (?, ?)", of_item)

    def remove(self, uids: Sequence[str]) -> tuple[int, int, list[str]]:
        """Delete rows; how many there were, their bytes, and the files that no row names any more."""
        gone, size = 0, 0
        shas: set[str] = set()
        with self._transaction():
            for uid in uids:
                row = self._db.execute("SELECT id, bytes FROM item WHERE uid = ?", (uid,)).fetchone()
                if row is None:
                    continue
                shas.update(self._shas(row[0]))
                self._db.execute("DELETE FROM item WHERE id = ?", (row[0],))
                gone, size = gone + 1, size + row[1]
        return gone, size, [sha for sha in shas if not self.names(sha)]

    def set_files_up(self, uids: Sequence[str], up: bool) -> None:
        with self._transaction():
            self._db.executemany("UPDATE item SET files_up = ? WHERE uid = ?", [(int(up), uid) for uid in uids])

    def turn(self, files_up: bool, limit: int, leave_out: Collection[str]) -> list[Row]:
        """The next rows, halts first, then oldest first."""
        found: list[Row] = []
        cursor = self._db.execute(
            "SELECT id, uid, topic, payload, rank, bytes FROM item WHERE files_up = ? ORDER BY rank, id",
            (int(files_up),),
        )
        for item_id, uid, topic, payload, rank, size in cursor:
            if len(found) >= limit:
                break
            if uid not in leave_out:
                found.append(Row(uid, topic, payload, rank, size, tuple(self._shas(item_id))))
        return found

    def release(self, need_bytes: int) -> tuple[int, list[str]]:
        """Stop counting pictures that the hub has, of the least and oldest items first: the bytes, and the files that
        may go. Their rows stay, and wait for the hub's acknowledgement."""
        freed, items = 0, []
        for item_id, size in self._db.execute(
            "SELECT id, bytes - length(payload) FROM item WHERE files_up = 1 AND bytes > length(payload)"
            " ORDER BY rank DESC, id"
        ):
            items.append(item_id)
            freed += size
            if freed >= need_bytes:
                break
        shas: set[str] = set()
        if not items:  # a commit that changes nothing could still fail
            return 0, []
        with self._transaction():
            for item_id in items:
                self._db.execute("UPDATE item SET bytes = length(payload) WHERE id = ?", (item_id,))
                shas.update(self._shas(item_id))
        return freed, [sha for sha in shas if not self._is_needed(sha)]

    def _is_needed(self, sha: str) -> bool:
        """Whether an item still has to bring this file to the hub."""
        return bool(
            self._db.execute(
                "SELECT 1 FROM file JOIN item ON item.id = file.item WHERE sha256 = ? AND files_up = 0", (sha,)
            ).fetchone()
        )

    def victims(self, above_rank: int, need_bytes: int) -> list[str]:
        """Uids of what goes to make so much room for `above_rank`: lowest rank first, oldest first. Empty when even
        all of them would not do."""
        found: list[str] = []
        for uid, size in self._db.execute(
            "SELECT uid, bytes FROM item WHERE rank > ? ORDER BY rank DESC, id", (above_rank,)
        ):
            found.append(uid)
            need_bytes -= size
            if need_bytes <= 0:
                return found
        return []

    def has(self, uid: str, rank: int) -> bool:
        """Whether the item is there and at least as well guarded."""
        return bool(self._db.execute("SELECT 1 FROM item WHERE uid = ? AND rank <= ?", (uid, rank)).fetchone())

    def names(self, sha: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM file WHERE sha256 = ?", (sha,)).fetchone())

    def all_shas(self) -> set[str]:
        return {sha for (sha,) in self._db.execute("SELECT DISTINCT sha256 FROM file")}

    def count(self) -> tuple[int, int]:
        row: tuple[int, int] = self._db.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM item").fetchone()
        return row

    def checkpoint_if_due(self) -> None:
        if self._commits < CHECKPOINT_EVERY:
            return
        try:
            self._disk.checkpoint(self._db)
        except (OSError, sqlite3.Error) as e:
            self.doubtful = self.doubtful or not is_full(e)
            raise
        self._commits = 0

    def reopen(self) -> None:
        """Leave a doubtful file behind. What it had committed is read, never synced again, and copied to a new one."""
        new = _path(self._folder, self._number + 1)
        beside = new.with_name(f".{new.name}.new")
        self._disk.unlink(beside)
        self._db.execute("VACUUM INTO ?", (str(beside),))
        fd = os.open(beside, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(beside, new)
        self._disk.sync_folder(self._folder)
        fresh = _connect(new)
        self.close()
        _remove_database(self.path)
        self._number, self._db, self._commits, self.doubtful = self._number + 1, fresh, 0, False

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _shas(self, item_id: int) -> list[str]:
        return [sha for (sha,) in self._db.execute("SELECT sha256 FROM file WHERE item = ?", (item_id,))]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            yield
            self._disk.commit(self._db)
            self._commits += 1
        except BaseException as e:
            # No room is found out before anything is synced, so this file is as good as it was.
            self.doubtful = self.doubtful or (isinstance(e, (OSError, sqlite3.Error)) and not is_full(e))
            with contextlib.suppress(sqlite3.Error):
                self._db.rollback()
            raise


def _path(folder: Path, number: int) -> Path:
    return folder / (f"spool-{number}.db" if number else "spool.db")


def _numbers(folder: Path) -> list[int]:
    found = (re.fullmatch(r"spool(?:-(\d+))?\.db", path.name) for path in folder.iterdir())
    return sorted(int(match[1] or 0) for match in found if match)


def _remove_database(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + ending).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    fix = "check that the disk is not full; if the file is broken, move its folder away: its frames stay readable there"
    try:
        db = sqlite3.connect(path, timeout=5)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=0"):
            db.execute(f"PRAGMA {pragma}")
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StorageError(f"{path}: {found}\n  fix: {fix}")
        columns = {row[1] for row in db.execute("PRAGMA table_info(item)")}
        if columns and "files_up" not in columns:
            db.execute("ALTER TABLE item ADD COLUMN files_up INTEGER NOT NULL DEFAULT 0")
        db.executescript(SCHEMA)
    except sqlite3.Error as e:
        raise StorageError(f"{path}: {e}\n  fix: {fix}") from e
    return db
