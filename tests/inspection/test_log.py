"""A line of the log may be lost; the thread that writes it may not."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from inspection.log import set_up_logging


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


@pytest.mark.parametrize("length", [100, 9000])
def test_work_goes_on_while_nobody_empties_the_pipe_and_what_is_missing_is_said(length: int) -> None:
    """What a container's log driver leaves whose server is away, or Ctrl+S in a terminal: open, and full."""
    code = (
        "import structlog, sys; from inspection.log import set_up_logging; set_up_logging('json')\n"
        f"for n in range(2000): structlog.get_logger().info('x' * {length})\n"
        "print('still here', flush=True)\n"
        "sys.stdin.readline()\n"
        "structlog.get_logger().info('again')\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdin
        assert child.stdout
        assert child.stderr
        assert select.select([child.stdout], [], [], 30)[0], "it waits for somebody to read its log"
        assert child.stdout.readline() == "still here\n"
        os.read(child.stderr.fileno(), 2**20)
        child.stdin.write("go\n")
        child.stdin.flush()
        last = json.loads("{" + child.stderr.read().rpartition("{")[2])
        assert last["event"] == "again"
        assert 0 < last["lines_lost_before_this"] < 2000
    finally:
        child.kill()
        child.wait()
