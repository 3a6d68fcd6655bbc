"""What tests share: a real broker and browser, free ports. A missing service skips, except in CI: there it fails."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.broker import mosquitto_path, start_mosquitto

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # the rooms are importable also where the package is not installed
    sys.path.insert(0, str(ROOT))


def missing(what: str, install: str) -> None:
    """Skip, or fail in CI, where every service is installed."""
    reason = f"{what} is not installed: {install}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def pick_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    return pick_port()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[int]:
    """A real Mosquitto with the shipped configuration; its port."""
    if mosquitto_path() is None:
        missing("mosquitto", "apt-get install mosquitto")
    port = pick_port()
    child = start_mosquitto(port, tmp_path)
    yield port
    _end(child)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a real Chromium."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing("chromium", "apt-get install chromium")
    assert path
    return path


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
