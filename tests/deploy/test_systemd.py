"""The edge under systemd: signs of life on a real socket, and units that systemd itself accepts."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.station import end, write_station
from edge.systemd import PERIOD_S, Supervisor
from tests.conftest import free_port

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
HANGING = Path(__file__).with_name("hanging_edge.py")
S = 1_000_000_000


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)

    def hears(self, timeout_s: float) -> str:
        self.socket.settimeout(timeout_s)
        try:
            return self.socket.recv(4096).decode()
        except TimeoutError:
            return ""

    def hears_nothing_new(self) -> str:
        """What came although nothing should; whatever is still queued counts."""
        return self.hears(0.05)


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_ready_once_then_a_sign_of_life_each_second(tmp_path: Path, abstract: bool) -> None:
    name = f"haltline-{os.getpid()}-{time.monotonic_ns()}"
    systemd = Systemd(f"\0{name}" if abstract else str(tmp_path / "notify"))
    supervisor = Supervisor(f"@{name}" if abstract else str(tmp_path / "notify"))
    supervisor.beat(False, 0)
    assert systemd.hears_nothing_new() == "", "not ready before the guard has spoken"
    supervisor.beat(True, 0)
    assert [systemd.hears(1), systemd.hears(1)] == ["READY=1", "WATCHDOG=1"]
    supervisor.beat(True, S // 2)
    supervisor.beat(False, 2 * S)
    assert systemd.hears_nothing_new() == ""
    supervisor.beat(True, 3 * S)
    assert systemd.hears(1) == "WATCHDOG=1"
    supervisor.stopping()
    assert systemd.hears(1) == "STOPPING=1"


def test_without_systemd_or_with_a_deaf_one_nothing_happens(tmp_path: Path) -> None:
    for address in (None, str(tmp_path / "nobody")):
        supervisor = Supervisor(address)
        supervisor.beat(True, 0)
        supervisor.stopping()


def test_a_real_edge_lives_by_its_guard_and_falls_silent_when_inference_hangs(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    config = write_station(tmp_path / "station", free_port())  # no broker: that is no reason for a restart
    flag = tmp_path / "hang"
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "PYTHONPATH": str(UNITS.parents[1])}
    edge = subprocess.Popen([sys.executable, str(HANGING), str(flag), str(config)], env=env, stderr=subprocess.DEVNULL)
    try:
        assert systemd.hears(30) == "READY=1"
        assert [systemd.hears(3 * PERIOD_S) for _ in range(3)] == ["WATCHDOG=1"] * 3
        flag.touch()
        time.sleep(1.0)  # a sign given in the last moments of life
        while systemd.hears_nothing_new():
            pass
        assert systemd.hears(3) == "", "a hung frame path must not be called alive"
        flag.unlink()
        assert systemd.hears(3) == "WATCHDOG=1"
    finally:
        end(edge)


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda p: p.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # Only the path of the program differs on this machine.
    text = unit.read_text(encoding="utf-8").replace("/opt/haltline/venv/bin/haltline", sys.executable)
    copy = tmp_path / unit.name
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run([analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    about_us = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert not about_us, done.stderr
    scored = [analyze, "security", "--offline=true", "--no-pager", "--threshold=35", str(copy)]
    done = subprocess.run(scored, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:]


def test_the_edges_unit_restarts_what_hangs_but_not_what_is_misconfigured() -> None:
    text = (UNITS / "haltline-edge.service").read_text(encoding="utf-8")
    assert "Type=notify" in text
    assert "NotifyAccess=main" in text
    seconds = re.search(r"^WatchdogSec=(\d+)s?$", text, re.MULTILINE)
    assert seconds
    assert 3 * PERIOD_S <= int(seconds[1]) <= 10
    assert re.search(r"^Restart=always$", text, re.MULTILINE)
    assert re.search(r"^RestartPreventExitStatus=2$", text, re.MULTILINE), "exit 2 is a wrong configuration"
    assert re.search(r"^StartLimitIntervalSec=0$", text, re.MULTILINE), "a line must not wait for a person to re-enable"
