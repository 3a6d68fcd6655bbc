"""Disks that fail on demand, and one that loses power.

`FailingDisk` raises at a chosen call. `RecordingDisk` writes down every step, so that afterwards any number of power
cuts can be laid into one run: what was not synced is then missing, torn or there, by chance, sector by sector.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from edge.files import Disk

SECTOR = 512
OPS = ("create", "write", "sync", "close", "rename", "sync_folder", "unlink", "commit", "checkpoint")


def disk_error(op: str, code: int) -> Exception:
    """What the system raises for this errno at this step."""
    if op not in ("commit", "checkpoint"):
        return OSError(code, os.strerror(code))
    full = code == errno.ENOSPC
    error = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR_FSYNC
    return error


class FailingDisk(Disk):
    """`fail[op]` is raised by every call of that step until it is taken away; `slow_s` is what each sync takes.

    Touching a descriptor again whose fsync has failed is the mistake databases lost data by: it is an AssertionError
    here, and counted in `touched_again`, since the code under test may catch it."""

    def __init__(self) -> None:
        self.fail: dict[str, Exception] = {}
        self.slow_s = 0.0
        self.calls: Counter[str] = Counter()
        self.touched_again = 0
        self._bad_fds: set[int] = set()
        self.free: int | None = None

    def _step(self, op: str, fd: int = -1) -> None:
        self.calls[op] += 1
        if fd in self._bad_fds and op != "close":
            self.touched_again += 1
            raise AssertionError(f"{op} on a descriptor whose fsync failed")
        if error := self.fail.get(op):
            if op == "sync":
                self._bad_fds.add(fd)
            raise error

    def create(self, path: Path) -> int:
        self._step("create")
        return super().create(path)

    def write(self, fd: int, data: bytes) -> None:
        if "write" in self.fail:  # as a full disk does: a part is taken
            super().write(fd, data[: len(data) // 2])
        self._step("write", fd)
        super().write(fd, data)

    def sync(self, fd: int) -> None:
        self._step("sync", fd)
        time.sleep(self.slow_s)
        super().sync(fd)

    def close(self, fd: int) -> None:
        super().close(fd)
        self._bad_fds.discard(fd)
        self._step("close")

    def rename(self, old: Path, new: Path) -> None:
        self._step("rename")
        super().rename(old, new)

    def sync_folder(self, path: Path) -> None:
        self._step("sync_folder")
        super().sync_folder(path)

    def unlink(self, path: Path) -> None:
        self._step("unlink")
        super().unlink(path)

    def commit(self, db: sqlite3.Connection) -> None:
        self._step("commit")
        super().commit(db)

    def checkpoint(self, db: sqlite3.Connection) -> None:
        self._step("checkpoint")
        super().checkpoint(db)

    def free_bytes(self, folder: Path) -> int:
        return super().free_bytes(folder) if self.free is None else self.free


# ── power ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Step:
    """One thing done to the disk, or one thing said about it (`durable`, `acked`)."""

    kind: str
    name: str = ""
    new_name: str = ""
    inode: int = 0
    data: bytes = b""
    sectors: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """For `sqlite`: (file, sector) -> bytes, everything this commit or checkpoint changed."""
    lengths: dict[str, int] = field(default_factory=dict)


class RecordingDisk(Disk):
    """The real disk of one spool folder, with a list of all steps. `lie`: fsync does nothing, to test the test."""

    def __init__(self, folder: Path, *, lie: bool = False) -> None:
        self.folder, self.lie = folder, lie
        self.steps: list[Step] = []
        self._inodes: dict[int, int] = {}
        self._count = 0
        self._known: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def say(self, kind: str, uid: str) -> None:
        with self._lock:
            self.steps.append(Step(kind, uid))

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._count += 1
        self._inodes[fd] = self._count
        self.steps.append(Step("create", self._name(path), inode=self._count))
        return fd

    def write(self, fd: int, data: bytes) -> None:
        super().write(fd, data)
        self.steps.append(Step("write", inode=self._inodes[fd], data=data))

    def sync(self, fd: int) -> None:
        super().sync(fd)
        if not self.lie and fd in self._inodes:
            self.steps.append(Step("sync", inode=self._inodes[fd]))

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.steps.append(Step("rename", self._name(old), self._name(new)))

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        if not self.lie:
            self.steps.append(Step("sync_folder", self._name(path)))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.steps.append(Step("unlink", self._name(path)))

    def commit(self, db: sqlite3.Connection) -> None:
        self._look()
        super().commit(db)
        self._look()

    def checkpoint(self, db: sqlite3.Connection) -> None:
        self._look()
        super().checkpoint(db)
        self._look()

    def _look(self) -> None:
        """What SQLite changed since the last look, as one step of sectors whose order nobody promised."""
        step = Step("sqlite")
        for path in sorted(self.folder.glob("spool*.db*")):
            if path.name.endswith("-shm"):
                continue  # rebuilt at the next start, never read after a power cut
            before, now = self._known.get(path.name, b""), path.read_bytes()
            for at in range(0, len(now), SECTOR):
                if now[at : at + SECTOR] != before[at : at + SECTOR]:
                    step.sectors[path.name, at] = now[at : at + SECTOR]
            if step.sectors or len(now) != len(before):
                step.lengths[path.name] = len(now)
            self._known[path.name] = now
        if step.sectors:
            self.steps.append(step)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))


class PowerCut:
    """The folder as a power cut during step `at` would leave it."""

    def __init__(self, steps: list[Step], at: int, rng: random.Random) -> None:
        self._rng = rng
        self._content: dict[int, bytearray] = {}
        self._synced: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._pending: list[Step] = []
        self._sqlite: dict[str, bytearray] = {}
        for step in steps[:at]:
            self._apply(step)
        if at < len(steps):
            self._tear(steps[at])
        # Names of files change in the journal of a file system in any order we care to fear.
        for step in self._pending:
            if rng.random() < 0.5:
                self._rename(step)

    def write_to(self, folder: Path) -> None:
        (folder / "frames").mkdir(parents=True)
        for name, data in self._sqlite.items():
            (folder / name).write_bytes(data)
        for name, inode in self._names.items():
            (folder / name).write_bytes(self._after_cut(inode))

    def _apply(self, step: Step) -> None:
        match step.kind:
            case "create":
                self._content[step.inode] = bytearray()
                self._pending.append(step)
            case "write":
                self._content[step.inode] += step.data
            case "sync":
                self._synced[step.inode] = bytes(self._content[step.inode])
            case "rename" | "unlink":
                self._pending.append(step)
            case "sync_folder":
                for waiting in self._pending:
                    self._rename(waiting)
                self._pending = []
            case "sqlite":
                self._write_sectors(step, 1.0)

    def _tear(self, step: Step) -> None:
        if step.kind == "sqlite":
            self._write_sectors(step, self._rng.choice((0.0, 0.1, 0.5, 0.9, 1.0)))
        elif step.kind == "write":
            self._content[step.inode] += step.data

    def _write_sectors(self, step: Step, share: float) -> None:
        for name, length in step.lengths.items():
            data = self._sqlite.setdefault(name, bytearray())
            if share == 1.0 or self._rng.random() < 0.5:
                del data[length:]
                data.extend(bytes(length - len(data)))
        for (name, at), sector in step.sectors.items():
            if self._rng.random() < share:
                data = self._sqlite[name]
                data.extend(bytes(max(0, at + len(sector) - len(data))))
                data[at : at + len(sector)] = sector

    def _rename(self, step: Step) -> None:
        if step.kind == "create":
            self._names[step.name] = step.inode
        elif step.kind == "unlink":
            self._names.pop(step.name, None)
        else:
            # The temporary name may not have been durable: the file is found under the new one all the same.
            inode = self._names.pop(step.name, None) or self._inode_of(step)
            if inode:
                self._names[step.new_name] = inode

    def _inode_of(self, step: Step) -> int | None:
        made = [s.inode for s in self._pending if s.kind == "create" and s.name == step.name]
        return made[-1] if made else None

    def _after_cut(self, inode: int) -> bytes:
        """Synced bytes are there; of the others any part may be, and what is missing reads as zeros."""
        content, safe = bytes(self._content[inode]), self._synced.get(inode)
        if safe == content:
            return content
        torn = bytearray(content[: self._rng.randint(0, len(content))])
        for at in range(0, len(torn), SECTOR):
            if self._rng.random() < 0.3:
                torn[at : at + SECTOR] = bytes(len(torn[at : at + SECTOR]))
        return bytes(torn)
