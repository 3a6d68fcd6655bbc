"""A camera read in a child process that is killed when it is silent too long: `ports.Camera` for real devices."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

import edge
from edge.cameras import wire
from edge.config import CameraConfig
from inspection.errors import CameraError
from inspection.types import Frame

ROOT = Path(edge.__file__).resolve().parents[1]
KILLED_WITHIN_S = 2.0
"""A killed process is gone within ms; one stuck in the kernel is left to be reaped later."""


class ChildCamera:
    """Opened when its first frame is there, or, where it may wait for a trigger (stall_ms 0), when the device is.

    It does not reopen: after a CameraError it is spent, see `CameraPump`.
    """

    def __init__(self, config: CameraConfig) -> None:
        self.name = config.name
        self._config = config
        self._what = without_password(config.source) or config.type
        self._lock = threading.Lock()
        self._closed = False
        self._memory: mmap.mmap | None = None
        mine: list[int] = []
        theirs: list[int] = []
        try:
            for end, other in ((mine, theirs), (theirs, mine)):  # what it tells us, what we tell it
                reads, writes = os.pipe()
                end.append(reads)
                other.append(writes)
            mine.append(wire.nameless_memory())
            self._child = _spawn(theirs[0], theirs[1], mine[2], config.options)
        except OSError as e:
            _close(mine)  # each try would keep them, and a process that had too few would soon have none
            raise CameraError(f"{self.name}: no reader could be started: {e}") from e
        finally:
            _close(theirs)
        self._in_fd, self._free_fd, self._memory_fd = mine
        self._poll = select.poll()
        self._poll.register(self._in_fd, select.POLLIN)
        try:
            self._send(json.dumps(config.model_dump(mode="json")).encode() + b"\n")
            self._first = self._receive(config.open_ms)
            if self._first and self._first.kind == wire.OPEN:
                self._first = self._receive(config.open_ms) if config.stall_ms else None
        except BaseException:
            self.close()
            raise

    def read(self) -> Frame | None:
        with self._lock:
            header, self._first = self._first or self._receive(self._config.stall_ms), None
            if header is None:
                return None
            return self._take(header)

    def close(self) -> None:
        self._closed = True
        self._child.kill()  # ends a blocked read: its pipe is at its end
        with self._lock:
            if self._in_fd < 0:
                return
            self._let_go()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(KILLED_WITHIN_S)

    @property
    def child_pid(self) -> int:
        return self._child.pid

    def _let_go(self) -> None:
        _close((self._in_fd, self._free_fd, self._memory_fd))
        self._in_fd = self._free_fd = self._memory_fd = -1
        if self._memory:
            self._memory.close()

    def _take(self, header: wire.Header) -> Frame:
        if self._memory is None:
            try:
                self._memory = mmap.mmap(self._memory_fd, header.image_bytes * wire.SLOTS, prot=mmap.PROT_READ)
            except OSError as e:
                raise self._failed(f"its memory cannot be read: {e}") from e
        shape = (header.height, header.width, 3)
        image = np.ndarray(shape, np.uint8, self._memory, header.slot * header.image_bytes).copy()
        self._send(bytes([header.slot]))
        return Frame(self.name, header.frame_id, header.captured_ns, header.wall_ms, image, self._config.px_per_mm)

    def _receive(self, within_ms: int) -> wire.Header | None:
        """The next frame's header; None at the source's end or when closed. CameraError kills the child first."""
        data = self._exactly(wire.HEADER_BYTES, within_ms)
        if self._closed:
            return None
        header = wire.Header.decode(data) if data else None
        if header is None:
            raise self._failed("its reader ended")
        if header.kind == wire.ERROR:
            raise self._failed(os.read(self._in_fd, header.text_bytes).decode("utf-8", "replace"))
        return None if header.kind == wire.END else header

    def _exactly(self, size: int, within_ms: int) -> bytes:
        """`size` bytes, or none at the pipe's end. 0 ms = however long it takes."""
        data, until_s = b"", time.monotonic() + within_ms / 1000
        while len(data) < size:
            left_ms = max(0.0, (until_s - time.monotonic()) * 1000) if within_ms else None
            if not self._poll.poll(left_ms):
                raise self._failed(f"no frame for {within_ms} ms")
            more = os.read(self._in_fd, size - len(data))
            if not more:
                return b""
            data += more
        return data

    def _send(self, data: bytes) -> None:
        try:
            os.write(self._free_fd, data)
        except BrokenPipeError:
            return  # the child has ended; the next read says so, with the reason it left in the other pipe

    def _failed(self, why: str) -> CameraError:
        self._child.kill()
        return CameraError(f"{self.name}: {self._what}: {why}")


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def without_password(source: str) -> str:
    """A URL as it may be logged."""
    parts = urlsplit(source)
    if not parts.hostname or "@" not in parts.netloc:
        return source
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _spawn(out_fd: int, free_fd: int, memory_fd: int, options: str) -> subprocess.Popen[bytes]:
    fds = (out_fd, free_fd, memory_fd)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "edge.cameras.reader", *(str(fd) for fd in fds)],
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # drivers chatter; what matters comes by the pipe
        start_new_session=True,  # Ctrl+C is for the edge, which then ends its children
        env=_environment(options),
    )


def _environment(options: str) -> dict[str, Any]:
    """Frames as they come: no reordering threads, no buffering, TCP where RTSP would lose packets silently."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "OPENCV_FFMPEG_CAPTURE_OPTIONS": options or "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay",
        "OPENCV_FFMPEG_THREADS": os.environ.get("OPENCV_FFMPEG_THREADS", "1"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
