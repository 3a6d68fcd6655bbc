"""Faults 12 to 14, 16, 17 and 19: what becomes of evidence when processes, disks, power, broker or hub fail.

Each function injects `times` and returns its figures. `accepted` is what the spool has called durable; the hub is
the real one, and what it has is read from its database.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.station import wait_for
from benchmarks.storage_power import CODES, SITES, cut_power, inject
from benchmarks.storage_rig import Broker, Hub, Sender, flagged, halt, parts, record
from edge.spool import Spool


def none(figure: str, value: float, note: str = "") -> Figure:
    return Figure(figure, value, "", "<= 0", note)


def fault_12(times: int, frames: int = 1000, seed: int = 1) -> list[Figure]:
    """kill -9 of the edge's process at random while it stores, uploads and is acknowledged: `times` kills, `frames`
    flagged frames each."""
    rng = random.Random(seed)
    durable: list[str] = []
    cut_off = 0
    with tempfile.TemporaryDirectory() as name, parts(Path(name)) as (broker, hub):
        folder = Path(name) / "spool"
        for number in range(times):
            said, done = _killed_child(folder, broker, hub, number * frames, frames, rng)
            durable += said
            cut_off += not done
        with Sender(folder, broker.port, hub.url, again_s=2.0) as last:
            last.drain(60 + len(durable) / 50)
        stored = hub.stored()
    lost = len(set(durable) - stored.keys())
    twice = sum(count - 1 for count in stored.values())
    note = f"{len(durable)} accepted in {times} lives, {cut_off} of them cut off while offering"
    return [
        none("kill -9 at random: accepted items the hub does not have", lost, note),
        none("kill -9 at random: items the hub has twice", twice),
    ]


def _killed_child(
    folder: Path, broker: Broker, hub: Hub, first: int, count: int, rng: random.Random
) -> tuple[list[str], bool]:
    """One life: the uids it called durable, and whether it had offered all before the kill."""
    args = [sys.executable, "-m", "benchmarks.storage_child", str(folder), str(broker.port), hub.url]
    with subprocess.Popen([*args, str(first), str(count)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        killer = threading.Timer(rng.uniform(0.02, count / 250), child.kill)
        killer.start()
        lines = []
        for line in child.stdout:
            # A last line without its end was never said.
            if line.endswith("\n"):
                lines.append(line.strip())
            if line == "done\n":
                break
        killer.join()
    said = [line for line in lines if line != "done"]
    return said, "done" in lines


def fault_13(times: int, seed: int = 1) -> list[Figure]:
    """Power loss: writes that were not synced are dropped or torn, then a restart on what is left."""
    found = cut_power(times, seed)
    note = found.first or f"{found.accepted} accepted items checked after {found.runs} cuts"
    return [
        none("power loss: accepted items lost", found.lost, note),
        none("power loss: databases that fail their integrity check", found.broken),
        none("power loss: truncated images that would be served", found.torn),
    ]


def fault_14(times: int) -> list[Figure]:
    """kill -9 of the hub between commit and acknowledgement, in turn the broker's and the edge's."""
    with tempfile.TemporaryDirectory() as name, parts(Path(name)) as (broker, hub):
        with Sender(Path(name) / "spool", broker.port, hub.url, again_s=2.0) as sender:
            for number in range(times):
                hub.dies_at.write_text(("done", "publish")[number % 2])
                sender.offer(*flagged(number * 20, 20))
                wait_for(hub.died, 30, "the hub's death between commit and acknowledgement")
                hub.dies_at.unlink()
                hub.start()
                sender.drain()
            lost = sender.missing(hub)
        twice = sum(count - 1 for count in hub.stored().values())
        accepted = len(sender.durable)
    return [
        none("hub killed between commit and ack: accepted items lost", lost, f"{accepted} accepted, {times} kills"),
        none("hub killed between commit and ack: items the hub has twice", twice),
    ]


def fault_16(times: int) -> list[Figure]:
    """The broker is killed right after its first PUBACK, while it alone has what it acknowledged: the hub stands."""
    with tempfile.TemporaryDirectory() as name, parts(Path(name)) as (broker, hub):
        with Sender(Path(name) / "spool", broker.port, hub.url, again_s=2.0) as sender:
            for number in range(times):
                wait_for(lambda: sender.outbox.connection.connected, what="the edge's connection")
                acked = threading.Event()
                sender.on_puback(acked.set)
                hub.signal(signal.SIGSTOP)
                sender.offer(*(halt(number * 5 + k) for k in range(5)))
                assert acked.wait(10), "no PUBACK"
                broker.kill()
                hub.signal(signal.SIGCONT)
                broker.start()
                sender.drain()
            lost = sender.missing(hub)
        accepted = len(sender.durable)
    return [none("broker killed after PUBACK: accepted items lost", lost, f"{accepted} accepted, {times} kills")]


def fault_17(messages: int = 3600) -> list[Figure]:
    """The hub is away for more messages than the broker would keep for it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Broker(folder) as broker:
            hub = Hub(folder, broker.port).start()
            hub.kill()
            with Sender(folder / "spool", broker.port, hub.url, again_s=2.0) as sender:
                sender.offer(*(halt(n) if n % 4 == 0 else record(n) for n in range(messages)))
                try:
                    hub.start()
                    took_s = sender.drain(60 + messages / 20)
                    stored = len(sender.durable & hub.stored().keys())
                finally:
                    hub.kill()
    return [
        Figure("hub away: messages in the hub afterwards", stored, "", f">= {messages}"),
        Figure("hub away: all delivered after", round(took_s, 1), "s"),
    ]


def fault_19() -> list[Figure]:
    """EIO and ENOSPC at each write site, one after the other, and an fsync that fails."""
    found = {f"{op} {os.strerror(code)}": inject(op, code) for op in SITES for code in CODES}
    first = next((f"{site}: {losses.first}" for site, losses in found.items() if losses.first), "")
    return [
        none(
            "write errors: items called durable though the disk refused, or descriptors used after a failed fsync",
            sum(losses.torn for losses in found.values()),
            first or f"{len(found)} injections: {', '.join(SITES)}",
        ),
        none("write errors: accepted items gone after a restart", sum(losses.lost for losses in found.values())),
        none("write errors: spools that did not recover by themselves", sum(x.broken for x in found.values())),
    ]


def slow_offer(offers: int = 2000) -> list[Figure]:
    """How long the frame path is held up by a spool whose disk takes 50 ms for each fsync."""
    from benchmarks.storage_disk import FailingDisk

    disk = FailingDisk()
    with tempfile.TemporaryDirectory() as name:
        spool = Spool(Path(name), 10**9, disk=disk)
        disk.slow_s = 0.05
        items = [record(n) for n in range(offers)]
        took = []
        for item in items:
            began = time.perf_counter()
            spool.offer(lambda item=item: item, item.rank, 983_040)  # type: ignore[misc]
            took.append(time.perf_counter() - began)
            time.sleep(0.0005)
        disk.slow_s = 0.0
        spool.close()
    p99_ms = sorted(took)[int(0.99 * len(took))] * 1000
    return [Figure("offer to a spool on a slow disk, p99", round(p99_ms, 3), "ms", "<= 1")]
