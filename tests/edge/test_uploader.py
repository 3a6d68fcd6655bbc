"""The road to the hub, with a hub and broker that do what a test tells them: what waits, goes, and goes again."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.station import wait_for
from edge import uploader as road
from edge.hub_files import HERE
from edge.spool import RANK_HALT, RANK_UNCERTAIN, Item, Spool
from edge.uploader import WINDOW, Uploader


class FakeHub:
    """Answers uploads, and acknowledges records when told to. Also the outbox, so that one list has the order."""

    def __init__(self) -> None:
        self.connected = True
        self.takes = True
        self.acks = True
        self.http_up = True
        self.never: tuple[str, ...] = ()
        self.too_large: tuple[str, ...] = ()
        self.refuses: dict[str, int] = {}
        self.stumbles: dict[str, int] = {}
        """Files that make of a whole request this answer; 0 is a connection that ends."""
        self.no_groups: httpx.Response | None = None
        """What a group of files is answered with; None is a hub that takes them."""
        self.instead: httpx.Response | None = None
        """What somebody in its place answers to everything: a guest network's login, a proxy."""
        self.has: set[str] = set()
        self.order: list[str] = []
        self.seen: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.connection = self
        self._ack: Callable[[Sequence[str]], None] = lambda _uids: None
        self._lock = threading.Lock()

    def on_ack(self, handler: Callable[[Sequence[str]], None]) -> None:
        self._ack = handler

    def fits(self, topic: str, payload: bytes) -> bool:
        return topic not in self.too_large

    def publish(self, topic: str, payload: bytes, qos: int = 0) -> bool:
        if not self.takes:
            return False
        self.order.append(topic)
        self.seen[topic] += 1
        if self.acks and topic not in self.never:
            threading.Thread(target=self._ack, args=((topic,),)).start()
        return True

    def ack(self, *uids: str) -> None:
        self._ack(uids)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if not self.http_up:
            raise httpx.ConnectError("refused")
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.005)
        with self._lock:
            self.at_once -= 1
        self.seen[request.method] += 1
        self.seen[f"{request.method} {request.url.path}"] += 1
        if self.instead:
            return self.instead
        group = request.method == "POST"
        inside = [sha for sha, _ in parts(request.content)] if group else [request.url.path.rsplit("/", 1)[1]]
        if code := next((self.stumbles[sha] for sha in inside if sha in self.stumbles), None):
            return httpx.Response(code)
        if code == 0 and request.method == "PUT":
            raise httpx.ReadError("connection reset")
        if group:
            assert request.url.path == "/api/edge/frames"
            if self.no_groups:
                return self.no_groups
            told = [{"sha256": sha, "status": self._take(sha, data), "why": ""} for sha, data in parts(request.content)]
            return httpx.Response(200, json={"files": told})
        sha = request.url.path.rsplit("/", 1)[1]
        if request.method == "PUT" or sha in self.refuses:
            return httpx.Response(self._take(sha, request.content))
        return httpx.Response(200 if sha in self.has else 404)

    def _take(self, sha: str, data: bytes) -> int:
        if code := self.refuses.get(sha):
            return code
        assert hashlib.sha256(data).hexdigest() == sha
        self.order.append(sha)
        self.has.add(sha)
        self.seen["file"] += 1
        return 201


def parts(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of a group, as the hub takes it apart."""
    while body:
        end = 36 + int.from_bytes(body[32:36], "big")
        yield body[:32].hex(), body[36:end]
        body = body[end:]


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path, 10**9, queue_len=4096)
    yield made
    made.close()


@pytest.fixture
def start(hub: FakeHub, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Uploader]]:
    monkeypatch.setattr(road, "AWAY_S", 0.05)
    monkeypatch.setattr(road, "IDLE_S", 0.01)
    monkeypatch.setattr(road, "PARK_S", 0.05)
    started: list[Uploader] = []

    def begin(again_s: float = 10.0) -> Uploader:
        http = httpx.Client(base_url="http://hub", transport=httpx.MockTransport(hub.answer))
        outbox: Any = hub
        made = Uploader(spool, outbox, http, again_s=again_s)
        made.start()
        started.append(made)
        return made

    yield begin
    for one in started:
        one.close()


def put(spool: Spool, *names: str, rank: int = RANK_UNCERTAIN, files: bool = True, blob: bytes = b"") -> None:
    for name in names:
        data = (blob or name.encode() * 50,) if files else ()
        spool.offer(lambda name=name, data=data: Item(name, name, b"{}", rank, data), rank)  # type: ignore[misc]
    spool.flush()


def sha_of(name: str) -> str:
    return hashlib.sha256(name.encode() * 50).hexdigest()


def drained(spool: Spool, timeout_s: float = 5) -> None:
    wait_for(lambda: spool.counters.pending == 0, timeout_s, str(spool.counters))


def test_the_file_goes_before_its_record_and_the_halt_before_all(hub: FakeHub, spool: Spool, start: Any) -> None:
    put(spool, "a", "b")
    put(spool, "halt", rank=RANK_HALT)
    start()
    drained(spool)
    order = hub.order
    for name in ("a", "b", "halt"):
        assert order.index(sha_of(name)) < order.index(name)
    assert order.index("halt") < order.index("a")
    assert spool.counters.acknowledged == 3


def test_at_most_a_window_is_on_its_way(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.acks = False
    put(spool, *(f"{k:04d}" for k in range(3 * WINDOW)), files=False)
    start()
    wait_for(lambda: len(hub.order) == WINDOW, 5)
    time.sleep(0.2)
    assert len(hub.order) == WINDOW
    hub.acks = True
    hub.ack(*hub.order[:50])
    wait_for(lambda: len(hub.order) >= WINDOW + 50, 5)
    hub.ack(*hub.order)
    drained(spool)
    assert max(hub.seen.values()) == 1, "nothing goes twice while it is acknowledged in time"


def test_pictures_go_up_a_few_at_a_time_and_a_shared_one_once(hub: FakeHub, spool: Spool, start: Any) -> None:
    put(spool, *(f"own{k}" for k in range(20)))
    put(spool, "one", blob=b"shared")
    start()
    drained(spool)
    assert 2 <= hub.most_at_once <= road.UPLOADS
    put(spool, "two", "three", blob=b"shared")
    drained(spool)
    assert hub.seen["file"] == 21
    assert hub.seen["POST"] <= 3, "a request costs more than a file"


NO_GROUPS = {
    "a hub of before": httpx.Response(404, json={"detail": "Not Found"}),
    "another method": httpx.Response(405),
    "a proxy's limit": httpx.Response(413),
    "a bug met by one of them": httpx.Response(500),
    "no hub's words": httpx.Response(200, text="<html>welcome</html>"),
}


@pytest.mark.parametrize("answer", NO_GROUPS)
def test_where_groups_are_not_taken_files_go_one_by_one(hub: FakeHub, spool: Spool, start: Any, answer: str) -> None:
    hub.no_groups = NO_GROUPS[answer]
    put(spool, *(f"own{k}" for k in range(12)))
    start()
    drained(spool)
    asked = hub.seen["POST"]
    assert (hub.seen["PUT"], spool.counters.damaged) == (12, 0)
    assert asked == 1
    put(spool, "a", "b", "c")
    drained(spool)
    assert hub.seen["POST"] == asked, "and it is not asked each time"


INSTEAD = {
    "a login page": httpx.Response(200, html="<html>please sign in</html>"),
    "a way to one": httpx.Response(302, headers={"location": "https://login.example/"}),
}


@pytest.mark.parametrize("answer", INSTEAD)
def test_what_somebody_else_answers_in_the_hubs_place_is_no_yes(
    hub: FakeHub, spool: Spool, start: Any, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    """Taken for one, the pictures count as safe and go when room is needed."""
    hub.acks, hub.instead = False, INSTEAD[answer]
    put(spool, "a", "b", "c")
    start(again_s=0.1)
    wait_for(lambda: hub.seen["PUT"] + hub.seen["POST"] + hub.seen["HEAD"] >= 6, 5)
    assert (spool.to_send(), hub.order, spool.counters.damaged) == ([], [], 0)
    said = capsys.readouterr().out
    assert "hub is away" in said
    assert "as no hub does" in said or "it is at https://login.example/, check hub.url" in said
    hub.instead, hub.acks = None, True
    drained(spool)
    assert hub.seen["file"] == 3


def test_a_login_page_is_not_believed_to_have_what_the_hub_has_lost(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.acks = False
    put(spool, "a", "b")
    start(again_s=0.1)
    wait_for(lambda: hub.seen["a"] and hub.seen["b"], 5)
    hub.has.clear()
    hub.instead = INSTEAD["a login page"]
    before = hub.seen["HEAD"]
    wait_for(lambda: hub.seen["HEAD"] > before + 2, 5)
    assert spool.to_send() == []
    hub.instead, hub.acks = None, True
    drained(spool)
    assert hub.seen["file"] == 4


def test_a_proxy_that_knows_no_head_holds_up_no_file(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.refuses["0" * 64] = 405
    hub.acks = False
    put(spool, "a", "b")
    start(again_s=0.2)
    wait_for(lambda: hub.seen["a"] >= 2 and hub.seen["b"] >= 2, 5)
    assert (hub.seen["file"], spool.counters.damaged) == (4, 0)


def test_what_the_hub_does_not_say_of_a_file_is_not_taken_for_a_yes(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.no_groups = httpx.Response(200, json={"files": []})
    put(spool, "a", "b")
    start()
    wait_for(lambda: hub.seen["POST"] >= 2, 5)
    assert (spool.counters.pending, hub.order) == (2, [])
    hub.no_groups = None
    drained(spool)


@pytest.mark.parametrize("code", [401, 502, 507])
def test_a_hub_that_cannot_take_a_group_now_is_asked_again(hub: FakeHub, spool: Spool, start: Any, code: int) -> None:
    hub.no_groups = httpx.Response(code)
    put(spool, "a", "b")
    start()
    wait_for(lambda: hub.seen["POST"] >= 2, 5)
    assert (spool.counters.pending, spool.counters.damaged, hub.seen["PUT"]) == (2, 0, 0)
    hub.no_groups = None
    drained(spool)


def test_while_the_hub_is_away_halts_still_go_out(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.http_up = hub.acks = False
    put(spool, "picture")
    put(spool, "halt", rank=RANK_HALT, files=False)
    start()
    wait_for(lambda: hub.order == ["halt"], 5)
    time.sleep(0.2)
    assert hub.order == ["halt"], "a record whose picture the hub does not have would only be refused"
    hub.http_up = hub.acks = True
    hub.ack("halt")
    drained(spool)


def test_while_the_broker_is_away_pictures_go_up(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.connected = False
    put(spool, "a", "b", "c")
    start()
    wait_for(lambda: len(hub.has) == 3, 5)
    assert hub.order == hub.order[:3]
    hub.connected = True
    drained(spool)
    assert hub.seen["file"] == 3


def test_a_record_larger_than_the_broker_takes_holds_up_no_other(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.too_large = ("large",)
    put(spool, "large", "a", "b")
    start()
    wait_for(lambda: spool.counters.acknowledged == 2, 5, "the others")
    assert (hub.seen["large"], spool.counters.pending) == (0, 1)


def test_what_the_connection_does_not_take_is_not_on_its_way(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.takes = False
    put(spool, "a", files=False)
    start()
    time.sleep(0.2)
    assert spool.counters.pending == 1
    hub.takes = True
    drained(spool)


def test_a_broker_that_died_gets_everything_again_at_once(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.acks = False
    put(spool, "a", "b", files=False)
    start()
    wait_for(lambda: len(hub.order) == 2, 5)
    hub.connected = False
    time.sleep(0.1)
    hub.connected = hub.acks = True
    drained(spool)
    assert hub.order == ["a", "b", "a", "b"]


def test_without_an_acknowledgement_it_goes_again_after_asking_what_the_hub_has(
    hub: FakeHub, spool: Spool, start: Any
) -> None:
    hub.acks = False
    put(spool, "kept", "gone")
    put(spool, "halt", rank=RANK_HALT, files=False)
    start(again_s=0.3)
    wait_for(lambda: len(hub.order) == 5, 5)
    hub.has.discard(sha_of("gone"))  # a hub set up anew
    wait_for(lambda: all(hub.seen[name] == 2 for name in ("kept", "gone", "halt")), 5)
    assert hub.seen["file"] == 3, "only what the hub no longer has goes up again"
    asked = [hub.seen[f"HEAD /api/edge/frames/{sha_of(name)}"] for name in ("kept", "gone")]
    assert asked == [1, 1]
    # Once for all three, or once for the one without files, which is doubted by itself, and once for the others.
    assert hub.seen[f"HEAD {HERE}"] in (1, 2), "and whether it is the hub that answers"
    hub.acks = True
    hub.ack("kept", "gone", "halt")
    drained(spool)


def test_a_hub_that_never_answers_is_asked_more_and_more_rarely(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.acks = False
    put(spool, "a", files=False)
    start(again_s=0.1)
    time.sleep(1.6)
    assert 3 <= hub.seen["a"] <= 5, "at 0, 0.1, 0.5, 1.3 s: a broker's queue must not fill with repetitions"


def test_nothing_is_repeated_to_a_hub_that_is_away(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.acks = hub.http_up = False
    put(spool, "a", files=False)
    start(again_s=0.1)
    time.sleep(0.8)
    assert hub.seen["a"] == 1
    hub.http_up = hub.acks = True
    drained(spool)


@pytest.mark.parametrize("code", [413, 422])
def test_a_file_the_hub_refuses_holds_up_no_other(hub: FakeHub, spool: Spool, start: Any, code: int) -> None:
    hub.refuses[sha_of("bad")] = code
    put(spool, "bad", rank=RANK_HALT)
    put(spool, "good1", "good2")
    start()
    wait_for(lambda: spool.counters.acknowledged == 2, 5)
    wait_for(lambda: spool.counters.damaged == 1, 5)
    assert [p.uid for p in spool.to_upload()] == ["bad"], "it stays, and is tried again"
    hub.refuses.clear()
    drained(spool)


@pytest.mark.parametrize("code", [401, 500, 503, 507])
def test_a_hub_that_cannot_now_is_asked_again(hub: FakeHub, spool: Spool, start: Any, code: int) -> None:
    hub.refuses[sha_of("a")] = code
    put(spool, "a")
    start()
    time.sleep(0.2)
    assert (spool.counters.pending, spool.counters.damaged, hub.seen["a"]) == (1, 0, 0)
    hub.refuses.clear()
    drained(spool)


@pytest.mark.parametrize("code", [302, 403, 409, 500, 502, 503])
def test_a_file_the_hub_or_a_proxy_stumbles_over_holds_up_no_other(
    hub: FakeHub, spool: Spool, start: Any, code: int
) -> None:
    hub.stumbles[sha_of("bad")] = code
    put(spool, "bad", rank=RANK_HALT)
    put(spool, *(f"good{k}" for k in range(40)))
    start()
    wait_for(lambda: spool.counters.acknowledged == 40, 5, "the others")
    assert [p.uid for p in spool.to_upload()] == ["bad"], "it stays"
    assert spool.counters.damaged == 0, "and nobody said that it is broken"
    put(spool, *(f"later{k}" for k in range(40)))
    wait_for(lambda: spool.counters.acknowledged == 80, 5, "what came later")
    hub.stumbles.clear()
    drained(spool)


def test_as_many_such_files_as_fill_a_batch_hold_up_no_other(hub: FakeHub, spool: Spool, start: Any) -> None:
    bad = [f"bad{k}" for k in range(100)]
    hub.stumbles = {sha_of(name): 500 for name in bad}
    put(spool, *bad, rank=RANK_HALT)
    put(spool, "good1", "good2")
    start()
    wait_for(lambda: spool.counters.acknowledged == 2, 10, "the others")
    assert spool.counters.pending == 100


def test_a_file_that_is_not_taken_is_tried_more_and_more_rarely(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.stumbles[sha_of("bad")] = 500
    put(spool, "bad")
    start()
    time.sleep(1.6)
    assert 4 <= hub.seen["PUT"] <= 8, "at 0, 0.05, 0.1, 0.15, 0.25, 0.45, 0.85 s"


def test_what_went_up_before_the_connection_broke_does_not_go_again(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.no_groups = httpx.Response(404)
    put(spool, "a", "b", "c")
    hub.stumbles[sha_of("b")] = 0
    start()
    wait_for(lambda: hub.seen["PUT"] >= 3, 5)
    hub.stumbles.clear()
    drained(spool)
    assert hub.seen["file"] == 3


def test_a_file_refused_for_weeks_still_holds_up_no_other(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.refuses[sha_of("bad")] = 422
    put(spool, "bad", rank=RANK_HALT)
    start()._files._parked["bad"] = (0.0, 2000)
    put(spool, "good")
    wait_for(lambda: spool.counters.acknowledged == 1, 5)


@pytest.mark.parametrize("how", ["torn", "missing"])
def test_a_damaged_picture_is_never_sent(hub: FakeHub, spool: Spool, start: Any, how: str) -> None:
    put(spool, "bad", "good")
    ((_, path),) = spool.to_upload(1)[0].files
    path.write_bytes(path.read_bytes()[:-3]) if how == "torn" else path.unlink()
    start()
    wait_for(lambda: spool.counters.acknowledged == 1 and spool.counters.damaged == 1, 5)
    assert hub.has == {sha_of("good")}
    assert hub.seen["bad"] == 0
    assert spool.counters.pending == 1


def test_a_picture_that_made_room_because_the_hub_had_it_keeps_no_record_here(
    hub: FakeHub, spool: Spool, start: Any
) -> None:
    """Doubted while the hub was away, by a life that is over: that it was doubted nobody knows any more."""
    put(spool, "released", rank=RANK_HALT)
    hub.has.add(sha_of("released"))
    ((_, path),) = spool.to_upload()[0].files
    path.unlink()
    start()
    drained(spool)
    assert spool.counters.damaged == 0
    assert hub.order == ["released"]


def test_records_the_hub_never_takes_do_not_keep_it_from_the_others(hub: FakeHub, spool: Spool, start: Any) -> None:
    hub.never = never = tuple(f"never{k:03d}" for k in range(WINDOW + 20))
    put(spool, *never, rank=RANK_HALT, files=False)
    put(spool, "a", "b", files=False)
    start(again_s=0.2)
    wait_for(lambda: spool.counters.acknowledged == 2, 10, "the others")
    for k in range(30):
        put(spool, f"later{k}", files=False)
        time.sleep(0.05)
    wait_for(lambda: spool.counters.acknowledged == 32, 10, "what came later")
    assert spool.counters.pending == len(never)
    assert max(hub.seen[name] for name in never) <= 4, "at 0, 0.2, 1.0, 2.6 s: each waits longer each time"


def test_what_the_spool_cannot_forget_now_is_not_sent_again_at_once(
    hub: FakeHub, spool: Spool, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget = spool.acknowledge
    monkeypatch.setattr(spool, "acknowledge", lambda uids: None)
    put(spool, "a", files=False)
    start(again_s=0.4)
    time.sleep(0.3)
    assert hub.seen["a"] == 1
    monkeypatch.setattr(spool, "acknowledge", forget)
    drained(spool)
    assert hub.seen["a"] == 2


def test_an_error_nobody_thought_of_does_not_end_the_road(hub: FakeHub, spool: Spool, start: Any) -> None:
    publish, hub.publish = hub.publish, None  # type: ignore[assignment,method-assign]
    put(spool, "a", files=False)
    start(again_s=0.3)
    time.sleep(0.2)
    hub.publish = publish  # type: ignore[method-assign]
    drained(spool)


def test_a_hub_that_is_there_and_acknowledges_nothing_is_said_until_it_does(
    hub: FakeHub, spool: Spool, start: Callable[..., Uploader]
) -> None:
    """As where the broker's rules keep evt/ack from the edge: the spool filled up to its quota, and nobody was told."""
    hub.acks = False
    put(spool, "a", "b")
    uploader = start(again_s=0.05)
    wait_for(lambda: "acknowledges nothing" in uploader.unheard, what="that nothing is acknowledged")
    hub.ack("a")
    wait_for(lambda: uploader.unheard == "")


def test_a_hub_that_is_away_is_not_one_that_acknowledges_nothing(
    hub: FakeHub, spool: Spool, start: Callable[..., Uploader]
) -> None:
    hub.acks = False
    put(spool, "a")
    uploader = start(again_s=0.05)
    wait_for(lambda: hub.seen["a"])
    hub.http_up = False
    wait_for(lambda: uploader._files.away, what="that it is asked whether it is there")
    seen = uploader._records._since_s
    wait_for(lambda: uploader._records._since_s is None, what=f"a wait that begins anew, it began at {seen}")
    assert uploader.unheard == ""
