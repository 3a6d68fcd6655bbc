"""An engineer's order: written by a command, found by a running edge, and kept over a restart."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.station import end, plc_on, run_line, start_edge, wait_for, write_station
from edge.cli import app
from edge.maintenance import FILE, MaintenanceWatch, order
from inspection.errors import ConfigError, StorageError
from inspection.events import MaintenanceOrdered
from inspection.log import set_up_logging
from inspection.types import Code


def watch(folder: Path) -> tuple[MaintenanceWatch, list[MaintenanceOrdered]]:
    heard: list[MaintenanceOrdered] = []
    return MaintenanceWatch(folder, heard.append), heard


def test_an_order_is_heard_once_and_ends_at_its_time(tmp_path: Path) -> None:
    watching, heard = watch(tmp_path)
    watching.look()
    assert heard == []
    order(tmp_path, 30, "eve")
    watching.look()
    watching.look()
    assert [o.who for o in heard] == ["eve"]
    assert (heard[0].until_ns - heard[0].now_ns) / 60e9 == pytest.approx(30, abs=0.1)
    order(tmp_path, 0, "eve")
    watching.look()
    assert heard[1].until_ns <= heard[1].now_ns


def test_a_restart_finds_the_order_with_the_time_that_is_left(tmp_path: Path) -> None:
    until_ms = time.time_ns() // 1_000_000 + 60_000
    (tmp_path / FILE).write_text(json.dumps({"until_ms": until_ms, "who": "eve"}))
    watching, heard = watch(tmp_path)
    watching.look()
    assert (heard[0].until_ns - heard[0].now_ns) / 1e9 == pytest.approx(60, abs=5)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{}",
        "[]",
        '{"until_ms": "soon", "who": "eve"}',
        '{"until_ms": 1e999, "who": "eve"}',
        "\x00",
        '{"until_ms": 9, "minutes": [], "who": "eve"}',
    ],
)
def test_an_order_that_does_not_read_leaves_the_station_inspecting(tmp_path: Path, data: str) -> None:
    (tmp_path / FILE).write_text(data)
    watching, heard = watch(tmp_path)
    watching.look()
    assert heard == []


def test_a_clock_set_back_by_years_does_not_close_the_station_for_years(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"until_ms": 9_999_999_999_999, "who": "eve"}))
    watching, heard = watch(tmp_path)
    watching.look()
    assert (heard[0].until_ns - heard[0].now_ns) / 3.6e12 == pytest.approx(8)


def test_an_order_that_cannot_be_read_is_said_once_and_again_when_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("json")
    watching, heard = watch(tmp_path)
    (tmp_path / FILE).mkdir()
    for _ in range(3):
        watching.look()
    assert watching.trouble == "Is a directory"
    assert capsys.readouterr().err.count("cannot be read") == 1
    (tmp_path / FILE).rmdir()
    watching.look()
    assert watching.trouble == ""
    assert "can be read again" in capsys.readouterr().err
    order(tmp_path, 30, "eve")
    watching.look()
    assert [o.who for o in heard] == ["eve"]


def test_an_order_by_somebody_who_hides_files_can_be_read_by_the_edge(tmp_path: Path) -> None:
    """Root with a umask of 077 was told "no permit for 30 min", of which the edge's own user could read nothing."""
    before = os.umask(0o077)
    try:
        order(tmp_path, 30, "root")
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644


def test_an_order_that_is_over_stays_over_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edge whose clock began in the past found it on its disk again, and gave no permit for up to 8 h."""
    order(tmp_path, 30, "eve")
    order(tmp_path, 0, "eve")
    watching, heard = watch(tmp_path)
    watching.look()
    watching.look()
    assert len(heard) == 1
    yesterday_ns = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr("edge.maintenance.time.time_ns", lambda: yesterday_ns)
    restarted, heard = watch(tmp_path)
    restarted.look()
    assert heard == []
    order(tmp_path, 30, "eve")
    restarted.look()
    assert [o.who for o in heard] == ["eve"]


def test_an_order_lasts_no_longer_than_was_ordered_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(tmp_path, 30, "eve")
    yesterday_ns = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr("edge.maintenance.time.time_ns", lambda: yesterday_ns)
    watching, heard = watch(tmp_path)
    watching.look()
    assert (heard[0].until_ns - heard[0].now_ns) / 60e9 == pytest.approx(30)


def test_an_order_nobody_could_mean_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        order(tmp_path, 481, "eve")
    with pytest.raises(StorageError):
        order(tmp_path / "nowhere", 5, "eve")


@pytest.mark.broker
def test_a_running_line_stops_for_maintenance_and_does_not_start_by_itself(own_mosquitto: int, tmp_path: Path) -> None:
    config = write_station(tmp_path, own_mosquitto)
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            told = CliRunner().invoke(app, ["maintenance", str(config), "--who", "eve", "--minutes", "30"])
            assert told.output == "no permit for 30 min\n"
            wait_for(lambda: plc.view()["state"] == "TRIPPED", 3, "the stop")
            assert plc.view()["code"] == Code.MAINTENANCE
            assert end(edge) == 0
            edge = start_edge(config)
            wait_for(
                lambda: plc.view()["code"] == Code.MAINTENANCE and plc.newest and plc.newest.boot == 2,
                what="the next life",
            )
            time.sleep(0.7)
            assert not plc.press_start(), "the order outlives the restart"
            CliRunner().invoke(app, ["maintenance", str(config), "--who", "eve", "--minutes", "0"])
            wait_for(lambda: plc.view()["state"] == "READY", what="the permit")
            run_line(plc)
        finally:
            end(edge)
