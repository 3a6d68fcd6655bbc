"""Faults 24 and 25: hostile requests to a hub's web side, and an audit log that somebody changed.

A real hub process over HTTP, and a real database whose rows are edited behind the hub's back.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figures import Figure
from benchmarks.process import rss_mib
from benchmarks.review import Hub
from deploy.broker import free_port
from review import audit, people
from review.store import Store

PIN, PASSWORD = "402817", "correct horse"
BOMB_PX = (20_000, 10_000)
"""200 megapixels in a few hundred kB."""
GUESSES = 30
FREE_GUESSES, FIRST_WAIT_S = 3, 5.0
MOST_ROUNDS = 20
NEVER_ENDS = "/events"


@dataclass(frozen=True, slots=True)
class Guess:
    """Times are monotonic seconds; `looked_at`: the hub compared it, right or wrong."""

    sent_s: float
    answered_s: float
    looked_at: bool


# ── 24 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fault_24(cases: int) -> list[Figure]:
    """`cases` schemathesis requests, forged origins, guessed PINs, a decompression bomb: all at one running hub."""
    with tempfile.TemporaryDirectory() as name, _hub(Path(name)) as hub:
        return [*_schema(hub, cases), _forged(hub), *_guessed(hub), *_bomb(hub)]


@contextmanager
def _hub(folder: Path) -> Iterator[Hub]:
    """Its broker is away: pages must work then too, and nothing here needs one."""
    data = folder / "data"
    data.mkdir()
    store = Store(f"sqlite:///{data / 'hub.db'}")
    store.migrate()
    audit.keep(store, data)
    for person, role in (("Olga", "operator"), ("Ada", "admin")):
        people.add_person(store, person, role)
        people.set_secret(store, person, PIN if role == "operator" else PASSWORD)
    store.close()
    hub = Hub(data, free_port(), free_port(), folder / "hub.log", answers=(200, 503))
    try:
        yield hub
    finally:
        hub.stop()


def _admin(hub: Hub) -> httpx.Client:
    client = httpx.Client(base_url=hub.url, timeout=30)
    answer = client.post("/who", data={"name": "Ada", "secret": PASSWORD})
    if answer.status_code != 303:
        raise RuntimeError(f"the admin cannot sign in: {answer.status_code} {answer.text[:200]}")
    return client


def _schema(hub: Hub, cases: int) -> list[Figure]:
    """Requests made from the hub's own description of itself, by an admin, whom nothing stops at the door."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis.core.result import Ok

    with closing(_admin(hub)) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    found = [operation for operation in schema.get_all_operations() if isinstance(operation, Ok)]
    operations = [operation.ok() for operation in found]
    operations = [o for o in operations if o.path not in (NEVER_ENDS, "/who/leave")]
    browser, sent, broken = [_admin(hub)], 0, []

    def ask(case: Any) -> None:
        nonlocal sent
        sent += 1
        answer = case.call(base_url=hub.url, cookies=dict(browser[0].cookies), timeout=30, allow_redirects=False)
        if answer.status_code >= 500 and not (case.path == "/healthz" and answer.status_code == 503):
            broken.append(f"{case.method} {case.path} {answer.status_code}")

    # A route whose input has few forms is asked each of them once a round.
    rounds = 0
    while sent < cases and rounds < MOST_ROUNDS:
        rounds += 1
        few = settings(
            max_examples=-(-(cases - sent) // len(operations)), deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        for operation in operations:
            seed(rounds)(few(given(case=operation.as_strategy())(ask)))()
            if browser[0].get("/audit").status_code != 200:  # a case signed this browser out
                browser[0] = _admin(hub)
    note = "; ".join(sorted(set(broken))[:3])
    return [
        Figure("requests made from the schema", sent, f"over {len(operations)} routes"),
        Figure("answered with an error of the hub (5xx)", len(broken), "", "<= 0", note),
    ]


def _forged(hub: Hub) -> Figure:
    """Every write, as another site's page would make the signed-in browser send it."""
    let_in = []
    with closing(_admin(hub)) as client:
        routes = client.get("/openapi.json").json()["paths"]
        for path, methods in routes.items():
            if path.startswith("/api/edge"):
                continue  # a bearer token, which no browser sends by itself
            for method in set(methods) - {"get", "head"}:
                at = path.replace("{", "").replace("}", "")
                answer = client.request(method, at, headers={"Origin": "https://evil.example"})
                if answer.status_code != 403:
                    let_in.append(f"{method} {path} {answer.status_code}")
    return Figure("forged writes let in (CSRF)", len(let_in), "", "<= 0", ", ".join(let_in[:3]))


def _guessed(hub: Hub) -> list[Figure]:
    """Somebody tries PINs as fast as the hub answers, from several connections at once.

    Two questions: how many are looked at before the first refusal, and whether any is looked at within a wait. A guess
    that comes after a wait is looked at, as it should be: on a slow machine 30 of them outlast the first ones.
    """
    answers: list[Guess] = []

    def guess(first: int) -> None:
        with httpx.Client(base_url=hub.url, timeout=60) as client:
            for n in range(first, first + GUESSES // 3):
                sent_s = time.monotonic()
                status = client.post("/who", data={"name": "Olga", "secret": f"{7000 + n}"}).status_code
                answers.append(Guess(sent_s, time.monotonic(), status != 429))

    threads = [threading.Thread(target=guess, args=(n * GUESSES,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, over = before_refusal(answers), beyond_the_waits(answers)
    took_s = max(g.answered_s for g in answers) - min(g.sent_s for g in answers)
    looked_at = sum(g.looked_at for g in answers)
    with httpx.Client(base_url=hub.url, timeout=60) as client:
        right = client.post("/who", data={"name": "Olga", "secret": PIN}).status_code
    return [
        Figure(f"of {len(answers)} guessed PINs, looked at before the lockout", first, "", "<= 4"),
        Figure("looked at within one of its waits", over, "", "<= 0", f"{looked_at} looked at in {took_s:.1f} s"),
        Figure("the right PIN let in while locked out", int(right != 429), "", "<= 0"),
    ]


def before_refusal(guesses: Sequence[Guess]) -> int:
    """How many were looked at of those sent before anybody was told that there is a wait."""
    refused_s = min((g.answered_s for g in guesses if not g.looked_at), default=float("inf"))
    return sum(g.looked_at for g in guesses if g.sent_s < refused_s)


def beyond_the_waits(guesses: Sequence[Guess]) -> int:
    """How many more were looked at than the waits allow: the free ones, the one that brings the first wait on, and one
    after each wait that can have ended meanwhile. The waits are those of the docs, not asked of the code under test."""
    left_s = max(g.answered_s for g in guesses) - min(g.sent_s for g in guesses)
    allowed, wait_s = FREE_GUESSES + 1, FIRST_WAIT_S
    while left_s >= wait_s:
        left_s, wait_s, allowed = left_s - wait_s, 2 * wait_s, allowed + 1
    return max(0, sum(g.looked_at for g in guesses) - allowed)


def bomb(width: int, height: int) -> bytes:
    """A valid grey PNG of that size, made row by row: nobody here holds the picture either."""
    packed, row = zlib.compressobj(9), bytes(1 + width)
    data = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _bomb(hub: Hub) -> list[Figure]:
    png = bomb(*BOMB_PX)
    sha = hashlib.sha256(png).hexdigest()
    took, refused, peak = [], 0, [0.0]
    with httpx.Client(base_url=hub.url, timeout=60) as client:
        client.get("/healthz")
        before, done = rss_mib(hub.pid), threading.Event()

        def look() -> None:
            while not done.wait(0.002):
                peak[0] = max(peak[0], rss_mib(hub.pid))

        watch = threading.Thread(target=look)
        watch.start()
        for _ in range(5):
            began = time.perf_counter()
            answer = client.put(f"/api/edge/frames/{sha}", content=png)
            took.append((time.perf_counter() - began) * 1000)
            refused += answer.status_code in (413, 422)
        done.set()
        watch.join()
    return [
        Figure(f"200 MP PNG of {len(png) // 1024} kB taken, of 5", 5 - refused, "", "<= 0"),
        Figure("it is refused within", round(max(took), 1), "ms", "<= 100"),
        Figure("memory the hub takes for it", round(max(0.0, peak[0] - before), 1), "MiB", "<= 50"),
    ]


# ── 25 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

ACTS = 40


def fault_25(times: int) -> list[Figure]:
    """`times` logs of which one thing was changed, in turns: edited, deleted, reordered, cut off. The table is the
    hub's own, and the one who changes it may write the whole database; the anchor file lies beside it."""
    found = dict.fromkeys(CHANGES, 0)
    tried = dict.fromkeys(CHANGES, 0)
    silent = 0
    rng = random.Random(25)
    for n in range(times):
        name = list(CHANGES)[n % len(CHANGES)]
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            store = _log(data)
            silent += not audit.stored_problems(store, data)[1]
            with sqlite3.connect(data / "hub.db") as db:
                # Triggers keep the table append-only; whoever may write the whole file removes them first.
                for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                    db.execute(f'DROP TRIGGER "{trigger}"')
                CHANGES[name](db, rng)
            tried[name] += 1
            found[name] += bool(audit.stored_problems(store, data)[1])
            store.close()
    figures = [Figure(f"{name}: found, of {tried[name]}", found[name], "", f">= {tried[name]}") for name in CHANGES]
    return [*figures, Figure(f"untouched logs that were called changed, of {times}", times - silent, "", "<= 0")]


def _log(data: Path) -> Store:
    store = Store(f"sqlite:///{data / 'hub.db'}")
    store.migrate()
    audit.keep(store, data)
    for n in range(ACTS):
        with store.writing() as session:
            audit.note(session, f"person {n % 3}", "acknowledged", f"halt {n}", nonce=os.urandom(4).hex())
    return store


def _edit(db: sqlite3.Connection, rng: random.Random) -> None:
    column, value = rng.choice([("who", "nobody"), ("what", "login"), ("subject", "halt 999"), ("utc_ms", 1)])
    db.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (value, rng.randint(2, ACTS)))


def _rehash(db: sqlite3.Connection, rng: random.Random) -> None:
    """Edited by one who knows the hash and mends the row's own."""
    seq = rng.randint(2, ACTS)
    row = db.execute("SELECT utc_ms, what, subject, detail, prev FROM audit WHERE seq = ?", (seq,)).fetchone()
    utc_ms, what, subject, detail, prev = row
    fresh = audit.hash_of(seq, utc_ms, "nobody", what, subject, detail, prev)
    db.execute("UPDATE audit SET who = 'nobody', hash = ? WHERE seq = ?", (fresh, seq))


def _delete(db: sqlite3.Connection, rng: random.Random) -> None:
    db.execute("DELETE FROM audit WHERE seq = ?", (rng.randint(2, ACTS),))


def _reorder(db: sqlite3.Connection, rng: random.Random) -> None:
    a = rng.randint(2, ACTS - 1)
    for old, new in ((a, -1), (a + 1, a), (-1, a + 1)):
        db.execute("UPDATE audit SET seq = ? WHERE seq = ?", (new, old))


def _truncate(db: sqlite3.Connection, rng: random.Random) -> None:
    """The end is cut off and the head is mended to match: only what lies outside the table can tell."""
    last = rng.randint(2, ACTS - 1)
    db.execute("DELETE FROM audit WHERE seq > ?", (last,))
    (digest,) = db.execute("SELECT hash FROM audit WHERE seq = ?", (last,)).fetchone()
    db.execute("UPDATE audit_head SET seq = ?, hash = ?", (last, digest))


CHANGES: dict[str, Callable[[sqlite3.Connection, random.Random], None]] = {
    "edited": _edit,
    "edited and hashed again": _rehash,
    "deleted": _delete,
    "reordered": _reorder,
    "cut off at the end": _truncate,
}
