"""Real things for tests: a broker, a browser. Absent ones skip with a reason; on CI (CI=true) they fail instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import structlog

# Tests import their own helpers as `tests.…`, also when pytest is not started as a module.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.broker import free_port, mosquitto_path, start_mosquitto, wait_for_port

__all__ = ["free_port", "missing", "wait_for_port"]


def missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing on CI")
    pytest.skip(f"{what} is not installed")


def _mosquitto(folder: Path) -> Iterator[int]:
    if mosquitto_path() is None:
        missing("mosquitto")
    port = free_port()
    process = start_mosquitto(port, folder)
    yield port
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """A command run within a test sets up the log for its whole process, and the tests after it in that process, whose
    choice is chance where several run at once, would look for their lines in the wrong place."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Mosquitto with the shipped configuration, shared by the session; yields its port."""
    yield from _mosquitto(tmp_path_factory.mktemp("mosquitto"))


@pytest.fixture
def own_mosquitto(tmp_path: Path) -> Iterator[int]:
    """One for this test alone, where what an earlier test left retained would be in the way."""
    yield from _mosquitto(tmp_path)


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser's path, for `playwright.chromium.launch(executable_path=..., args=["--no-sandbox"])`."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing("chromium")
    return Path(path)
