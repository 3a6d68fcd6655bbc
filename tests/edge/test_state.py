"""The edge's memory: a start count that never goes back, and an open halt that only a person ends."""

from __future__ import annotations

import errno
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.storage_disk import FailingDisk, disk_error
from edge.state import EdgeState
from inspection.errors import StorageError
from inspection.types import Code, HaltReport

HALT = HaltReport(10_001, Code.DEFECT, "porosity 2.2 mm", "porosity", 0.97, 0.6, 2.2, 1.5, 412, "P-7", (410, 412))


def starts_at(monkeypatch: pytest.MonkeyPatch, utc: str) -> None:
    at_s = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    monkeypatch.setattr("edge.state.time.time", lambda: at_s)


def test_each_start_counts_and_the_open_halt_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts_at(monkeypatch, "2020-01-01")
    first = EdgeState(tmp_path)
    assert (first.boot, first.open_halt) == (1, None)
    starts_at(monkeypatch, "2026-11-30")  # counted on, not anew
    first.set_halt(HALT)
    first.close()
    second = EdgeState(tmp_path)
    assert (second.boot, second.open_halt) == (2, HALT)
    second.set_halt(None)
    second.close()
    third = EdgeState(tmp_path)
    assert (third.boot, third.open_halt) == (3, None)
    third.close()


def test_a_new_computer_counts_from_above_what_a_retired_one_has_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts_at(monkeypatch, "2026-01-05T06:00")
    for _ in range(500):
        retired = EdgeState(tmp_path / "retired")
        retired.close()
    starts_at(monkeypatch, "2026-11-30T09:30")
    new = EdgeState(tmp_path / "new")
    new.close()
    assert new.boot == 60_610, "the hours since 2020, and this start"
    assert new.boot > retired.boot


def test_a_clock_that_stands_before_2020_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts_at(monkeypatch, "1970-01-01T00:00:07")
    state = EdgeState(tmp_path)
    assert state.boot == 1
    state.close()


def test_a_slow_disk_does_not_hold_up_the_frame_path(tmp_path: Path) -> None:
    disk = FailingDisk()
    state = EdgeState(tmp_path, disk)
    disk.slow_s = 0.3
    began = time.perf_counter()
    for _ in range(100):
        state.set_halt(HALT)
        state.set_halt(None)
    state.set_halt(HALT)
    assert time.perf_counter() - began < 0.1
    assert state.flush(3)
    assert json.loads((tmp_path / "state.json").read_text())["open_halt"]["halt"] == 10_001, "the newest wins"
    state.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_halt_that_cannot_be_written_is_written_later(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.state.AGAIN_S", 0.02)
    disk = FailingDisk()
    state = EdgeState(tmp_path, disk)
    disk.fail = {"sync": disk_error("sync", code)}
    state.set_halt(HALT)
    assert not state.flush(0.1)
    assert state.failing
    assert json.loads((tmp_path / "state.json").read_text())["open_halt"] is None
    disk.fail = {}
    assert state.flush(2)
    assert state.failing == ""
    assert json.loads((tmp_path / "state.json").read_text())["open_halt"]["halt"] == 10_001
    assert disk.touched_again == 0
    state.close()


BROKEN = ("", "{", "[]", '{"boot": "x", "open_halt": null}', '{"boot": 3}', '{"boot": 3, "open_halt": {"halt": 1}}')


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_memory_is_said_and_never_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(StorageError, match=r"state.json: .*\n  fix: restore it"):
        EdgeState(tmp_path)
    assert (tmp_path / "state.json").read_text() == text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file.*\n  fix: .*state_dir"):
        EdgeState(tmp_path / "file" / "state")
