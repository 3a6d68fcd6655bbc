"""Frames in a local folder, named by their sha256. `put` returns only when the bytes would survive a power cut."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol

from inspection.bundle import sha256
from inspection.errors import StorageError


class FrameStore(Protocol):
    """What the hub asks of a store. `sha` is always 64 lower-case hex digits; anything else is not there."""

    def put(self, data: bytes) -> str:
        """Keep the bytes durably and return their sha256; StorageError when that is impossible."""
        ...

    def exists(self, sha: str) -> bool: ...

    def open(self, sha: str) -> BinaryIO:
        """The stored bytes; StorageError when they are not there or cannot be read."""
        ...

    def read(self, sha: str) -> bytes: ...


class FolderFrames:
    """`<root>/ab/<sha256>`; one level of folders keeps each of them small up to a few million frames."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        sha = sha256(data)
        if self.exists(sha):
            return sha
        path = self._path(sha)
        temporary = ""
        try:
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
                temporary = file.name
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
            _sync_folder(path.parent)
            _sync_folder(self._root)
        except OSError as e:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise StorageError(f"frame {sha} cannot be written below {self._root}: {e}") from e
        return sha

    def exists(self, sha: str) -> bool:
        return bool(re.fullmatch(r"[0-9a-f]{64}", sha)) and self._path(sha).is_file()

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


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the name lives in the folder, not in the file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
