"""How every process of Haltline says what happens: an event and its facts, a line each, to stderr.

No word of its own, but each room needs it and rooms do not import each other.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import threading
from typing import Any, TextIO

import structlog

PIECE_BYTES = 4096
"""What a pipe or a terminal that takes anything takes whole."""
_writing = threading.Lock()


class LastingLogger:
    """Writes to whatever stderr is now, and neither fails nor waits: a terminal that is gone or stopped with Ctrl+S, a
    pipe that is closed or that nobody empties, a full disk behind it cost the line, not the thread that wrote it. A
    halt that is not logged is still a halt; one whose thread waits for a reader is kept nowhere.
    """

    lost = 0
    """Lines that nobody took, since the last that somebody did."""

    def msg(self, message: str) -> None:
        with _writing:  # lines of two threads must not mix
            LastingLogger.lost += 1
            try:
                if _write(sys.stderr, f"{message}\n"):
                    LastingLogger.lost = 0
            except (OSError, ValueError, AttributeError):  # ValueError: closed; AttributeError: there is none (None)
                pass

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class LastingStderr(io.TextIOBase):
    """stderr for whatever else writes there, a service's last words and a traceback above all: waiting for a reader, an
    edge that may not start would neither end nor be started again, and would keep its folder locked."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def write(self, text: str) -> int:
        with _writing, contextlib.suppress(OSError, ValueError):
            _write(self._to, text)
        return len(text)

    def fileno(self) -> int:
        return self._to.fileno()

    def isatty(self) -> bool:
        return self._to.isatty()


def _write(to: TextIO, text: str) -> bool:
    """Piece by piece, each only where it is taken at once; False when one was not."""
    try:
        fd = to.fileno()
    except OSError:  # no file
        to.write(text)
        to.flush()
        return True
    takes = select.poll()
    takes.register(fd, select.POLLOUT)
    data = text.encode("utf-8", "backslashreplace")
    for start in range(0, len(data), PIECE_BYTES):
        piece = data[start : start + PIECE_BYTES]
        if not takes.poll(0) or os.write(fd, piece) < len(piece):
            return False
    return True


def set_up_logging(log_format: str) -> None:
    """Time, level, event and its facts; `console` for people, `json` for machines, `quiet` leaves only errors."""
    level = logging.ERROR if log_format == "quiet" else logging.INFO
    last: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _with_lost,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if log_format == "json" else _as_is,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: LastingLogger(),
    )


def _with_lost(_logger: Any, _method: str, event: Any) -> Any:
    return {**event, "lines_lost_before_this": LastingLogger.lost} if LastingLogger.lost else event


def _as_is(_logger: Any, _method: str, event: Any) -> Any:
    return event
