"""An engineer's order to work at the station: a file in the state folder, so that it outlives a restart.

Who may write that folder is who may give the order. There is no order that lets the line run uninspected: a bypass
belongs into the controller, where a key switch shows it and somebody answers for it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from edge.files import write_durably
from inspection.errors import ConfigError, StorageError
from inspection.events import MaintenanceOrdered

log = structlog.get_logger()

FILE = "maintenance.json"
OVER = "maintenance.over"
"""The last order that is over, word for word: found again by a start whose clock was set back, as that of a machine
without a battery is until it has asked for the time, it would close the station once more."""
POLL_S = 0.5
OVER_AGAIN_NS = 60 * 10**9
MOST_MINUTES = 480


def order(state_dir: Path, minutes: float, who: str) -> None:
    """Write the order; 0 minutes end it. ConfigError for a time out of range, StorageError when it cannot be kept."""
    if not 0 <= minutes <= MOST_MINUTES:
        raise ConfigError("--minutes", f"{minutes:g} is out of range", f"0 to {MOST_MINUTES}; 0 ends it")
    until_ms = time.time_ns() // 1_000_000 + round(minutes * 60_000)
    try:
        write_durably(
            state_dir / FILE, json.dumps({"until_ms": until_ms, "minutes": minutes, "who": who[:64]}).encode()
        )
        (state_dir / FILE).chmod(0o644)  # of root with a umask of 077 the edge could not read it
    except OSError as e:
        raise StorageError(f"{e.filename or state_dir}: {e.strerror}\n  fix: run it as the edge's user") from e


class MaintenanceWatch:
    """Looks for a new order twice a second and hands it to the frame path."""

    def __init__(self, state_dir: Path, deliver: Callable[[MaintenanceOrdered], None]) -> None:
        self._path, self._deliver = state_dir / FILE, deliver
        self._over = state_dir / OVER
        self._known, self._until_ns = b"", 0
        self.trouble = ""
        """Why the order cannot be read; empty when it can, and where there is none."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="maintenance", daemon=True)

    def start(self) -> None:
        """The first look happens here, so that a restart does not open a gap in the order."""
        self.look()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def look(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            self._note("")
            return
        except OSError as e:
            self._note(e.strerror or str(e))
            return
        self._note("")
        if data == self._known:
            if 0 < self._until_ns <= time.monotonic_ns():
                self._end(data)
            return
        self._known, self._until_ns = data, 0
        if self._is_over(data):
            return
        try:
            known = json.loads(data)
            until_ms, who = int(known["until_ms"]), str(known["who"])
            most_ms = 60_000 * min(MOST_MINUTES, float(known.get("minutes", MOST_MINUTES)))
        except (ValueError, KeyError, TypeError, OverflowError) as e:
            # No order is the safe reading: the station goes on inspecting.
            log.error("the maintenance order does not read", path=str(self._path), why=str(e))  # noqa: TRY400
            return
        now_ns, left_ms = time.monotonic_ns(), until_ms - time.time_ns() // 1_000_000
        left_ms = round(min(left_ms, most_ms))  # the wall clock may have been set back
        self._until_ns = max(1, now_ns + left_ms * 1_000_000)
        log.warning("maintenance", who=who, minutes=max(0, left_ms) / 60_000)
        self._deliver(MaintenanceOrdered(now_ns, now_ns + left_ms * 1_000_000, who))

    def _is_over(self, data: bytes) -> bool:
        try:
            return self._over.read_bytes() == data
        except OSError:
            return False

    def _end(self, data: bytes) -> None:
        """In a file of its own: whoever removed the order could remove the next one, which comes in that moment."""
        try:
            write_durably(self._over, data)
            self._until_ns = 0
        except OSError as e:
            self._until_ns = time.monotonic_ns() + OVER_AGAIN_NS
            log.warning("that the maintenance is over cannot be kept", path=str(self._over), why=e.strerror)

    def _note(self, why: str) -> None:
        """Only what changed is said: it is looked at twice a second."""
        if why and why != self.trouble:
            log.error("the maintenance order cannot be read, trying again", path=str(self._path), why=why)
        elif self.trouble and not why:
            log.info("the maintenance order can be read again", path=str(self._path))
        self.trouble = why

    def _work(self) -> None:
        while not self._closing.wait(POLL_S):
            try:
                self.look()
            except Exception:  # who orders maintenance relies on being heard
                log.exception("the maintenance order was not looked at")
