"""Tells systemd that the edge is ready and lives (sd_notify), so that a hung one is started again.

Fed only while the guard speaks within its lease: a process that merely exists is not alive.
"""

from __future__ import annotations

import socket

import structlog

log = structlog.get_logger()

PERIOD_S = 1.0
"""Between two signs of life; the unit's WatchdogSec must be a few times this."""


class Supervisor:
    """`address`: $NOTIFY_SOCKET, a path or an abstract name (@...); None where nobody supervises."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._ready = False
        self._told_ns: int | None = None

    def beat(self, alive: bool, now_ns: int) -> None:
        """Call often. READY once the guard has spoken; WATCHDOG about once a second while it goes on speaking."""
        if not alive:
            return
        if not self._ready:
            self._ready = True
            self._tell("READY=1")
        if self._told_ns is None or now_ns - self._told_ns >= PERIOD_S * 1e9:
            self._told_ns = now_ns
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(state.encode(), address)
        except OSError as e:
            # What follows is systemd's restart, which is right when it cannot hear us.
            log.warning("the supervisor cannot be told", state=state, error=e.strerror)
