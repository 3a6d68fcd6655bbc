"""Decoded frames for a short while. One halt page asks for eight cuts of three or four frames, and a 12-megapixel PNG
takes half a second to decode."""

from __future__ import annotations

import threading
from collections import OrderedDict

from inspection.types import Image
from review.frames import FrameStore
from review.pictures import decode

MAX_BYTES = 256 * 2**20


class FrameCache:
    """The least recently used frames leave when together they exceed `max_bytes`."""

    def __init__(self, frames: FrameStore, max_bytes: int = MAX_BYTES) -> None:
        self._frames, self._max_bytes = frames, max_bytes
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._lock = threading.Lock()
        # Several cuts of one frame come at once: the first decodes, the others wait for it.
        self._decoding = [threading.Lock() for _ in range(8)]

    def image(self, sha: str) -> Image:
        """(H, W, 3) BGR, read-only; StorageError when the frame is not there or does not decode."""
        with self._decoding[hash(sha) % len(self._decoding)]:
            with self._lock:
                if sha in self._images:
                    self._images.move_to_end(sha)
                    return self._images[sha]
            image = decode(self._frames.read(sha))
            image.setflags(write=False)
            self._keep(sha, image)
            return image

    def _keep(self, sha: str, image: Image) -> None:
        with self._lock:
            self._images[sha] = image
            while sum(kept.nbytes for kept in self._images.values()) > self._max_bytes and len(self._images) > 1:
                self._images.popitem(last=False)
