"""Faults 15 and 18: a whole edge whose broker is away, and one whose disk is full.

The edge is a process of its own with a camera of 30 frames/s, of which each is kept; the permit is heard by another
client, as a controller would.
"""

from __future__ import annotations

import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from benchmarks.fault_storage import none
from benchmarks.figures import Figure
from benchmarks.station import end, start_edge, wait_for, write_station
from benchmarks.storage_rig import Broker, Hub, PermitWatch
from deploy.broker import free_port

EVERY_FRAME = "k: 2, n: 3, audit_share: 1.0"
GAP = "<= 500"


@dataclass(slots=True)
class Whole:
    """A running edge and what stands around it."""

    folder: Path
    state: Path
    broker: Broker
    hub: Hub
    edge: subprocess.Popen[bytes]
    watch: PermitWatch
    url: str

    def spool(self) -> dict[str, Any]:
        counters: dict[str, Any] = httpx.get(f"{self.url}/status.json", timeout=10).json()["spool"]
        return counters

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.edge.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def uids(self) -> set[str]:
        """What stands in the edge's own database."""
        (path,) = (self.state / "spool").glob("spool*.db")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
            return {uid for (uid,) in db.execute("SELECT uid FROM item")}


@contextmanager
def whole(folder: Path, state: Path, hub: Hub, broker: Broker, pictures: int, spool: str = "{}") -> Iterator[Whole]:
    """`pictures`: so many different frames, over and over."""
    status = free_port()
    _draw(folder / "pictures", pictures)
    more = f"hub: {{url: '{hub.url}'}}\nspool: {spool}"
    config = write_station(folder, broker.port, policy=EVERY_FRAME, status=status, more=more)
    config.write_text(config.read_text().replace(f"state_dir: {folder / 'state'}", f"state_dir: {state}"))
    watch = PermitWatch(broker.port)
    edge = start_edge(config)
    try:
        made = Whole(folder, state, broker, hub, edge, watch, f"http://127.0.0.1:{status}")
        wait_for(lambda: len(watch.heard_s) > 5, 30, f"permits; see {folder}/edge.log")
        yield made
    finally:
        end(edge)
        watch.close()


def _draw(folder: Path, count: int) -> None:
    """Grey scenes with a sensor's noise: as PNG about 300 kB, like a real part's."""
    if folder.exists():
        return
    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        scene = cv2.resize(rng.integers(60, 190, (8, 10), np.uint8), (640, 512), interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(scene[..., None] + rng.normal(0, 1.2, (512, 640, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:04d}.png"), noisy)


def fault_15(away_s: float = 600.0, pictures: int = 120) -> list[Figure]:
    """The broker is away while 30 frames/s are kept; the hub is not, so that pictures go up meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Broker(folder) as broker, Hub(folder, broker.port) as hub:
            with whole(folder, folder / "state", hub, broker, pictures) as station:
                time.sleep(3)
                before, rss = station.spool(), station.rss_mib()
                broker.kill()
                peak = _peak_rss(station, away_s)
                waiting, uids = station.spool(), station.uids()
                broker.start()
                back_s = time.monotonic()
                wait_for(lambda: station.watch.heard_s[-1] > back_s, 30, "the first permit")
                permit_s = station.watch.heard_s[-1]
                wait_for(lambda: _caught_up(station, waiting), 120 + away_s, f"the drain of {waiting}")
                took_s = time.monotonic() - permit_s
                gap_ms = station.watch.longest_gap_ms(permit_s, time.monotonic())
                peak = max(peak, station.rss_mib())
            with whole(folder, folder / "state", hub, broker, pictures, "{quota_mb: 2047}") as station:
                wait_for(lambda: station.spool()["pending"] < 60, 60, "the rest")
                still = station.uids()
            stored = hub.stored()
        lost = len(uids - stored.keys() - still)
        twice = sum(count - 1 for count in stored.values())
    drained = waiting["pending"]
    full = away_s >= 600
    return [
        none("broker away: accepted records the hub does not have", lost, f"{len(uids)} of them"),
        none("broker away: records the hub has twice", twice),
        Figure("broker away: records waiting when it came back", drained, "", ">= 17500" if full else None),
        none("broker away: records refused or failed meanwhile", _turned_away(waiting) - _turned_away(before)),
        Figure("broker away: drained within", round(took_s, 1), "s", "<= 60"),
        Figure("broker away: records/s while draining", round(drained / took_s), "/s", ">= 300" if full else None),
        Figure("broker away: memory grown by", round(peak - rss, 1), "MiB", "<= 32"),
        Figure("broker away: longest gap between permits while draining", round(gap_ms), "ms", GAP),
    ]


def _peak_rss(station: Whole, for_s: float) -> float:
    peak, end_s = 0.0, time.monotonic() + for_s
    while time.monotonic() < end_s:
        peak = max(peak, station.rss_mib())
        time.sleep(0.5)
    return peak


def _turned_away(counters: dict[str, Any]) -> int:
    return int(counters["refused"] + counters["failed"] + counters["evicted"])


def _caught_up(station: Whole, waiting: dict[str, Any]) -> bool:
    """As much was acknowledged as had waited; frames that came since may still be on their way."""
    time.sleep(0.1)
    return bool(station.spool()["acknowledged"] >= waiting["acknowledged"] + waiting["pending"])


def fault_18(times: int = 1, size_mb: int = 64) -> list[Figure]:
    """A file system of 64 MB that others fill to the last byte, several times; then the hub comes."""
    with tempfile.TemporaryDirectory() as name:
        folder, state = Path(name), Path(name) / "small"
        state.mkdir()
        with small_file_system(state, size_mb):
            return _full_disk(folder, state, times)


def may_mount(folder: Path) -> bool:
    try:
        _mount(folder, 1)
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(folder)], check=False)
    return True


@contextmanager
def small_file_system(folder: Path, size_mb: int) -> Iterator[None]:
    _mount(folder, size_mb)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _mount(folder: Path, size_mb: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "haltline", str(folder)], check=True)


def _full_disk(folder: Path, state: Path, times: int) -> list[Figure]:
    with Broker(folder) as broker:
        hub = Hub(folder, broker.port)
        with whole(folder, state, hub, broker, 60, "{reserve_mb: 0}") as station:
            fills = [_fill_once(station) for _ in range(times)]
            alive = station.edge.poll() is None
            kept = station.uids()
            try:
                hub.start()
                wait_for(lambda: kept <= hub.stored().keys(), 120, "all that was kept, in the hub")
                wait_for(lambda: station.spool()["pending"] < 60, 60, "the acknowledgements")
            finally:
                hub.kill()
            evicted = station.spool()["evicted"]
    gaps, refused, deleted, recovered = zip(*fills, strict=True)
    return [
        Figure("disk full: longest gap between permits", round(max(gaps)), "ms", GAP),
        none("disk full: edges that ended", 0 if alive else 1),
        none("disk full: items deleted without the hub's acknowledgement", sum(deleted) + evicted),
        Figure("disk full: items refused, each counted", sum(refused), "", ">= 1"),
        Figure("disk full: evidence is stored again after", round(max(recovered), 2), "s", "<= 10"),
    ]


def _fill_once(station: Whole) -> tuple[float, int, int, float]:
    """The longest gap between permits in ms, what was refused, what was deleted, and the seconds to recover."""
    wait_for(lambda: station.spool()["accepted"] > 5, 20, "evidence on disk")
    before, known = station.spool(), station.uids()
    began_s = time.monotonic()
    _fill(station.state / "filler")
    wait_for(lambda: station.spool()["refused"] > before["refused"], 20, "a refusal")
    time.sleep(3)
    gap_ms = station.watch.longest_gap_ms(began_s, time.monotonic())
    full = station.spool()
    deleted = len(known - station.uids())
    (station.state / "filler").unlink()
    freed_s = time.monotonic()
    wait_for(lambda: _stores_again(station, full), 20, "evidence stored again")
    return gap_ms, int(full["refused"] - before["refused"]), deleted, time.monotonic() - freed_s


def _stores_again(station: Whole, full: dict[str, Any]) -> bool:
    now = station.spool()
    return bool(now["accepted"] + now["duplicates"] > full["accepted"] + full["duplicates"])


def _fill(path: Path) -> None:
    """To the last byte: whatever is freed is taken again for a while."""
    with path.open("wb", buffering=0) as f:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    f.write(bytes(size))
            except OSError:
                continue
