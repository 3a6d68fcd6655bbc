"""Between an edge and the child process that reads a camera: messages over two pipes, pixels in shared memory.

A slot of the memory belongs to the child or to the edge, never to both: the child fills a free one and names it in
a FRAME message; the edge copies it out and gives it back with one byte. So no frame is ever torn, on any processor,
and a slow edge costs whole frames, which show as a gap in `frame_id`. The memory has no name: it goes when the last
of the two processes goes, however it dies. Loads nothing but the standard library.
"""

from __future__ import annotations

import os
import struct
import tempfile
from dataclasses import dataclass

SLOTS = 4
"""One being filled, one being copied, two to ride out a hiccup of a few frames."""

FRAME, ERROR, END, OPEN = 1, 2, 3, 4
_HEADER = struct.Struct("<BBHIIqqq")
HEADER_BYTES = _HEADER.size
MAX_TEXT = 1000  # a message must stay below PIPE_BUF, so that it is written in one piece


@dataclass(frozen=True, slots=True)
class Header:
    """FRAME: pixels (height, width, 3) BGR lie in `slot`. ERROR: `text_bytes` of UTF-8 follow. END: no more frames.
    OPEN: the device is open, its first frame may come when it is triggered."""

    kind: int
    slot: int = 0
    text_bytes: int = 0
    height: int = 0
    width: int = 0
    frame_id: int = 0
    captured_ns: int = 0
    wall_ms: int = 0

    def encode(self) -> bytes:
        return _HEADER.pack(
            self.kind,
            self.slot,
            self.text_bytes,
            self.height,
            self.width,
            self.frame_id,
            self.captured_ns,
            self.wall_ms,
        )

    @classmethod
    def decode(cls, data: bytes) -> Header:
        return cls(*_HEADER.unpack(data))

    @property
    def image_bytes(self) -> int:
        return self.height * self.width * 3


def error(text: str) -> bytes:
    data = text.encode("utf-8", "replace")[:MAX_TEXT]
    return Header(ERROR, text_bytes=len(data)).encode() + data


def nameless_memory() -> int:
    """A file descriptor of memory without a name; the caller closes it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("haltline-camera", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # systems other than Linux: a file that is already deleted
        return os.dup(file.fileno())
