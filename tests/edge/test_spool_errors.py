"""A disk that fails at one step: nothing is acknowledged that is not there, and what fails heals by itself."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fault_outage import may_mount, small_file_system
from benchmarks.storage_disk import FailingDisk, disk_error
from edge import spool_db
from edge.files import DISK, Ballast, write_durably
from edge.spool import BALLAST_BYTES, RANK_HALT, RANK_UNCERTAIN, Item, Spool
from edge.state import EdgeState
from inspection.bundle import sha256
from inspection.types import Code, HaltReport

QUOTA = 10**9


def put(spool: Spool, *names: str, rank: int = RANK_HALT) -> None:
    for name in names:
        spool.offer(lambda name=name: Item(name, "t", b"p", rank, (name.encode() * 100,)), rank)  # type: ignore[misc]
    spool.flush()


def there(spool: Spool) -> list[str]:
    return [p.uid for p in spool.to_upload(1000) + spool.to_send(1000)]


def databases(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".db"))


def test_every_commit_is_synced(tmp_path: Path) -> None:
    spool = Spool(tmp_path, QUOTA)
    facts = spool._ask(
        lambda: [spool._rows._db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")]
    )
    assert facts == ["wal", 2], "2 is FULL: with NORMAL a power cut takes commits back"
    spool.close()


def test_a_database_whose_fsync_failed_is_left_behind(tmp_path: Path) -> None:
    class Watched(FailingDisk):
        old_was_there: list[bool] = []

        def sync_folder(self, path: Path) -> None:
            super().sync_folder(path)
            if path == tmp_path:
                self.old_was_there.append((tmp_path / "spool.db").exists())

    disk = Watched()
    spool = Spool(tmp_path, QUOTA, disk=disk)
    put(spool, "a", "b")
    disk.fail = {"commit": disk_error("commit", errno.EIO)}
    put(spool, "lost")
    assert (spool.counters.failed, spool.counters.accepted) == (1, 2)
    assert "disk I/O error" in spool.trouble
    disk.fail = {}
    put(spool, "c")
    assert spool.trouble == ""
    assert disk.old_was_there == [True], "the new name must be durable before the old file goes"
    assert databases(tmp_path) == ["spool-1.db"], "the doubtful file is gone, a copy of what it had committed serves"
    assert there(spool) == ["a", "b", "c"]
    spool.close()
    spool = Spool(tmp_path, QUOTA)
    assert there(spool) == ["a", "b", "c"]
    assert sorted(p.stem for p in (tmp_path / "frames").iterdir()) == sorted(
        sha for p in spool.to_upload() for sha, _ in p.files
    ), "no file of the lost item may stay"
    spool.close()


def test_a_lost_picture_that_comes_again_is_mended_whatever_becomes_of_its_second_item(tmp_path: Path) -> None:
    disk = FailingDisk()
    spool = Spool(tmp_path, QUOTA, disk=disk)
    spool.offer(lambda: Item("a", "t", b"", RANK_HALT, (b"picture",)), RANK_HALT)
    spool.flush()
    ((_, path),) = spool.to_upload()[0].files
    path.unlink()
    disk.fail = {"commit": disk_error("commit", errno.EIO)}
    spool.offer(lambda: Item("b", "t", b"", RANK_HALT, (b"picture",)), RANK_HALT)
    spool.flush()
    assert path.read_bytes() == b"picture"
    assert there(spool) == ["a"]
    spool.close()


def test_nothing_is_stored_while_no_new_database_can_be_made(tmp_path: Path) -> None:
    disk = FailingDisk()
    spool = Spool(tmp_path, QUOTA, disk=disk)
    put(spool, "a")
    disk.fail = {"commit": disk_error("commit", errno.EIO)}
    put(spool, "x")
    commits = disk.calls["commit"]
    disk.fail = {"rename": disk_error("rename", errno.EIO)}
    spool.offer(lambda: Item("y", "t", b"", RANK_HALT), RANK_HALT)
    spool.flush()
    assert disk.calls["commit"] == commits, "never again on the file whose fsync failed"
    assert there(spool) == ["a"], "what is safe can still be read, and sent"
    disk.fail = {}
    put(spool, "b")
    assert there(spool) == ["a", "b"]
    spool.close()


def test_a_crash_while_changing_databases_leaves_one_that_has_everything(tmp_path: Path) -> None:
    spool = Spool(tmp_path, QUOTA)
    put(spool, "a")
    spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("VACUUM INTO ?", (str(tmp_path / "spool-1.db"),))
    (tmp_path / ".spool-2.db.new").write_bytes(b"half of one")
    spool = Spool(tmp_path, QUOTA)
    put(spool, "b")
    assert there(spool) == ["a", "b"]
    assert databases(tmp_path) == ["spool-1.db"]
    spool.close()


def test_a_failed_checkpoint_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_db, "CHECKPOINT_EVERY", 2)
    disk = FailingDisk()
    spool = Spool(tmp_path, QUOTA, disk=disk)
    disk.fail = {"checkpoint": disk_error("checkpoint", errno.EIO)}
    names = [f"n{k}" for k in range(12)]
    for name in names:
        put(spool, name)
    assert disk.calls["checkpoint"] > 1
    assert there(spool) == names
    disk.fail = {}
    put(spool, "last")
    spool.close()
    spool = Spool(tmp_path, QUOTA)
    assert there(spool) == [*names, "last"]
    spool.close()


def test_a_full_disk_can_still_forget_what_the_hub_has(tmp_path: Path) -> None:
    """Else a disk that the spool itself has filled would stay full for ever: a deletion needs room as well."""

    class Full(FailingDisk):
        def commit(self, db: sqlite3.Connection) -> None:
            if (tmp_path / "ballast").exists() and self.free == 0:
                raise disk_error("commit", errno.ENOSPC)
            super().commit(db)

    disk = Full()
    spool = Spool(tmp_path, QUOTA, disk=disk)
    put(spool, "a", "b")
    disk.free = 0
    put(spool, "c")
    assert (spool.counters.refused, spool.counters.failed) == (1, 0)
    assert (tmp_path / "ballast").exists(), "new evidence must not use up what deletions need"
    spool.acknowledge(["a"])
    assert there(spool) == ["b"]
    assert not (tmp_path / "ballast").exists()
    disk.free = None
    spool.acknowledge(["b"])
    assert there(spool) == []
    assert (tmp_path / "ballast").exists(), "laid down again for the next time"
    spool.close()


def test_what_is_left_of_the_disk_is_kept_for_halts(tmp_path: Path) -> None:
    disk = FailingDisk()
    spool = Spool(tmp_path, QUOTA, reserve_bytes=64 << 20, disk=disk)
    disk.free = 63 << 20
    put(spool, "unsure", rank=RANK_UNCERTAIN)
    put(spool, "halt", rank=RANK_HALT)
    assert there(spool) == ["halt"]
    assert spool.counters.refused == 1
    spool.close()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_durably(path, b"old")
    for op in ("create", "write", "sync", "rename"):
        disk = FailingDisk()
        disk.fail = {op: disk_error(op, errno.EIO)}
        with pytest.raises(OSError, match="Input/output"):
            write_durably(path, b"new", disk)
        assert path.read_bytes() == b"old", op
        assert list(tmp_path.iterdir()) == [path], op
        assert disk.touched_again == 0


def test_a_half_written_file_of_a_crash_is_not_used_again(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    beside = tmp_path / ".state.json.new"
    beside.write_bytes(b"half")
    inode = beside.stat().st_ino
    keep = beside.open("rb")  # holds the inode, so that its number is not given out again
    write_durably(path, b"new")
    assert path.stat().st_ino != inode
    keep.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if not may_mount(tmp_path):
        pytest.skip("a small file system cannot be mounted here: it takes root")
    with small_file_system(tmp_path, 12):
        yield tmp_path


def fill(spool: Spool) -> list[str]:
    """Halts until not even a small one finds room; their names."""
    names = itertools.count()
    for size in (60_000, 3_000):
        before = spool.counters.refused
        while spool.counters.refused < before + 3:
            data = (b"%d." % next(names) * size)[:size]
            spool.offer(lambda d=data: Item(sha256(d), "t", b"p", RANK_HALT, (d,)), RANK_HALT)  # type: ignore[misc]
            spool.flush()
    return there(spool)


def fill_to_the_last_byte(folder: Path) -> None:
    with (folder / f"filler{os.urandom(4).hex()}").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    assert DISK.free_bytes(folder) == 0


def test_an_edge_starts_on_a_disk_that_the_spool_has_filled_and_empties_it(small_disk: Path) -> None:
    EdgeState(small_disk).close()
    spool = Spool(small_disk / "spool", QUOTA)
    waiting = fill(spool)
    spool.close()
    (small_disk / "spool" / "spool.db-shm").unlink(missing_ok=True)  # SQLite makes it anew, of 32 KiB
    fill_to_the_last_byte(small_disk)

    spool = Spool(small_disk / "spool", QUOTA)
    assert there(spool) == waiting
    fill_to_the_last_byte(small_disk)
    state = EdgeState(small_disk, ballast=spool.ballast)
    for halt in (HaltReport(10_001, Code.DEFECT, "pore"), None, HaltReport(10_002, Code.DEFECT, "pore")):
        fill_to_the_last_byte(small_disk)
        state.set_halt(halt)
        assert state.flush(), state.failing
    assert json.loads((small_disk / "state.json").read_text())["open_halt"]["halt"] == 10_002
    state.close()

    fill_to_the_last_byte(small_disk)
    assert (small_disk / "spool" / "ballast").stat().st_size > BALLAST_BYTES // 2, "a deletion needs room as well"
    spool.acknowledge(waiting)
    assert there(spool) == []
    spool.close()


def test_ballast_is_laid_down_only_where_there_is_room(tmp_path: Path) -> None:
    disk = FailingDisk()
    ballast = Ballast(tmp_path / "ballast", 1000, disk)
    disk.free = 4000
    ballast.keep()
    assert not ballast.drop()
    disk.free = 4001
    ballast.keep()
    assert (tmp_path / "ballast").stat().st_size == 1000
    assert ballast.drop()
