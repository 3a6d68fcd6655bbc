"""Real parts for the faults of storage: a hub process, a broker that dies, a spool with its uploader."""

from __future__ import annotations

import hashlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import httpx
import numpy as np

from benchmarks.station import TOPICS, wait_for
from deploy.broker import free_port, start_mosquitto
from edge.config import MqttConfig
from edge.line.connection import Connection
from edge.line.outbox import Outbox
from edge.spool import RANK_HALT, RANK_UNCERTAIN, Item, Spool
from edge.uploader import Uploader
from inspection.bundle import sha256
from inspection.messages import HaltEvent, Permit, RecordEvent

ROOT = Path(__file__).resolve().parents[1]
START_S = 60.0


class Broker:
    """Mosquitto as we ship it, on one port over all its lives."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.process = start_mosquitto(self.port, self.folder)
        return self

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self.kill()


class Hub:
    """`haltline review serve` as a process. `dies_at`: a file; while it names a moment, the hub dies there."""

    def __init__(self, folder: Path, mqtt_port: int) -> None:
        self.data, self.dies_at, self._log = folder / "hub", folder / "hub-dies-at", folder / "hub.log"
        self.port, self._mqtt_port = free_port(), mqtt_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        args = [sys.executable, "-m", "benchmarks.storage_hub", str(self.dies_at), "serve", "--data", str(self.data)]
        args += ["--port", str(self.port), "--mqtt-port", str(self._mqtt_port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(args, cwd=ROOT, stdout=log, stderr=log)
        try:
            wait_for(self._answers, START_S, f"the hub; see {self._log}")
        except BaseException:
            self.kill()  # nobody else would: `with` does not end what did not begin
            raise
        return self

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.last_words()
        try:
            # 200 only once database, frames and broker work
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def last_words(self) -> str:
        return self._log.read_text()[-3000:]

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def stored(self) -> Counter[str]:
        """How often each uid of a record, halt or tally stands in the hub's database."""
        path = self.data / "hub.db"
        if not path.exists():
            return Counter()
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
            db.execute("PRAGMA query_only=ON")
            tables = " UNION ALL ".join(f"SELECT uid FROM {table}" for table in ("records", "halts", "tallies"))
            return Counter(uid for (uid,) in db.execute(tables))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self.signal(signal.SIGCONT)
        self.kill()


class Sender:
    """A spool with its uploader, as the edge has them, fed by hand. `say` hears each uid that is durable."""

    def __init__(
        self, folder: Path, port: int, hub_url: str, again_s: float = 10.0, say: Callable[[str], None] | None = None
    ) -> None:
        self.durable: set[str] = set()
        self.spool = Spool(folder, 10**10, queue_len=256, on_durable=say or self.durable.add)
        self.outbox = Outbox(MqttConfig(port=port), TOPICS)
        self.http = httpx.Client(base_url=hub_url, timeout=10, trust_env=False)
        self.uploader = Uploader(self.spool, self.outbox, self.http, again_s=again_s)
        self.outbox.start()
        self.uploader.start()

    def close(self) -> None:
        self.uploader.close()
        self.spool.close()
        self.outbox.close()
        self.http.close()

    def offer(self, *items: Item) -> None:
        """All of them, at the disk's pace: a full queue would turn away records for halts, as it should."""
        for number, item in enumerate(items, start=1):
            self.spool.offer(lambda item=item: item, item.rank)  # type: ignore[misc]
            if number % 100 == 0 or number == len(items):
                self.spool.flush()

    def on_puback(self, heard: Callable[[], None]) -> None:
        """Call `heard` on the MQTT thread with each acknowledgement of the broker."""
        client = self.outbox.connection._client
        client.on_publish = lambda *_: heard()

    def missing(self, hub: Hub) -> int:
        """How many of the durable items the hub does not have."""
        return len(self.durable - hub.stored().keys())

    def drain(self, timeout_s: float = 60) -> float:
        """Seconds until the hub has acknowledged everything."""
        began = time.monotonic()
        wait_for(lambda: self.spool.counters.pending == 0, timeout_s, f"the drain: {self.spool.counters}")
        return time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self.close()


class PermitWatch:
    """Hears the permit as a controller does, and notes when."""

    def __init__(self, port: int) -> None:
        self.heard_s: list[float] = []
        self._connection = Connection(MqttConfig(port=port), "permit-watch")
        self._connection.on(TOPICS.of(Permit), 0, lambda received: self._note(received.retained))
        self._connection.start()

    def _note(self, retained: bool) -> None:
        if not retained:
            self.heard_s.append(time.monotonic())

    def longest_gap_ms(self, since_s: float, until_s: float) -> float:
        heard = [since_s, *(at for at in list(self.heard_s) if since_s <= at <= until_s), until_s]
        return max(b - a for a, b in pairwise(heard)) * 1000

    def close(self) -> None:
        self._connection.stop()


@contextmanager
def parts(folder: Path) -> Iterator[tuple[Broker, Hub]]:
    """A broker and a hub, both running."""
    with Broker(folder) as broker, Hub(folder, broker.port) as hub:
        try:
            yield broker, hub
        except AssertionError as e:
            e.add_note(hub.last_words())
            raise


def record(number: int, why: str = "uncertain", side_px: int = 16) -> Item:
    """A record with a picture of its own."""
    rng = np.random.default_rng(number)
    png = bytes(cv2.imencode(".png", rng.integers(0, 255, (side_px, side_px, 3), np.uint8))[1])
    message = RecordEvent(
        uid=uid_of(number), why=(why,), camera="cam1", frame_id=number, ts_ms=1_790_000_000_000 + number,
        call="uncertain", scores={"red": 0.5}, image=sha256(png), px_per_mm=10.0, width_px=side_px,
        height_px=side_px, model="red-1.0.0", policy="p", label_book="red@1",
    )  # fmt: skip
    return Item(message.uid, TOPICS.of(RecordEvent), message.encode(), RANK_UNCERTAIN, (png,))


def halt(number: int) -> Item:
    message = HaltEvent(
        halt=number, uid=uid_of(number), code=1, reason="red 6.0 mm", cls="red", ts_ms=1_790_000_000_000
    )
    return Item(message.uid, TOPICS.of(HaltEvent), message.encode(), RANK_HALT)


def uid_of(number: int) -> str:
    return hashlib.sha256(f"item {number}".encode()).hexdigest()[:32]


def flagged(first: int, count: int) -> list[Item]:
    """Halts and records mixed, as a bad hour has them."""
    rng = random.Random(first)
    return [halt(n) if rng.random() < 0.1 else record(n) for n in range(first, first + count)]
