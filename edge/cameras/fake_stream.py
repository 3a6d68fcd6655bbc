"""A network camera for demos and fault tests: MJPEG over HTTP on loopback, which can stall and be unplugged."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Sequence

import cv2

from edge.cameras.pacing import Pace
from inspection.types import Image

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


class FakeStream:
    """Shows `pictures` over and over at `fps`. `stall`: connections stay open, no byte comes. `unplug`: all gone."""

    def __init__(self, pictures: Sequence[Image], fps: float = 30.0, quality: int = 85) -> None:
        encoded = (cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality]) for picture in pictures)
        self._pictures = [bytes(data) for _, data in encoded]
        self._fps = fps
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._listener = _listen(0)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/stream.mjpg"
        self._accept()

    def stall(self) -> None:
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def unplug(self) -> None:
        # shutdown, not close alone: a thread blocked in accept would keep the port open
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._open.clear()

    def plug(self) -> None:
        self._flows.set()
        self._listener = _listen(self.port)
        self._accept()

    def close(self) -> None:
        self._flows.set()
        self.unplug()

    def _accept(self) -> None:
        threading.Thread(target=self._serve, args=(self._listener,), name="fake-stream", daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._open.add(client)
            threading.Thread(target=self._play, args=(client,), name="fake-stream-client", daemon=True).start()

    def _play(self, client: socket.socket) -> None:
        pace = Pace(self._fps)
        try:
            client.recv(4096)
            client.sendall(HEAD)
            for data in itertools.cycle(self._pictures):
                self._flows.wait()
                pace.wait()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                client.sendall(head.encode() + data + b"\r\n")
        except OSError:
            pass
        finally:
            self._open.discard(client)
            client.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(8)
    return listener
