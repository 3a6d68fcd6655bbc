"""The stop, measured where it counts: at a controller on the other side of a real broker."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from benchmarks.station import (
    TOPICS,
    end,
    plc_on,
    run_line,
    start_edge,
    state_file,
    trip_after,
    wait_for,
    write_station,
)
from edge.config import MqttConfig
from edge.line.connection import Connection
from inspection.messages import Resume

pytestmark = pytest.mark.broker
WATCHDOG_S = 1.05


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_defect_stops_the_line_and_only_a_reset_and_a_start_run_it_again(
    own_mosquitto: int, tmp_path: Path, protocol: str
) -> None:
    # 60 good frames, then a 6 mm bar in view for 5 frames, then good ones for a long time
    pictures = [0.0] * 60 + [6.0] * 5 + [0.0] * 1500
    config = write_station(tmp_path, own_mosquitto, pictures=pictures, protocol=protocol)
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            wait_for(lambda: plc.view()["state"] == "TRIPPED", what="the halt")
            view = plc.view()
            assert view["code"] == 1
            assert view["halt"] == 10_001
            assert "halt 10001" in view["why"]
            time.sleep(0.5)
            assert not plc.press_start(), "a start without a permit must do nothing"
            assert plc.press_reset("kim")
            run_line(plc)
            assert plc.view()["halt"] == 0
            assert plc.view()["state"] == "RUNNING"
        finally:
            assert end(edge) == 0


def test_a_killed_edge_trips_the_line_by_its_silence(own_mosquitto: int, tmp_path: Path) -> None:
    config = write_station(tmp_path, own_mosquitto)
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            time.sleep(0.5)
            injected = time.monotonic_ns()
            os.kill(edge.pid, signal.SIGKILL)
            after_s, why = trip_after(plc, injected)
            assert after_s <= WATCHDOG_S
            assert "no valid permit" in why
            edge.wait()
            edge = start_edge(config)
            wait_for(lambda: plc.view()["state"] == "READY", what="the permit of the next life")
            assert plc.view()["state"] != "RUNNING", "the line must not run before START"
            assert state_file(config)["boot"] == 2
        finally:
            end(edge)


def test_an_orderly_end_stops_the_line_at_once_and_is_not_called_a_camera_without_frames(
    own_mosquitto: int, tmp_path: Path
) -> None:
    config = write_station(tmp_path, own_mosquitto)
    with plc_on(own_mosquitto, watchdog_ms=5000) as plc:
        edge = start_edge(config)
        run_line(plc)
        ended = time.monotonic_ns()
        assert end(edge) == 0
        assert trip_after(plc, ended)[0] < 2, "by the watchdog only"
    said = (tmp_path / "edge.log").read_text()
    assert "asked to stop" in said
    assert "camera closed" in said
    assert "no more frames" not in said


def test_an_orderly_end_waits_for_no_hub_that_does_not_answer(own_mosquitto: int, tmp_path: Path) -> None:
    """A request waits 10 s for its answer, and the interpreter waited for it; a supervisor kills after 15 s."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        more = f"hub: {{url: 'http://127.0.0.1:{hung.getsockname()[1]}'}}"
        config = write_station(tmp_path, own_mosquitto, policy="k: 2, n: 3, audit_share: 1.0", more=more)
        edge = start_edge(config)
        try:
            hung.settimeout(20)
            asked = [hung.accept()]
            edge.terminate()
            assert edge.wait(8) == 0
            assert asked
        finally:
            end(edge)


def test_a_stopped_process_trips_the_line_and_does_not_run_it_when_it_wakes(own_mosquitto: int, tmp_path: Path) -> None:
    config = write_station(tmp_path, own_mosquitto)
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            injected = time.monotonic_ns()
            os.kill(edge.pid, signal.SIGSTOP)
            after_s, _ = trip_after(plc, injected)
            assert after_s <= WATCHDOG_S
            time.sleep(2)
            os.kill(edge.pid, signal.SIGCONT)
            time.sleep(2)
            assert plc.view()["state"] != "RUNNING"
        finally:
            end(edge)


def test_an_open_halt_outlives_the_edge(own_mosquitto: int, tmp_path: Path) -> None:
    config = write_station(tmp_path, own_mosquitto, pictures=[0.0] * 40 + [6.0] * 5 + [0.0] * 1500)
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            wait_for(lambda: plc.view()["halt"] == 10_001, what="the halt")
            wait_for(lambda: state_file(config)["open_halt"], what="the halt on disk")
            os.kill(edge.pid, signal.SIGKILL)
            edge.wait()
            edge = start_edge(config)
            wait_for(lambda: plc.newest and plc.newest.boot == 2, what="the next life")
            time.sleep(1)
            assert plc.view()["halt"] == 10_001
            assert plc.view()["state"] == "TRIPPED"
            assert plc.press_reset()
            run_line(plc)
            wait_for(lambda: state_file(config)["open_halt"] is None, what="the end of the halt on disk")
        finally:
            end(edge)


def test_a_new_computer_is_believed_at_once_and_its_halts_are_new_ones(own_mosquitto: int, tmp_path: Path) -> None:
    config = write_station(tmp_path, own_mosquitto, pictures=[0.0] * 40 + [6.0] * 5 + [0.0] * 1500)
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            wait_for(lambda: plc.view()["halt"] == 10_001, what="the halt")
            os.kill(edge.pid, signal.SIGKILL)
            edge.wait()
            shutil.rmtree(tmp_path / "state")
            edge = start_edge(config)
            run_line(plc)
            wait_for(lambda: plc.view()["state"] == "TRIPPED", what="the new one's halt")
            boot = state_file(config)["boot"]
            assert boot > 50_000
            assert plc.view()["halt"] == boot * 10_000 + 1
        finally:
            end(edge)


def test_a_second_edge_on_the_same_folder_ends_before_it_touches_the_first_ones_memory(
    own_mosquitto: int, tmp_path: Path
) -> None:
    config = write_station(tmp_path, own_mosquitto, pictures=[0.0] * 40 + [6.0] * 5 + [0.0] * 1500)
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            wait_for(lambda: state_file(config)["open_halt"], what="the halt on disk")
            memory = (tmp_path / "state" / "state.json").stat()
            assert start_edge(config).wait(30) == 1
            assert "another edge keeps its evidence here" in (tmp_path / "edge.log").read_text()
            after = (tmp_path / "state" / "state.json").stat()
            assert (after.st_ino, after.st_mtime_ns) == (memory.st_ino, memory.st_mtime_ns), "written by the second"
            os.kill(edge.pid, signal.SIGKILL)
            edge.wait()
            edge = start_edge(config)
            wait_for(lambda: plc.newest and plc.newest.boot == 2, what="the next life")
            wait_for(lambda: plc.view()["halt"] == 10_001, what="the halt of the life before")
        finally:
            end(edge)


def test_a_resume_from_the_past_does_nothing(own_mosquitto: int, tmp_path: Path) -> None:
    config = write_station(tmp_path, own_mosquitto, pictures=[0.0] * 40 + [6.0] * 5 + [0.0] * 1500)
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        attacker = Connection(MqttConfig(port=own_mosquitto), "attacker")
        attacker.start()
        try:
            run_line(plc)
            wait_for(lambda: plc.view()["halt"] == 10_001, what="the halt")
            wait_for(lambda: attacker.connected)
            wait_for(lambda: plc.view()["seq"] > 40, 20, "permits enough for an old one")
            seq = plc.view()["seq"]
            stale = Resume(halt=10_001, who="ghost", nonce="stale-one", boot=1, seq=seq - 30)
            other = Resume(halt=10_002, who="ghost", nonce="wrong-halt", boot=1, seq=seq)
            past = Resume(halt=10_001, who="ghost", nonce="other-boot", boot=0, seq=seq)
            for resume in (stale, other, past):
                attacker.publish(TOPICS.of(Resume), resume.encode(), qos=1)
            retained = Resume(halt=10_001, who="ghost", nonce="retained-one", boot=1, seq=plc.view()["seq"])
            attacker.publish(TOPICS.of(Resume), b"\xff{not json", qos=1)
            time.sleep(1)
            assert plc.view()["run"] == 0
            assert plc.view()["halt"] == 10_001
            # kept by the broker and handed to the next life of the edge: an order of unknown age
            end(edge)
            attacker.publish(TOPICS.of(Resume), retained.encode(), qos=1, retain=True)
            edge = start_edge(config)
            wait_for(lambda: plc.newest and plc.newest.boot == 2, what="the next life")
            time.sleep(1)
            assert plc.view()["halt"] == 10_001
        finally:
            attacker.stop()
            end(edge)
