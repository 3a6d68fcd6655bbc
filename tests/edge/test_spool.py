"""The spool on a real disk: order, deletion, quota, restart, and an `offer` that never waits."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.storage_disk import FailingDisk
from edge.spool import GROUP, NICE, RANK_AUDIT, RANK_CONTEXT, RANK_HALT, RANK_UNCERTAIN, Item, Spool
from inspection.errors import StorageError

QUOTA = 10**9
MIB = 2**20


def item(name: str, rank: int = RANK_UNCERTAIN, *files: bytes) -> Item:
    return Item(name, f"t/{name}", name.encode(), rank, files)


def put(spool: Spool, *items: Item) -> None:
    for one in items:
        spool.offer(lambda one=one: one, one.rank)  # type: ignore[misc]
    spool.flush()


def pending(spool: Spool) -> list[str]:
    spool.set_uploaded([p.uid for p in spool.to_upload(10_000)])
    return [p.uid for p in spool.to_send(10_000)]


def frames(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "frames").iterdir())


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path, QUOTA)
    yield made
    made.close()


def test_halts_go_first_then_the_oldest(spool: Spool) -> None:
    put(spool, item("audit", RANK_AUDIT), item("unsure1"), item("context", RANK_CONTEXT))
    put(spool, item("halt1", RANK_HALT), item("unsure2"), item("halt2", RANK_HALT))
    assert pending(spool) == ["halt1", "halt2", "context", "unsure1", "unsure2", "audit"]
    assert [p.uid for p in spool.to_send(2, {"halt1", "context"})] == ["halt2", "unsure1"]


def test_files_go_up_before_the_record_is_sent(spool: Spool) -> None:
    put(spool, item("with", RANK_HALT, b"png"), item("without", RANK_HALT))
    assert [p.uid for p in spool.to_send()] == ["without"]
    (waiting,) = spool.to_upload()
    ((name, path),) = waiting.files
    assert (name, path.read_bytes()) == (sha(b"png"), b"png")
    spool.set_uploaded(["with"])
    assert [p.uid for p in spool.to_send()] == ["with", "without"]
    spool.set_uploaded(["with"], False)
    assert [p.uid for p in spool.to_upload()] == ["with"]


def test_the_same_uid_is_one_item(spool: Spool) -> None:
    put(spool, item("a", RANK_UNCERTAIN, b"1"), item("a", RANK_UNCERTAIN, b"2"), item("a", RANK_AUDIT))
    assert pending(spool) == ["a"]
    assert (spool.counters.accepted, spool.counters.duplicates) == (1, 2)
    assert frames(spool._folder) == [f"{sha(b'1')}.png"], "a duplicate must leave no file behind"


def test_a_frame_kept_before_becomes_a_halts_evidence(spool: Spool) -> None:
    put(spool, item("other"), item("frame", RANK_AUDIT, b"1"))
    halts = Item("frame", "t/frame", b"with the halt", RANK_CONTEXT, (b"1",))
    put(spool, halts)
    first = spool.to_upload()[0]
    assert (first.uid, first.payload, len(first.files)) == ("frame", b"with the halt", 1)
    put(spool, item("frame", RANK_AUDIT, b"1"))
    assert spool.to_upload()[0].payload == b"with the halt", "never back to the lesser one"


def test_an_acknowledged_item_takes_its_files_along_unless_another_names_them(spool: Spool, tmp_path: Path) -> None:
    put(spool, item("a", RANK_HALT, b"shared", b"own"), item("b", RANK_HALT, b"shared"))
    spool.acknowledge(["a", "a", "never heard of"])
    assert pending(spool) == ["b"]
    assert frames(tmp_path) == [f"{sha(b'shared')}.png"]
    spool.acknowledge(["b"])
    spool.to_send()
    assert frames(tmp_path) == []
    c = spool.counters
    assert (c.pending, c.pending_bytes, c.acknowledged) == (0, 0, 2)


def test_over_the_quota_the_least_goes_oldest_first_and_is_counted(tmp_path: Path) -> None:
    big = b"x" * 1000
    spool = Spool(tmp_path, 3500)
    put(spool, item("audit1", RANK_AUDIT, big + b"1"), item("audit2", RANK_AUDIT, big + b"2"))
    put(spool, item("unsure", RANK_UNCERTAIN, big + b"3"))
    put(spool, item("halt1", RANK_HALT, big + b"4"))
    assert [p.uid for p in spool.to_upload()] == ["halt1", "unsure", "audit2"], "audit1 was the oldest of the least"
    put(spool, item("audit3", RANK_AUDIT, big + b"5"))
    assert [p.uid for p in spool.to_upload()] == ["halt1", "unsure", "audit2"], "none goes for one of its own rank"
    put(spool, *(item(f"halt{k}", RANK_HALT, big + bytes([k])) for k in (2, 3, 4)))
    assert [p.uid for p in spool.to_upload()] == ["halt1", "halt2", "halt3"], "no halt goes for anything"
    c = spool.counters
    assert (c.evicted, c.refused, c.pending) == (3, 2, 3)
    assert len(frames(tmp_path)) == 3
    spool.close()


def test_pictures_that_the_hub_has_make_room_before_anything_is_turned_away(tmp_path: Path) -> None:
    big = b"x" * 1000
    spool = Spool(tmp_path, 3500)
    put(spool, item("a", RANK_AUDIT, big + b"1"), item("b", RANK_AUDIT, big + b"2", b"shared"))
    put(spool, item("c", RANK_AUDIT, b"shared"))
    spool.set_uploaded(["a", "b"])
    put(spool, item("d", RANK_AUDIT, big + b"4"), item("e", RANK_AUDIT, big + b"5"))
    assert frames(tmp_path) == sorted(f"{sha(data)}.png" for data in (b"shared", big + b"4", big + b"5"))
    assert [p.uid for p in spool.to_send()] == ["a", "b"], "the records still wait for their acknowledgement"
    assert [p.uid for p in spool.to_upload()] == ["c", "d", "e"]
    c = spool.counters
    assert (c.released, c.refused, c.evicted, c.pending) == (2, 0, 0, 5)
    assert c.pending_bytes == 5 + len(b"shared") + 2 * 1001
    put(spool, item("f", RANK_AUDIT, big + b"2"))
    assert len(frames(tmp_path)) == 4, "what was deleted is written again when it comes again"
    put(spool, item("g", RANK_AUDIT, big + b"7"))
    assert c.refused == 1, "what the hub does not have stays"
    spool.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_offered_ranks_keep_their_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """No order of offers, acknowledgements and restarts evicts for an equal, or loses count of what is there."""
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, 6_000)
    model: dict[str, tuple[int, int, bytes]] = {}
    steps = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(1, 2500)), min_size=1, max_size=25)
    for number, (action, rank, size) in enumerate(data.draw(steps)):
        if action == 0 and model:
            uid = next(iter(model))
            spool.acknowledge([uid])
            del model[uid]
        elif action == 1:
            spool.close()
            spool = Spool(folder, 6_000)
        else:
            blob = bytes([number]) * size
            put(spool, item(f"{number:03d}", rank, blob))
            total = size + 3
            held = sum(3 + s for _, s, _ in model.values())
            lesser = sorted((k for k in model if model[k][0] > rank), key=lambda k: (-model[k][0], k))
            if held + total - sum(3 + model[k][1] for k in lesser) <= 6_000:  # else nothing goes in vain
                while held + total > 6_000:
                    held -= 3 + model.pop(lesser.pop(0))[1]
                model[f"{number:03d}"] = (rank, size, blob)
    assert pending(spool) == sorted(model, key=lambda k: (model[k][0], k))
    assert frames(folder) == sorted(f"{sha(blob)}.png" for _, _, blob in model.values())
    assert spool.counters.pending_bytes == sum(3 + s for _, s, _ in model.values())
    spool.close()


def test_a_restart_keeps_what_waits_and_sweeps_what_nobody_names(tmp_path: Path) -> None:
    spool = Spool(tmp_path, QUOTA)
    put(spool, item("a", RANK_HALT, b"1"), item("b", RANK_AUDIT))
    spool.close()
    (tmp_path / "frames" / f"{'0' * 64}.png").write_bytes(b"orphan")
    (tmp_path / "frames" / f".{sha(b'1')}.png.new").write_bytes(b"half")
    spool = Spool(tmp_path, QUOTA)
    assert frames(tmp_path) == [f"{sha(b'1')}.png"]
    assert pending(spool) == ["a", "b"]
    assert (spool.counters.pending, spool.counters.pending_bytes) == (2, 3)
    spool.close()


def test_a_second_edge_may_not_use_the_same_folder(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"lock: another edge.*\n  fix: .*state_dir"):
        Spool(tmp_path, QUOTA)
    put(spool, item("still here"))
    assert pending(spool) == ["still here"]


def test_a_folder_that_cannot_be_written_is_named_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file.*Not a directory\n  fix: .*state_dir in edge.yaml"):
        Spool(tmp_path / "file" / "spool", QUOTA)
    (tmp_path / "spool.db").mkdir()
    with pytest.raises(StorageError, match=r"spool.db: unable to open database file\n  fix: "):
        Spool(tmp_path, QUOTA)


def test_a_broken_database_is_refused_and_its_frames_stay(tmp_path: Path) -> None:
    spool = Spool(tmp_path, QUOTA)
    put(spool, item("a", RANK_HALT, b"1"))
    spool.close()
    whole = (tmp_path / "spool.db").read_bytes()
    (tmp_path / "spool.db").write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    with pytest.raises(StorageError, match=r"spool.db: .*\n  fix: .*move its folder away"):
        Spool(tmp_path, QUOTA)
    assert frames(tmp_path) == [f"{sha(b'1')}.png"]


def test_the_evidence_of_version_0_0_is_taken_over(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "spool.db")
    old.executescript(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, payload BLOB NOT"
        " NULL, rank INTEGER NOT NULL, bytes INTEGER NOT NULL, sent_ns INTEGER NOT NULL DEFAULT 0);"
        "CREATE TABLE file (sha256 TEXT NOT NULL, item INTEGER NOT NULL REFERENCES item(id) ON DELETE CASCADE,"
        " PRIMARY KEY (sha256, item)) WITHOUT ROWID;"
        f"INSERT INTO item VALUES (1, 'a', 't', x'01', 0, 2, 5); INSERT INTO file VALUES ('{sha(b'1')}', 1);"
    )
    old.close()
    (tmp_path / "frames" / sha(b"1")[:2]).mkdir(parents=True)
    (tmp_path / "frames" / sha(b"1")[:2] / f"{sha(b'1')}.png").write_bytes(b"1")
    spool = Spool(tmp_path, QUOTA)
    (waiting,) = spool.to_upload()
    assert waiting.files[0][1].read_bytes() == b"1"
    spool.close()


def test_offer_never_waits_for_the_disk(tmp_path: Path) -> None:
    disk = FailingDisk()
    spool = Spool(tmp_path, QUOTA, queue_len=64, disk=disk)
    disk.slow_s = 0.1
    took = []
    for k in range(500):
        began = time.perf_counter()
        spool.offer(lambda k=k: item(str(k), RANK_UNCERTAIN, b"x" * 1000 + str(k).encode()))  # type: ignore[misc]
        took.append(time.perf_counter() - began)
        time.sleep(0.0005)
    disk.slow_s = 0.0
    p99_ms = sorted(took)[int(0.99 * len(took))] * 1000
    assert p99_ms < 1.0, f"p99 of offer is {p99_ms:.2f} ms"
    spool.flush()
    c = spool.counters
    assert c.refused > 300, "the queue must be bounded"
    assert c.accepted + c.refused == 500, "each is counted"
    spool.close()


def test_a_full_queue_gives_way_to_a_halt(tmp_path: Path) -> None:
    disk = FailingDisk()
    spool = Spool(tmp_path, QUOTA, queue_len=4, disk=disk)
    disk.slow_s = 0.2
    for k in range(20):
        spool.offer(lambda k=k: item(f"unsure{k}", RANK_UNCERTAIN, bytes([k])), RANK_UNCERTAIN)  # type: ignore[misc]
    assert spool.offer(lambda: item("halt", RANK_HALT, b"h"), RANK_HALT)
    assert not spool.offer(lambda: item("audit", RANK_AUDIT, b"a"), RANK_AUDIT)
    disk.slow_s = 0.0
    spool.flush()
    assert pending(spool)[0] == "halt"
    assert "audit" not in pending(spool)
    assert spool.counters.refused == 21 + 1 - spool.counters.accepted
    spool.close()


def test_the_queue_is_bounded_in_bytes_and_takes_a_frame_larger_than_that(tmp_path: Path) -> None:
    disk = FailingDisk()
    spool = Spool(tmp_path, QUOTA, queue_len=1000, queue_bytes=10_000, disk=disk)
    disk.slow_s = 0.2
    spool.offer(lambda: item("first", RANK_UNCERTAIN, b"1"), cost_bytes=1)
    time.sleep(0.05)  # now on its way to the slow disk
    assert spool.offer(lambda: item("huge"), cost_bytes=50_000)
    assert not spool.offer(lambda: item("more"), cost_bytes=1)
    disk.slow_s = 0.0
    spool.flush()
    assert pending(spool) == ["first", "huge"]
    spool.close()


def test_a_halts_frame_is_never_too_large_and_the_frames_before_it_have_room_of_their_own(tmp_path: Path) -> None:
    """Of a camera of 12 Mpx one frame alone is larger than the queue."""
    gate, busy = threading.Event(), threading.Event()
    spool = Spool(tmp_path, QUOTA)

    def hold() -> None:
        busy.set()
        gate.wait()

    spool._intake.ask(hold)  # so that all of these wait
    assert busy.wait(5)
    spool.offer(lambda: item("unsure"), RANK_UNCERTAIN, 20 * MIB)
    spool.offer(lambda: item("event", RANK_HALT), RANK_HALT)
    assert spool.offer(lambda: item("halt", RANK_HALT), RANK_HALT, 35 * MIB)
    assert spool.offer(lambda: item("before", RANK_CONTEXT), RANK_CONTEXT, 24 * MIB)
    assert spool.offer(lambda: item("halt of another camera", RANK_HALT), RANK_HALT, 35 * MIB)
    assert not spool.offer(lambda: item("one more before"), RANK_CONTEXT, 24 * MIB)
    assert not spool.offer(lambda: item("one more"), RANK_UNCERTAIN, 1)
    gate.set()
    spool.flush()
    assert pending(spool) == ["event", "halt", "halt of another camera", "before", "unsure"]
    spool.close()


@pytest.mark.parametrize("how", ["evict", "release"])
def test_who_makes_room_leaves_the_files_of_its_own_group(tmp_path: Path, how: str) -> None:
    """Empty heat maps are all the same file: the one that goes must not take it from the one that comes."""
    gate, same = threading.Event(), b"an empty heat map"
    spool = Spool(tmp_path, 60_000)
    put(spool, item("old", RANK_UNCERTAIN, bytes(20_000), same))
    if how == "release":
        spool.set_uploaded(["old"])
    spool._intake.ask(lambda: gate.wait() and None)  # both of the next are one group
    spool.offer(lambda: item("new", RANK_CONTEXT, b"2" * 20_000, same), RANK_CONTEXT)
    spool.offer(lambda: item("large", RANK_CONTEXT, b"3" * 30_000), RANK_CONTEXT)
    gate.set()
    spool.flush()
    assert (spool.counters.evicted, spool.counters.released) == ((1, 0) if how == "evict" else (0, 2))
    assert all(path.exists() for p in spool.to_upload() for _, path in p.files)
    spool.acknowledge(["old", "new", "large"])
    spool.close()
    assert frames(tmp_path) == []


def test_an_item_that_cannot_be_made_is_counted_and_harms_no_other(spool: Spool) -> None:
    def broken() -> Item:
        raise ValueError("no PNG")

    spool.offer(lambda: item("a"))
    spool.offer(broken)
    spool.offer(lambda: None)
    spool.offer(lambda: item("b"))
    spool.flush()
    assert pending(spool) == ["a", "b"]
    assert (spool.counters.failed, spool.counters.thinned, spool.counters.accepted) == (1, 1, 2)


def test_closing_writes_what_was_accepted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, QUOTA)
    for k in range(30):
        spool.offer(lambda k=k: item(f"{k:02d}", RANK_UNCERTAIN, bytes([k])))  # type: ignore[misc]
    spool.close()
    assert not spool.offer(lambda: item("late"))
    with pytest.raises(StorageError, match="closed"):
        spool.to_send()
    spool = Spool(tmp_path, QUOTA)
    assert len(pending(spool)) == 30
    spool.close()


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root, or LimitNICE, lets a thread take its priority back"
)
def test_a_spool_that_falls_behind_gives_way_no_longer(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, os.getpid())
    seen: list[int] = []
    may_go = threading.Event()

    def wait() -> None:
        may_go.wait(5)

    def note() -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) - own)

    spool = Spool(tmp_path, 10**6)
    try:
        spool.offer(wait)
        time.sleep(0.1)  # the first one is taken alone
        for _ in range(GROUP):
            spool.offer(note)
        may_go.set()
        spool.flush()
        spool.offer(note)
        spool.flush()
    finally:
        spool.close()
    assert seen == [0] * GROUP + [NICE]
