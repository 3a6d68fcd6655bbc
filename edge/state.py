"""What must outlive a restart: how often this edge has started, and the halt that is still open."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inspection.errors import StorageError
from inspection.types import Code, HaltReport


class EdgeState:
    """`state.json`, replaced whole and fsynced. Counting a start is what makes permits of earlier lives stale."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.json"
        folder.mkdir(parents=True, exist_ok=True)
        known = self._read()
        self.boot = int(known.get("boot", 0)) + 1
        self.open_halt = _halt(known.get("open_halt"))
        self._write()

    def set_halt(self, halt: HaltReport | None) -> None:
        self.open_halt = halt
        self._write()

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as e:
            # Starting at boot 1 again would make the PLC refuse every permit, silently: say it instead.
            raise StorageError(
                f"{self._path}: {e}\n  fix: restore it, or remove it and restart the PLC's watchdog"
            ) from e
        return dict(known)

    def _write(self) -> None:
        state = {"boot": self.boot, "open_halt": asdict(self.open_halt) if self.open_halt else None}
        write_durably(self._path, json.dumps(state, indent=1).encode())


def _halt(known: dict[str, Any] | None) -> HaltReport | None:
    if not known:
        return None
    return HaltReport(**{**known, "code": Code(known["code"]), "evidence": tuple(known["evidence"])})


def write_durably(path: Path, data: bytes) -> None:
    """Write beside, fsync, rename, fsync the folder: after a power cut the file is the old one or the new one."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
