"""The hub's side of "nothing accepted is lost": what its writer does when it meets a bug of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.station import wait_for
from inspection.messages import HaltEvent, Message, Topics
from review import ingest
from review.frames import FolderFrames
from review.store import Store
from review.writer import Arrival, Writer

TOPICS = Topics("test", "line1", "st1")


def test_a_bug_in_the_hub_neither_acknowledges_nor_deafens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages left with the broker would fill its in-flight window: after a hundred the hub would hear nothing."""
    store = Store(f"sqlite:///{tmp_path / 'hub.db'}")
    store.migrate()
    writer = Writer(store, FolderFrames(tmp_path / "frames"), lambda _news: None)
    released: list[int] = []
    told: list[Message] = []
    writer.done = lambda mid, _qos: released.append(mid)
    writer.publish = lambda _topics, message: bool(told.append(message)) or True
    real = ingest.Batch.store

    def broken(*_args: object) -> ingest.Outcome:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ingest.Batch, "store", broken)
    writer.start()
    halt = HaltEvent(halt=10_001, uid="a" * 32, code=1, reason="red", ts_ms=1)
    for mid in range(150):
        writer.offer(Arrival(TOPICS, halt, mid, 1))
    wait_for(lambda: len(released) == 150, 10)
    assert told == []
    monkeypatch.setattr(ingest.Batch, "store", real)
    writer.offer(Arrival(TOPICS, halt, 200, 1))
    wait_for(lambda: told, 10)
    assert released[-1] == 200
    writer.stop()
    store.close()
