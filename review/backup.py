"""A backup of the hub: the database as of one moment, every file it names, and a list with the sha256 of each.

Frames never change and are named by their content, so they are kept once for all backups (`pool/`): as copies, since
what damages a file damages every link to it. What enters the pool is read, what lies there is read in turn, and a frame
that is not what its name says is named. A restore checks every byte against the list before the hub sees it.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import make_url

from inspection.errors import ConfigError, HaltlineError, InputError, StorageError
from review import audit
from review.clock import wall_ms
from review.frames.folder import sync
from review.owner import give
from review.settings import Settings
from review.store import Store
from review.store.db import must_hold_hub, read_only

log = structlog.get_logger("review.backup")

DATABASE, LIST, POOL = "hub.db", "files.jsonl", "pool"
PART = "restore.part"
"""In the new hub's folder, which may be a disk of its own: where a restore builds, until all of it is there."""
WHOLE = "restore.whole"
"""The same once all of it is there, while it is moved to its place."""
SMALL = ("secret", "badge_key", "mqtt_client_id", "audit.anchor")
"""Beside the database: what signs cookies, the hub's name at the broker, the newest link of the audit log."""
FOLDERS = ("frames", "bundles")
TURN, IN_TURN = "turn", 8
"""`pool/turn` says which of the pool's 256 folders are read next; so many of them with every backup."""
BLOCK = 1 << 20
NAME = "%Y-%m-%dT%H%M%SZ"
AHEAD_S = 60
"""Where its second was taken a backup has the name of a later one, and clocks are set by some seconds."""


@dataclass(frozen=True, slots=True)
class Backup:
    """`files` and `bytes` count everything listed, `added` what was written into the pool. `damaged`: files of the hub
    that are not what their names say; they are listed, and can be restored where the pool has them from before."""

    path: Path
    at_ms: int
    files: int
    added: int
    bytes: int
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """`missing`: what the backup names and does not have whole."""

    files: int
    missing: tuple[str, ...] = ()


def make(settings: Settings, out: Path, now_ms: int) -> Backup:
    """A new folder below `out`, named by the time, or by the next second that has none; it appears whole or not at all.
    ConfigError where there is no hub or its database is no SQLite file, StorageError when the disk would not."""
    database = _database_file(settings)
    part, mine = None, -1
    try:
        must_hold_hub(database)
        (out / POOL).mkdir(parents=True, exist_ok=True)
        _drop_killed(out)
        folder, part, mine = _claim(out, now_ms)
        # The audit log's anchor before the database, or it might name a row that the copy does not have; the frames
        # after it: whatever a row names was in its folder before the row was committed.
        for small in SMALL:
            if (settings.data_dir / small).is_file():
                (part / small).touch(mode=0o600)
                shutil.copyfile(settings.data_dir / small, part / small)
        _copy_database(database, part / DATABASE)
        made = _copy_files(settings.data_dir, out, part, folder, now_ms)
        os.replace(part, folder)  # noqa: PTH105 - a folder, in one step
        sync(out)
    except (OSError, sqlite3.Error) as e:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        raise StorageError(f"no backup was made below {out}: {e}") from e
    finally:
        if mine >= 0:
            os.close(mine)
    return made


def _drop_killed(out: Path) -> None:
    """What backups that were killed had copied so far: a database each. One that is being made is locked."""
    for part in out.glob("*Z.part"):
        with suppress(OSError):
            lock = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(part, ignore_errors=True)
            finally:
                os.close(lock)


def _claim(out: Path, now_ms: int) -> tuple[Path, Path, int]:
    """The name of a new backup, the folder it is made in and that one's lock, which nobody else has: the button and the
    command may both make one in one second."""
    for second in itertools.count(now_ms // 1000):
        folder = out / datetime.fromtimestamp(second, UTC).strftime(NAME)
        part = folder.with_name(f"{folder.name}.part")
        try:
            part.mkdir()
        except FileExistsError:
            continue
        if (lock := _locked(part)) is None:
            continue
        if not folder.exists():  # looked at only now: nobody can finish one of this name any more
            return folder, part, lock
        os.close(lock)
        part.rmdir()
    raise AssertionError("seconds do not end")


def _locked(part: Path) -> int | None:
    """The lock's descriptor; None where somebody took the folder for a killed one's before it was locked."""
    try:
        lock = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        pass  # a file system that knows no locks, as some networks': there nothing is taken for a killed one's
    return lock


def newest(out: Path, now_ms: int) -> Backup | None:
    """The latest complete backup below `out`. One of a time that is still to come was made while the clock was ahead:
    it hides none that was made since."""
    ahead = datetime.fromtimestamp(now_ms // 1000 + AHEAD_S, UTC).strftime(NAME)
    found = [path for path in out.glob("*Z") if (path / LIST).is_file()] if out.is_dir() else []
    if not found:
        return None
    found.sort(key=lambda path: (path.name <= ahead, path.name))
    rows = list(_listed(found[-1]))
    at = datetime.strptime(found[-1].name, NAME).replace(tzinfo=UTC)
    damaged = tuple(row["path"] for row in rows if row["damaged"])
    return Backup(found[-1], int(at.timestamp() * 1000), len(rows), 0, sum(int(row["bytes"]) for row in rows), damaged)


def restore(backup: Path, data: Path, *, without_damaged: bool = False) -> Restored:
    """Put a backup into `data`, which must not hold a hub yet: whole or not at all. InputError when a listed file is
    missing or damaged; `without_damaged` leaves such files out, and the database is never one of them. StorageError
    when the disk would not: a second try finds nothing in its way."""
    _take_back(data)
    _no_hub_in(data)
    if not (backup / LIST).is_file():
        raise InputError(
            str(backup), f"has no {LIST}: it is no complete backup", "name a folder such as 2026-11-20T210000Z"
        )
    rows = list(_listed(backup))
    sources = {row["path"]: _source(backup, row) for row in rows}
    missing = [row["path"] for row in rows if not _holds(sources[row["path"]], row["sha256"])]
    if missing and (not without_damaged or DATABASE in missing):
        raise _not_whole(missing, sources)
    left_out = set(missing)
    rows = [row for row in rows if row["path"] not in left_out]
    new, part = not data.exists(), data / PART
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a try that was killed
        part.mkdir(parents=True)
        _build(part, rows, sources)
        _no_hub_in(data)  # nor one that was started meanwhile
        _move_in(part, data)
    except (OSError, sqlite3.Error) as e:
        raise StorageError(
            f"nothing was restored into {data}: {e}\n  fix: make room there or mend the disk, then restore once more"
        ) from e
    finally:
        with suppress(OSError):
            _take_back(data)
        shutil.rmtree(part, ignore_errors=True)
        if new:
            with suppress(OSError):  # it holds a hub now
                data.rmdir()
    return Restored(len(rows), tuple(missing))


def _build(part: Path, rows: list[dict[str, str]], sources: dict[str, Path]) -> None:
    for row in rows:
        target = part / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if row["path"] in SMALL:
            target.touch(mode=0o600)
        if _copy(sources[row["path"]], target) != row["sha256"]:
            raise OSError(f"{sources[row['path']]} is not what it was a moment ago")
    with closing(sqlite3.connect(part / DATABASE)) as db:
        _check(db)
    for path in part.rglob("*"):
        give(path, part.parent)
    for folder in {part, *(path for path in part.rglob("*") if path.is_dir())}:
        sync(folder)


def _move_in(part: Path, data: Path) -> None:
    """The database last: a hub must never open without its pictures."""
    whole = part.rename(data / WHOLE)
    sync(data)
    for path in whole.iterdir():
        if path.name != DATABASE:
            path.rename(data / path.name)
    sync(data)
    (whole / DATABASE).rename(data / DATABASE)
    for folder in (data, data.parent):
        sync(folder)


def _take_back(data: Path) -> None:
    """What a restore that was ended in the middle of moving had put there: none of it is a hub's yet."""
    whole = data / WHOLE
    if (whole / DATABASE).exists() and not (data / DATABASE).exists():
        for name in (*SMALL, *FOLDERS):
            if (data / name).exists() and not (whole / name).exists():
                (data / name).rename(whole / name)
    shutil.rmtree(whole, ignore_errors=True)


def _no_hub_in(data: Path) -> None:
    """Nor anything of one: SQLite would play a log or a journal that was left beside into the restored database."""
    beside = (f"{DATABASE}{end}" for end in ("-wal", "-shm", "-journal"))
    if there := [name for name in (DATABASE, *beside, *SMALL, *FOLDERS) if (data / name).exists()]:
        raise InputError(
            str(data),
            f"holds a hub already, or what is left of one: {', '.join(there)}",
            "restore into a new folder, or move all of these away together and keep them: they belong to each other",
        )


def _not_whole(missing: list[str], sources: dict[str, Path]) -> InputError:
    first = sources[DATABASE if DATABASE in missing else missing[0]]
    more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
    fix = "take another backup; the hub's edges still hold what it never confirmed"
    if DATABASE not in missing:
        fix += ". --without-damaged restores the rest and lists what it lacks"
    return InputError(str(first), ("is damaged" if first.is_file() else "is missing") + more, fix)


class Backups:
    """One backup at a time, on a thread of its own, for the button on the System page."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._lock = threading.Lock()
        self.running_since_ms = 0
        self.failed = ""
        """Why the last one was not made; empty when it was."""

    @property
    def possible(self) -> bool:
        """Whether the database is one that is copied here; of another its own tool makes the backup."""
        return make_url(self._settings.database).get_backend_name() == "sqlite"

    @property
    def folder(self) -> Path:
        return self._settings.backups_dir

    def start(self, who: str) -> bool:
        """False when one is running already."""
        with self._lock:
            if self.running_since_ms:
                return False
            self.running_since_ms = wall_ms()
        threading.Thread(target=self._work, args=(who,), name="backup", daemon=True).start()
        return True

    def _work(self, who: str) -> None:
        try:
            made = make(self._settings, self.folder, wall_ms())
            if made.damaged:
                log.error("files of the hub are damaged", files=made.damaged[:20], count=len(made.damaged))
            told = {"files": made.files, "bytes": made.bytes, "damaged": len(made.damaged)}
            with self._store.writing() as session:
                audit.note(session, who, "backup_made", f"backup {made.path.name}", **told)
            self.failed = ""
        except Exception as e:
            self.failed = str(e)
            # Our own errors say what and why; of any other the traceback does.
            log.exception("backup failed", why=self.failed, exc_info=not isinstance(e, HaltlineError))
        finally:
            self.running_since_ms = 0


def _database_file(settings: Settings) -> Path:
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ConfigError("database_url", f"{url.get_backend_name()} is not copied here", "back it up with pg_dump")
    return Path(url.database)


def _copy_database(source: Path, target: Path) -> None:
    """SQLite's own online backup: one moment of a database that others go on writing."""
    with closing(read_only(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy, pages=2000, sleep=0.01)
        _check(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    sync(target)


def _check(db: sqlite3.Connection) -> None:
    said = db.execute("PRAGMA integrity_check").fetchone()[0]
    if said != "ok":
        raise StorageError(f"the copy of the database is damaged: {said}")


def _copy_files(data: Path, out: Path, part: Path, folder: Path, now_ms: int) -> Backup:
    files = added = size = 0
    pool, suspects, damaged = out / POOL, _damaged_before(out, now_ms), list[str]()
    first = _turn(pool)
    looked_at = {f"{(first + n) % 256:02x}" for n in range(IN_TURN)}
    with (part / LIST).open("w", encoding="utf-8") as listed:
        for path in _files(data, part):
            base = part if path.parent == part else data
            row = {"path": path.relative_to(base).as_posix(), "bytes": path.stat().st_size}
            # A frame's name is its sha256; everything else is read.
            named = path.is_relative_to(data / "frames") and re.fullmatch(r"[0-9a-f]{64}", path.name)
            row["sha256"] = sha = path.name if named else _sha256(path)
            if base == data:
                look = sha[:2] in looked_at or row["path"] in suspects
                wrote, whole = _into_pool(path, pool / sha[:2] / sha, part / "arriving", look)
                added += wrote
                if not whole:
                    damaged.append(str(row["path"]))
                    row["damaged"] = True
            listed.write(json.dumps(row) + "\n")
            files, size = files + 1, size + row["bytes"]  # type: ignore[operator]
        listed.flush()
        os.fsync(listed.fileno())
    (pool / TURN).write_text(str((first + IN_TURN) % 256))
    return Backup(folder, now_ms, files, added, size, tuple(damaged))


def _damaged_before(out: Path, now_ms: int) -> frozenset[str]:
    """What the last backup found is read again each time: it must not be forgotten until its turn comes."""
    try:
        last = newest(out, now_ms)
    except (InputError, OSError):
        return frozenset()
    return frozenset(last.damaged if last else ())


def _turn(pool: Path) -> int:
    try:
        return int((pool / TURN).read_text())
    except (OSError, ValueError):
        return 0


def _files(data: Path, part: Path) -> Iterator[Path]:
    yield from (part / name for name in (DATABASE, *SMALL) if (part / name).is_file())
    for folder in FOLDERS:
        for here, inside, names in os.walk(data / folder, onerror=_unless_absent):
            inside[:] = sorted(name for name in inside if not name.startswith("."))  # `.new-…`: half an upload
            yield from (Path(here) / name for name in sorted(names) if not name.startswith("."))


def _unless_absent(error: OSError) -> None:
    """A hub that has no bundles yet has no folder of them; any other that cannot be listed must not be left out."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _into_pool(path: Path, target: Path, half: Path, look: bool) -> tuple[bool, bool]:
    """Whether `target`, whose name is its sha256, was written, and whether `path` is whole. What is there already is
    read where its size is another or where it is looked at in its turn, and replaced where it is bad and `path` is not;
    so is a link to `path` itself, as backups were once made of."""
    sha = target.name
    if target.exists():
        if not look and target.stat().st_size == path.stat().st_size:
            return False, True
        whole = _holds(path, sha)
        if not whole or (_holds(target, sha) and not target.samefile(path)):
            return False, whole
    target.parent.mkdir(parents=True, exist_ok=True)
    if _copy(path, half) != sha:
        half.unlink()
        return False, False
    half.replace(target)
    return True, True


class _Unreadable(OSError):
    """The disk does not give a file's bytes back."""


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as e:
        raise _Unreadable(e.errno, e.strerror, str(path)) from e


def _copy(path: Path, target: Path) -> str:
    """Durably; the sha256 of what was copied, empty when `path` cannot be read to its end."""
    digest = hashlib.sha256()
    with target.open("wb") as copy:
        try:
            for block in _blocks(path):
                digest.update(block)
                copy.write(block)
        except _Unreadable:
            return ""
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _holds(path: Path, sha: str) -> bool:
    try:
        return _sha256(path) == sha
    except OSError:  # not there, or a sector that cannot be read
        return False


def _source(backup: Path, row: dict[str, str]) -> Path:
    here = backup / row["path"]
    return here if row["path"] in (DATABASE, *SMALL) else backup.parent / POOL / row["sha256"][:2] / row["sha256"]


def _listed(backup: Path) -> Iterator[dict[str, str]]:
    """`damaged` is empty, or says that the hub's own file was when the backup was made."""
    with (backup / LIST).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                path = _inside(Path(row["path"]))
                damaged = "yes" if row.get("damaged") else ""
                told = {"path": path.as_posix(), "bytes": str(int(row["bytes"])), "sha256": str(row["sha256"])}
                yield told | {"damaged": damaged}
            except (ValueError, KeyError, TypeError) as e:
                raise InputError(f"{backup / LIST}:{number}", f"does not read: {e}", "take another backup") from e


def _inside(path: Path) -> Path:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{path} leads out of the folder")
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()
