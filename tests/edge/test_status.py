"""The health page beside the machine must cost the station nothing, whoever asks it."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from typing import Any

import pytest

from benchmarks.station import wait_for
from edge.config import StatusConfig
from edge.recorder import Numbers
from edge.status import AT_A_TIME, StatusServer
from inspection.errors import ConfigError, HaltlineError
from tests.conftest import free_port


def test_an_address_that_is_not_there_yet_is_tried_again_and_a_taken_port_is_not() -> None:
    """systemd starts an edge again after any end but that of a wrong configuration (exit code 2)."""
    with pytest.raises(HaltlineError, match=r"192\.0\.2\.1:\d+: .*\n  fix: set status\.host") as error:
        StatusServer(StatusConfig(host="192.0.2.1", port=free_port()), Numbers(), dict)
    assert not isinstance(error.value, ConfigError)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match=r"set another status\.port"):
        StatusServer(StatusConfig(port=taken.getsockname()[1]), Numbers(), dict)


def test_who_hangs_up_before_the_answer_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """A monitor's timeout, while the edge was stopped or busy, printed one into the log."""
    port, asked, gone = free_port(), threading.Event(), threading.Event()

    def facts() -> dict[str, Any]:
        asked.set()
        gone.wait(5)
        return {"much": "x" * 20_000_000}

    status = StatusServer(StatusConfig(port=port), Numbers(), facts)
    status.start()
    try:
        with socket.create_connection(("127.0.0.1", port)) as monitor:
            monitor.sendall(b"GET /status.json HTTP/1.0\r\n\r\n")
            assert asked.wait(5)
        gone.set()
        wait_for(lambda: not any("process_request" in thread.name for thread in threading.enumerate()), 5)
    finally:
        status.close()
    assert "Traceback" not in capfd.readouterr().err


def test_who_asks_and_never_ends_takes_few_places_and_those_not_for_long() -> None:
    port, threads = free_port(), threading.active_count()
    status = StatusServer(StatusConfig(port=port), Numbers(), dict)
    status.start()
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(4 * AT_A_TIME)]
    try:
        time.sleep(1)  # each has been accepted by now, or turned away
        assert threading.active_count() - threads <= AT_A_TIME + 1

        def answers() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_for(answers, 15, "an answer though none of them hung up")
    finally:
        for one in silent:
            one.close()
        status.close()
