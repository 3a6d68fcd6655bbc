"""A line of the log may be lost; the thread that writes it may not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from inspection.log import set_up_logging


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_line_goes_to_what_stderr_is_now(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("json")
    log = structlog.get_logger()
    log.info("first")
    assert json.loads(capsys.readouterr().err)["event"] == "first"
    with Path(os.devnull).open("w") as gone:
        sys.stderr, before = gone, sys.stderr
    try:
        log.error("into a closed file")
        sys.stderr = None  # type: ignore[assignment]
        log.error("into none")
    finally:
        sys.stderr = before
    log.warning("second")
    said = json.loads(capsys.readouterr().err)
    assert (said["event"], said["level"]) == ("second", "warning")


def test_quiet_leaves_errors(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("quiet")
    structlog.get_logger().info("much")
    structlog.get_logger().error("little")
    assert "much" not in (said := capsys.readouterr().err)
    assert "little" in said


def test_work_goes_on_when_nobody_reads_the_log() -> None:
    """A real pipe whose reader is gone: what a restarted log collector leaves."""
    code = (
        "import structlog, sys; from inspection.log import set_up_logging; set_up_logging('console')\n"
        "sys.stdin.readline()\n"
        "for n in range(3): structlog.get_logger().error('x' * 5000)\n"
        "try: raise ValueError\n"
        "except ValueError: structlog.get_logger().exception('y')\n"
        "print('still here')"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    assert child.stderr
    child.stderr.close()
    child.stdin.write("go\n")
    child.stdin.flush()
    assert child.stdout.read() == "still here\n"
