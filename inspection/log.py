"""How every process of Haltline says what happens: an event and its facts, a line each, to stderr.

No word of its own, but each room needs it and rooms do not import each other.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


class LastingLogger:
    """Writes to whatever stderr is now, and never fails: a terminal that is gone, a closed pipe or a full disk behind
    it costs the line, not the thread that wrote it. A halt that is not logged is still a halt.
    """

    def msg(self, message: str) -> None:
        try:
            # One write for the line and its end, so that lines of two threads do not mix.
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # ValueError: closed; AttributeError: there is none (None)
            pass

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


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
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if log_format == "json" else _as_is,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: LastingLogger(),
    )


def _as_is(_logger: Any, _method: str, event: Any) -> Any:
    return event
