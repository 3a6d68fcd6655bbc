"""Frames in a local folder, named by their sha256. `put` returns only when the bytes would survive a power cut."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from inspection.bundle import sha256
from inspection.errors import StorageError

BEGUN = ".new-"
LEFT_OVER_S = 3600


class FrameStore(Protocol):
    """What the hub asks of a store. `sha` is always 64 lower-case hex digits; anything else is not there."""

    def put(self, data: bytes) -> str:
        """Keep the bytes durably and return their sha256; StorageError when that is impossible."""
        ...

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Keep several durably, each under its sha256, which the caller has checked. StorageError when that is
        impossible: any of them may be there then, none of them torn."""
        ...

    def exists(self, sha: str) -> bool:
        """Whether it is there and would survive a power cut."""
        ...

    def open(self, sha: str) -> BinaryIO:
        """The stored bytes; StorageError when they are not there or cannot be read."""
        ...

    def read(self, sha: str) -> bytes: ...


class FolderFrames:
    """`<root>/ab/<sha256>`; one level of folders keeps each of them small up to a few million frames."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._named: set[Path] = set()
        """Folders whose own name is known to be durable: each is looked after once in the life of a process."""
        self._arriving: set[str] = set()
        """Renamed perhaps, but not durable, as far as is known: nobody must be told that it is there. What fails stays
        here until it is brought once more."""
        root.mkdir(parents=True, exist_ok=True)

    def settle(self) -> None:
        """Before the first answer of a hub: one that was killed may have renamed files whose folders it had not synced,
        and these would be called there. What it was writing goes. StorageError when the disk refuses."""
        too_old_s = time.time() - LEFT_OVER_S
        try:
            folders = {folder for folder in self._root.iterdir() if folder.is_dir()}
            for path in (path for folder in folders for path in folder.glob(f"{BEGUN}*")):
                if path.stat().st_mtime < too_old_s:  # a younger one may be another process's, who still writes it
                    path.unlink(missing_ok=True)
            self._sync_names(folders)
        except OSError as e:
            raise StorageError(f"the frames in {self._root} cannot be made safe: {e}") from e

    def put(self, data: bytes) -> str:
        sha = sha256(data)
        self.put_all({sha: data})
        return sha

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """All are written, each is synced, all are renamed, and only then each folder is synced, once for all in it."""
        new = {sha: data for sha, data in files.items() if not self.exists(sha)}
        beside: dict[str, tuple[int, Path]] = {}
        self._arriving.update(new)
        try:
            for sha, data in new.items():
                folder = self._path(sha).parent
                folder.mkdir(exist_ok=True)
                fd, name = tempfile.mkstemp(dir=folder, prefix=BEGUN)
                beside[sha] = fd, Path(name)
                _write(fd, data)
            for fd, _ in beside.values():
                os.fsync(fd)
            for sha, (_, path) in beside.items():
                path.replace(self._path(sha))
            self._sync_names({self._path(sha).parent for sha in new})
        except OSError as e:
            for _, path in beside.values():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise StorageError(f"{len(new)} frames cannot be written below {self._root}: {e}") from e
        finally:
            for fd, _ in beside.values():
                os.close(fd)
        self._arriving.difference_update(new)

    def _sync_names(self, folders: set[Path]) -> None:
        for folder in folders:
            sync(folder)
        if not folders <= self._named:
            sync(self._root)
            self._named |= folders

    def exists(self, sha: str) -> bool:
        if not re.fullmatch(r"[0-9a-f]{64}", sha) or sha in self._arriving:
            return False
        return self._path(sha).is_file()

    def open(self, sha: str) -> BinaryIO:
        if not re.fullmatch(r"[0-9a-f]{64}", sha):
            raise StorageError(f"{sha!r} is no sha256")
        try:
            return self._path(sha).open("rb")
        except OSError as e:
            raise StorageError(f"frame {sha} cannot be read: {e}") from e

    def read(self, sha: str) -> bytes:
        with self.open(sha) as file:
            return file.read()

    def _path(self, sha: str) -> Path:
        return self._root / sha[:2] / sha


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]  # a disk that fills up takes a part, and refuses the next call


def sync(path: Path) -> None:
    """Make a file durable or, of its folder, a rename: the name lives in the folder, not in the file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
