"""The few things evidence does to a disk, in one place, so that a test can make each of them fail.

Whatever else touches the spool's folder (reading, listing, SQLite's own pages) can fail without anything being
acknowledged that is not there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from inspection.errors import StorageError


class Disk:
    """The real one. Every method raises OSError or sqlite3.Error as the system does; nothing here tries again."""

    def create(self, path: Path) -> int:
        """A new file, open for writing; what a crash left under this name goes first, so that no old page is reused."""
        path.unlink(missing_ok=True)
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)

    def write(self, fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]  # a disk that fills up takes a part, and refuses the next call

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def sync_folder(self, path: Path) -> None:
        """Make names durable: a name lives in the folder, not in the file."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def commit(self, db: sqlite3.Connection) -> None:
        db.commit()

    def checkpoint(self, db: sqlite3.Connection) -> None:
        """Move the WAL into the database: SQLite syncs the one before it writes the other."""
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def free_bytes(self, folder: Path) -> int:
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize


DISK = Disk()


def write_beside(path: Path, data: bytes, disk: Disk = DISK) -> None:
    """Write `path` whole: beside, fsync, rename. Durable once its folder is synced too; on any error nothing stays."""
    beside = path.with_name(f".{path.name}.new")
    try:
        fd = disk.create(beside)
        try:
            disk.write(fd, data)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.rename(beside, path)
    except OSError:
        # After a failed fsync the kernel calls the pages clean: only a new file can be trusted, never this one.
        with contextlib.suppress(OSError):
            disk.unlink(beside)
        raise


def write_durably(path: Path, data: bytes, disk: Disk = DISK, ballast: Ballast | None = None) -> None:
    """After a power cut the file is the old one or the new one; on return it is the new one. On a full disk it takes
    the ballast's room, if one is given."""
    try:
        write_beside(path, data, disk)
    except OSError as e:
        if ballast is None or not is_full(e) or not ballast.lend(lambda: write_beside(path, data, disk)):
            raise
    disk.sync_folder(path.parent)


class Ballast:
    """A file that is given up when the disk is so full that not even a deletion can be written. For any thread."""

    def __init__(self, path: Path, size: int, disk: Disk = DISK) -> None:
        self._path, self._size, self._disk = path, size, disk
        self._lock = threading.RLock()

    def keep(self) -> None:
        """Lay it down again where there is room for several of it."""
        with self._lock, contextlib.suppress(OSError):
            if self._held() < self._size and self._disk.free_bytes(self._path.parent) > 4 * self._size:
                write_beside(self._path, bytes(self._size), self._disk)

    def drop(self) -> bool:
        """True when that made room."""
        with self._lock:
            if not self._held():
                return False
            self._disk.unlink(self._path)
            return True

    def lend(self, work: Callable[[], None]) -> bool:
        """Do `work` in its room, then lay down again what fits: else new evidence takes the rest, and the next
        deletion has none. False, and nothing done, when there was no ballast left."""
        with self._lock:
            if not self.drop():
                return False
            try:
                work()
            finally:
                self._lay_what_fits()
            return True

    def _lay_what_fits(self) -> None:
        for eighths in (8, 7, 6, 4, 2):
            with contextlib.suppress(OSError):
                write_beside(self._path, bytes(self._size * eighths // 8), self._disk)
                return

    def _held(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


def claim(folder: Path, *more: Path) -> int:
    """Make the folders and lock the first; the lock's descriptor. One edge for one folder: a second one would sweep
    away what the first has just written."""
    try:
        for one in (folder, *more):
            one.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as e:
        fix = "give the user that runs the edge a folder it may write to: state_dir in edge.yaml"
        raise StorageError(f"{e.filename or folder}: {e.strerror}\n  fix: {fix}") from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(lock)
        raise StorageError(
            f"{folder / 'lock'}: another edge keeps its evidence here\n"
            "  fix: end that one, or give this one a state_dir of its own in edge.yaml"
        ) from e
    return lock


def is_full(error: Exception) -> bool:
    """Whether the disk had no room, which passes, unlike a disk that breaks."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
