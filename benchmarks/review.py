"""The hub under a whole plant: `haltline bench review`. One broker, one hub process, one database as after years.

1. The database is filled (1,000,000 alarms, 10,000,000 records) in a folder that is removed afterwards; one that was
   kept by an earlier run is copied instead.
2. 200 stations send one event a second for ten minutes while 20 tabs and a Chromium look on. Nothing may be lost.
3. Every page is asked for, and the whole answer is timed at a client on the same machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.figures import Figure, percentile
from benchmarks.hub_fill import Filling, fill
from benchmarks.hub_watch import Seen, Streams, chromium
from benchmarks.process import rss_mib
from deploy.broker import die_with_parent, free_port, start_mosquitto
from review import audit
from review.app import create_app
from review.settings import Settings
from review.store import Store

TABS = 20
LOOK_ON_S = 3.0
"""After the last event, so that it too can be seen."""
ROUNDS = 20
START_S = 180
"""Also on a machine that is busy with something else."""
ROOT = Path(__file__).resolve().parent.parent
STREAMS = ("/events", "/labels/export.zip", "/audit/export.jsonl")
"""Not pages: they run until somebody stops them, or hand out everything there is."""
NOT_PAGES = ("/api/edge", "/metrics", "/words", "/static")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it."""

    filling: Filling
    seconds: float
    rounds: int


FULL = Plan(Filling(), 600, ROUNDS)
QUICK = Plan(Filling(halts=20_000, records=200_000, labelled=4_000), 20, 5)


def measure(plan: Plan, keep: Path | None = None, only: str = "") -> list[Figure]:
    """`keep`: a folder for the filled database, so that the next run need not fill one. `only`: "load" or "pages"."""
    with tempfile.TemporaryDirectory(prefix="haltline-bench-", dir=keep) as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        took = _filled(data / "hub.db", plan.filling, keep)
        _anchored(data)
        size_gib = (data / "hub.db").stat().st_size / 2**30
        filled = f"{plan.filling.halts:,} alarms, {plan.filling.records:,} records, {size_gib:.1f} GiB"
        print(f"filled in {took:.0f} s: {filled}", file=sys.stderr, flush=True)
        port, mqtt_port = free_port(), free_port()
        broker = start_mosquitto(mqtt_port, folder)
        hub = Hub(data, port, mqtt_port, folder / "hub.log", (200,), "--demo-people")
        try:
            load = _load(hub, mqtt_port, plan, folder) if only != "pages" else []
            for figure in load:
                print(f"{figure.figure}: {figure.value:g} {figure.unit}", file=sys.stderr, flush=True)
            pages = _pages(hub, plan.rounds, filled) if only != "load" else []
        finally:
            hub.stop()
            broker.terminate()
            broker.wait(10)
    return [*load, *pages]


def _filled(path: Path, filling: Filling, keep: Path | None) -> float:
    """The seconds it took. What is kept is only copied: a run adds its own rows."""
    if keep is None:
        return fill(path, filling)
    kept = keep / f"filled-{filling.halts}-{filling.records}.db"
    began = time.monotonic()
    if not kept.exists():
        part = kept.with_suffix(".part")
        part.unlink(missing_ok=True)  # of a run that was ended
        fill(part, filling)
        part.replace(kept)
    shutil.copyfile(kept, path)
    return time.monotonic() - began


def _anchored(data: Path) -> None:
    """A hub misses the anchor of a log that others filled, and says so at /healthz."""
    store = Store(f"sqlite:///{data / 'hub.db'}")
    audit.begin_anchor(store, data, "bench")
    store.close()


class Hub:
    """`haltline review serve` as a process of its own."""

    def __init__(
        self, data: Path, port: int, mqtt_port: int, log: Path, answers: tuple[int, ...] = (200,), *more: str
    ) -> None:
        """Ready when /healthz answers one of `answers`; 503 is a hub whose broker is away."""
        self.url, self.data = f"http://127.0.0.1:{port}", data
        command = [sys.executable, "-m", "review.cli", "serve", "--data", str(data), "--port", str(port)]
        with log.open("wb") as to:
            self._process = subprocess.Popen(
                [*command, "--mqtt-port", str(mqtt_port), *more],
                cwd=ROOT, stdout=to, stderr=to, preexec_fn=die_with_parent,
            )  # fmt: skip
        self.pid = self._process.pid
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/healthz", timeout=2).status_code in answers:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the hub did not start: {log.read_text()[-2000:]}")

    def signed_in(self) -> httpx.Client:
        client = httpx.Client(base_url=self.url, timeout=60)
        answer = client.post("/who", data={"name": "Chen (engineer)"})
        if answer.status_code != 303:
            raise RuntimeError(f"nobody can sign in: {answer.status_code} {answer.text[:200]}")
        return client

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# ── the load ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _load(hub: Hub, mqtt_port: int, plan: Plan, folder: Path) -> list[Figure]:
    told = folder / "told.json"
    streams = Streams(hub.url, TABS - 1)
    streams.start()
    with chromium(hub.url, streams.seen):
        arguments = [str(mqtt_port), str(plan.seconds), str(plan.filling.stations), str(told)]
        subprocess.run([sys.executable, "-m", "benchmarks.hub_load", *arguments], cwd=ROOT, check=True)
        rss = rss_mib(hub.pid)
        time.sleep(LOOK_ON_S)
    streams.stop()
    sent = json.loads(told.read_text())
    with sqlite3.connect(hub.data / "hub.db") as db:
        rows = db.execute("SELECT uid, id, received_ms FROM halts ORDER BY id DESC LIMIT ?", (len(sent["halts"]),))
        committed = {uid: (str(halt_id), received) for uid, halt_id, received in rows}
        stored = db.execute("SELECT COUNT(*) FROM records WHERE frame_id > 0 AND id > ?", (plan.filling.records,))
        records = stored.fetchone()[0]
    # Not acknowledged, or not in the database: usually the same ones.
    lost = max(len(sent["missing"]), sent["sent"] - len(committed.keys() & sent["halts"].keys()) - records)
    return _told(plan, sent, committed, lost, streams.seen, rss)


def _told(
    plan: Plan, sent: dict[str, object], committed: dict[str, tuple[str, int]], lost: int, seen: Seen, rss: float
) -> list[Figure]:
    halts = sent["halts"]
    assert isinstance(halts, dict)
    ids = {uid: committed[uid][0] for uid in halts if uid in committed}
    since = {committed[uid][0]: committed[uid][1] for uid in ids}
    # What nobody saw counts as seen when the looking ended, so that it cannot make the others look fast.
    at_tab = [tab.get(i, seen.ended_ms) - since[i] for tab in seen.news for i in since]
    on_page = [seen.browser.get(i, seen.ended_ms) - since[i] for i in since]
    whole = [seen.browser.get(ids.get(uid, ""), seen.ended_ms) - at for uid, at in halts.items()]
    told = sum(i in tab for tab in seen.news for i in since) + sum(i in seen.browser for i in since)
    unseen = len(halts) * (len(seen.news) + 1) - told
    load = f"{plan.filling.stations} stations, 1 event/s each for {plan.seconds:.0f} s"
    load += f", {len(halts)} halts, {TABS} tabs; {busy()}"
    return [
        Figure("events lost", lost, "of " + str(sent["sent"]), "<= 0", load),
        Figure("events sent again after 10 s without an acknowledgement", float(str(sent["again"])), ""),
        Figure("event committed -> visible in Chromium, p95", percentile(on_page, 0.95), "ms", "<= 1000", load),
        Figure("event sent by the station -> visible in Chromium, p95", percentile(whole, 0.95), "ms"),
        Figure("event committed -> news at every tab's stream, p95", percentile(at_tab, 0.95), "ms", "<= 1000"),
        Figure("halts a tab was not told", unseen, "", "<= 0"),
        Figure("a tab's refetch of its page under this load, p95", percentile(seen.refetch_ms, 0.95), "ms"),
        Figure("memory of the hub after it", round(rss, 1), "MiB"),
    ]


def busy() -> str:
    """How busy the machine is, with this bench and with everything else: timings mean little without it."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def paths(hub: Hub) -> list[str]:
    """Every address a person's browser asks for, with something behind it."""
    with sqlite3.connect(hub.data / "hub.db") as db:
        open_halt = db.execute("SELECT MAX(id) FROM halts WHERE state <> 'CLOSED'").fetchone()[0]
        old = db.execute("SELECT MIN(id) + 1000 FROM halts").fetchone()[0]
        label = db.execute("SELECT r.uid FROM labels l JOIN records r ON r.id = l.record_id LIMIT 1").fetchone()[0]
    values = {"halt_id": str(open_halt), "key": "plant~line-1~s001", "uid": label, "name": "weld", "version": "1"}
    with tempfile.TemporaryDirectory() as empty:
        routes = create_app(Settings(data_dir=Path(empty))).openapi()["paths"]
    found = [p for p, methods in routes.items() if "get" in methods and not p.startswith((*STREAMS, *NOT_PAGES))]
    more = [f"/halts/{old}", "/alarms?verdict=false_call", "/alarms?station=plant~line-1~s001", f"/alarms?before={old}"]
    more += ["/performance?days=7", "/performance?days=30"]
    filled = [re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), p) for p in found]
    return [p for p in filled if "{" not in p] + more


def _pages(hub: Hub, rounds: int, filled: str) -> list[Figure]:
    took: dict[str, list[float]] = {}
    with closing(hub.signed_in()) as client:
        for path in paths(hub):
            for _ in range(rounds + 1):
                began = time.perf_counter()
                answer = client.get(path, headers={"Accept": "text/html"})
                ms = (time.perf_counter() - began) * 1000
                if answer.status_code >= 500:
                    raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:300]}")
                if answer.status_code == 200:
                    took.setdefault(path, []).append(ms)
    worst = {path: percentile(ms[1:], 0.95) for path, ms in took.items()}
    slowest = sorted(worst, key=worst.__getitem__, reverse=True)
    everything = [ms for times in took.values() for ms in times[1:]]
    note = "; ".join([filled, *(f"{path} {worst[path]:.0f} ms" for path in slowest[:6]), busy()])
    return [
        Figure(f"slowest of {len(worst)} pages, p95", round(worst[slowest[0]], 1), "ms", "<= 300", note),
        Figure("all pages, p95", round(percentile(everything, 0.95), 1), "ms", "<= 300"),
    ]
