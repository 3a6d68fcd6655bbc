"""What must outlive a restart: how often this edge has started, and the halt that is still open.

The frame path only says what is true now; a thread writes it, and tries again while the disk will not. A slow or
full disk must neither hold up the next frame nor end the thread that owns the permit.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from edge.files import DISK, Ballast, Disk, write_durably
from inspection.errors import StorageError
from inspection.types import Code, HaltReport

log = structlog.get_logger()

AGAIN_S = 1.0
EPOCH_S = 1_577_836_800
"""2020-01-01 UTC."""


class EdgeState:
    """`state.json`, replaced whole and fsynced. Counting a start is what makes permits of earlier lives stale.

    Only for who holds the spool's lock: two that read and write it by turns would lose each other's halt."""

    def __init__(self, folder: Path, disk: Disk = DISK, ballast: Ballast | None = None) -> None:
        self._path, self._disk, self._ballast = folder / "state.json", disk, ballast
        self.failing = ""
        """Why the newest state is not on disk yet; empty when it is."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.boot, self.open_halt = self._read()
            self.boot += 1
            self._write()
        except OSError as e:
            fix = "give the user that runs the edge a folder it may write to, with room: state_dir in edge.yaml"
            raise StorageError(f"{e.filename or self._path}: {e.strerror}\n  fix: {fix}") from e
        self._changed = threading.Condition()
        self._version = self._written = 0
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="state", daemon=True)
        self._thread.start()

    def set_halt(self, halt: HaltReport | None) -> None:
        """Remember it soon; returns at once."""
        with self._changed:
            self.open_halt = halt
            self._version += 1
            self._changed.notify_all()

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until the newest state is on disk; False when it is not by then."""
        with self._changed:
            return self._changed.wait_for(lambda: self._written == self._version, timeout_s)

    def close(self) -> None:
        self.flush()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=2)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._written != self._version)
                if self._closing:
                    return
                version = self._version
            try:
                self._write()
            except Exception as e:
                if not self.failing:
                    log.error("the open halt cannot be written, trying again", path=str(self._path), why=str(e))  # noqa: TRY400 - once, not every second
                self.failing = str(e)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, AGAIN_S)
                continue
            with self._changed:
                self._written, self.failing = version, ""
                self._changed.notify_all()

    def _read(self) -> tuple[int, HaltReport | None]:
        try:
            known = json.loads(self._path.read_text())
            return int(known["boot"]), _halt(known["open_halt"])
        except FileNotFoundError:
            return _first_count(), None
        except (OSError, ValueError, KeyError, TypeError) as e:
            # Beginning anew would forget an open halt, silently: say it instead.
            raise StorageError(
                f"{self._path}: {type(e).__name__}: {e}\n  fix: restore it, or remove it, which ends an open halt"
            ) from e

    def _write(self) -> None:
        halt = self.open_halt
        state = {"boot": self.boot, "open_halt": asdict(halt) if halt else None}
        # A disk that evidence has filled must keep no edge from starting: it is the edge that empties it again.
        write_durably(self._path, json.dumps(state, indent=1).encode(), self._disk, self._ballast)


def _first_count() -> int:
    """What a new computer counts its starts from: the hours since 2020, more than a retired one of the same station has
    counted, unless that restarted more than once an hour. Counted from 0 again, the ids of its halts and records would
    be those of the retired one, which the hub acknowledges and does not store, and the PLC would refuse its permits."""
    return max(0, int(time.time() - EPOCH_S) // 3600)


def _halt(known: dict[str, Any] | None) -> HaltReport | None:
    if not known:
        return None
    return HaltReport(**{**known, "code": Code(known["code"]), "evidence": tuple(known["evidence"])})
