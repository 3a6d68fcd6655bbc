"""One thread that writes what arrives: a batch, a commit, and only then the acknowledgements.

An edge deletes a record because of our ack, so the ack leaves after the commit and only when every picture the
record names is in the frame store. When the disk or database fails, the writer waits and tries the same batch
again; unacknowledged messages stay with the broker meanwhile.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from inspection.errors import HaltlineError
from inspection.messages import AckEvent, Message, Topics
from review import ingest
from review.broadcast import News
from review.frames import FrameStore
from review.store import Store

log = structlog.get_logger("review.writer")

BATCH = 200
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A decoded message that must last; `mid` and `qos` are what the broker wants acknowledged."""

    topics: Topics
    message: Message
    mid: int
    qos: int


class Writer:
    """`done(mid, qos)` acknowledges to the broker, `publish` sends to a station; both are set before `start`."""

    def __init__(self, store: Store, frames: FrameStore, tell: Callable[[News], None]) -> None:
        self._store, self._frames, self._tell = store, frames, tell
        self._queue: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._stations: dict[Topics, int] = {}
        """Ids of the stations heard since the start: no station is ever deleted."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.done: Callable[[int, int], None] = lambda _mid, _qos: None
        self.publish: Callable[[Topics, Message], bool] = lambda _topics, _message: False
        self.failing = ""
        """Why nothing can be stored right now; empty when it can."""
        self.counts: Counter[str] = Counter()
        """`stored`, `duplicates`, `frames_missing`, `refused`, `acks_not_sent`."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(timeout=3)

    def offer(self, arrival: Arrival) -> None:
        """Never blocks: the broker's in-flight window bounds the queue."""
        self._queue.put(arrival)

    def _run(self) -> None:
        while not self._stopping.is_set():
            batch = self._next_batch()
            while batch and not self._stopping.is_set():
                try:
                    self._write(batch)
                    self.failing = ""
                    break
                except StatementError:
                    batch = self._one_by_one(batch)
                except (SQLAlchemyError, HaltlineError, OSError) as e:
                    self._wait(e)
                except Exception:
                    # A bug met by this batch must not stop every later one.
                    log.exception("batch not written", size=len(batch))
                    self.counts["refused"] += len(batch)
                    # Taken off the broker's hands without the edge's acknowledgement, so edges send again. Left with
                    # the broker they would fill its in-flight window, and the hub would hear nothing more.
                    with contextlib.suppress(Exception):  # this thread must live
                        self._release(batch)
                    break

    def _release(self, batch: list[Arrival]) -> None:
        for arrival in batch:
            if arrival.qos:
                self.done(arrival.mid, arrival.qos)

    def _next_batch(self) -> list[Arrival]:
        first = self._queue.get()
        batch = [first] if first else []
        while len(batch) < BATCH:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more:
                batch.append(more)
        return batch

    def _write(self, batch: list[Arrival]) -> None:
        acks: dict[Topics, list[str]] = {}
        news: list[News] = []
        counts: Counter[str] = Counter()
        with self._store.writing() as session:
            taken = ingest.Batch(session, self._frames, [a.message for a in batch], self._stations)
            for arrival in batch:
                outcome = taken.store(arrival.topics, arrival.message)
                counts[outcome.count] += 1
                news += outcome.news
                if outcome.ack:
                    acks.setdefault(arrival.topics, []).append(outcome.ack)
            taken.close()
        self._stations = taken.found
        self.counts.update(counts)
        self._release(batch)
        for topics, uids in acks.items():
            # An ack that gets lost costs a re-send and no more.
            if not self.publish(topics, AckEvent(uids=tuple(dict.fromkeys(uids)))):
                self.counts["acks_not_sent"] += 1
        for item in {(n.kind, n.key): n for n in news}.values():
            self._tell(item)

    def _one_by_one(self, batch: list[Arrival]) -> list[Arrival]:
        """Find the message the database refuses for good, and give up on that one only. Returns what still waits."""
        for i, arrival in enumerate(batch):
            try:
                self._write([arrival])
            except (IntegrityError, DataError) as e:
                self.counts["refused"] += 1
                log.error("message refused by the database", topic=arrival.topics.of(type(arrival.message)), why=str(e))  # noqa: TRY400 - the statement says it, a traceback adds nothing
                if arrival.qos:
                    self.done(arrival.mid, arrival.qos)
            except (SQLAlchemyError, HaltlineError, OSError) as e:
                self._wait(e)
                return batch[i:]
        return []

    def _wait(self, why: Exception) -> None:
        if not self.failing:
            log.error("nothing can be stored, trying again", why=str(why))
        self.failing = str(why).splitlines()[0]
        self._stopping.wait(RETRY_S)
