"""A TCP proxy that can be a bad network: silence, delay, jitter, and the pauses that lost segments make."""

from __future__ import annotations

import contextlib
import math
import random
import socket
import threading
import time
from queue import SimpleQueue


class BadNetwork:
    """Forwards `listen port -> port`. TCP hides loss from its users and shows it as a pause: so does this.

    `cut()` stops forwarding in both directions without closing anything, as a pulled cable does; `mend()` delivers what
    had piled up, in order. `delay_ms`, `jitter_ms`: added to every piece; `loss`: share of pieces that wait another
    `retransmit_ms`, and everything behind them with them. `bytes_per_s`: no more is taken from either side, so that
    its socket fills up.
    """

    def __init__(
        self,
        port: int,
        delay_ms: float = 0,
        jitter_ms: float = 0,
        loss: float = 0,
        retransmit_ms: float = 250,
        bytes_per_s: float = math.inf,
    ) -> None:
        self._target, self._rate = port, bytes_per_s
        self._delay, self._jitter, self._loss, self._again = delay_ms, jitter_ms, loss, retransmit_ms
        self._random = random.Random(1)
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        if math.isfinite(bytes_per_s):  # what the kernel holds for us would hide that we are slow
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.set()
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._open.wait()  # through a cut cable nobody connects
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(sock)
            self._forward(near, far)
            self._forward(far, near)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        pieces: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

        def receive() -> None:
            data = b"-"
            while data:
                try:
                    data = source.recv(65536)
                except OSError:
                    data = b""
                pieces.put((time.monotonic() + self._wait_s(), data))
                time.sleep(len(data) / self._rate)

        def send() -> None:
            data = b"-"
            while data:
                due, data = pieces.get()
                time.sleep(max(0.0, due - time.monotonic()))
                self._open.wait()
                with contextlib.suppress(OSError):
                    sink.sendall(data) if data else sink.shutdown(socket.SHUT_WR)

        for work in (receive, send):
            threading.Thread(target=work, daemon=True).start()

    def _wait_s(self) -> float:
        lost = self._again if self._random.random() < self._loss else 0.0
        return max(0.0, self._delay + self._random.uniform(-self._jitter, self._jitter) + lost) / 1000
