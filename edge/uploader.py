"""From the spool to the hub: files over HTTP first, then the record over MQTT, again until the hub acknowledges."""

from __future__ import annotations

import threading
import time

import httpx
import structlog

from edge.line.outbox import Outbox
from edge.spool import Pending, Spool
from inspection.errors import StorageError

log = structlog.get_logger()

IDLE_S = 0.1
AWAY_S = 2.0


class Uploader:
    """One thread. A hub or broker that is away costs nothing but waiting: the spool keeps everything."""

    def __init__(self, spool: Spool, outbox: Outbox, http: httpx.Client) -> None:
        self._spool, self._outbox, self._http = spool, outbox, http
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="uploader", daemon=True)
        outbox.on_ack(spool.acknowledge)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=5)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                sent = self._round()
            except StorageError:
                return  # the spool was closed
            except httpx.HTTPError as e:
                log.info("hub is away, evidence waits", error=str(e) or type(e).__name__)
                sent = -1
            except Exception:
                log.exception("upload failed, evidence waits")
                sent = -1
            self._closing.wait(AWAY_S if sent < 0 else 0 if sent else IDLE_S)

    def _round(self) -> int:
        """Send one batch; how many were sent, -1 when there was no way to."""
        if not self._outbox.connection.connected:
            return -1
        batch = self._spool.batch(time.monotonic_ns())
        for item in batch:
            if self._closing.is_set():
                break
            self._send(item)
        return len(batch)

    def _send(self, item: Pending) -> None:
        for sha, path in item.files:
            url = f"/api/edge/frames/{sha}"
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # acknowledged and deleted between the batch and now
            answer = self._http.put(url, content=data, headers={"content-type": "image/png"})
            if answer.is_error:
                raise httpx.HTTPStatusError(f"{url}: {answer.status_code}", request=answer.request, response=answer)
        self._outbox.connection.publish(item.topic, item.payload, qos=1)
