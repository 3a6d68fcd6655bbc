"""A stop that is asked for at a page: by anybody, at once, on record, and answered with the truth."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from inspection.messages import PlcState, Topics
from review import alarms, audit
from review.store import Store
from tests.review.doors import World
from tests.review.factory import FakeEdge, HubProcess, until, wall_ms

pytestmark = pytest.mark.broker


def path_of(edge: FakeEdge) -> str:
    return f"/stations/plant~line-a~{edge.topics.station}/stop"


def seen(hub: HubProcess, edge: FakeEdge) -> None:
    """The hub has this edge's permit."""
    page = f"{hub.url}/stations/plant~line-a~{edge.topics.station}"
    until(lambda: "Running" in httpx.get(page, timeout=10).text, what="the station on its page")


def told(hub: HubProcess, what: str, station: str) -> list[dict[str, Any]]:
    """The audit log's rows about this, and that the chain holds."""
    store = Store(f"sqlite:///{hub.data / 'hub.db'}")
    try:
        assert audit.stored_problems(store, hub.data)[1] == []
        rows = [link for link in audit.links(store) if link.what == what and link.subject.endswith(station)]
    finally:
        store.close()
    return [{"who": row.who, **json.loads(row.detail)} for row in rows]


def halts_of(hub: HubProcess, edge: FakeEdge) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{hub.url}/api/halts", timeout=10).json()
    return [halt for halt in found if halt["station"].endswith(f"~{edge.topics.station}")]


def test_nobody_has_to_be_signed_in(hub: HubProcess, edge: FakeEdge) -> None:
    seen(hub, edge)
    # A session that has expired is nobody's, and no reason to ask who that is first.
    answer = httpx.post(hub.url + path_of(edge), cookies={"haltline": "long.expired"}, timeout=10)
    assert answer.status_code == 200
    assert "STOP CONFIRMED" in answer.text
    assert "<html" in answer.text, "without a script it is a page of its own"
    (asked,) = edge.stops
    assert asked.who == ""
    (row,) = until(lambda: told(hub, "stop_requested", edge.topics.station))
    assert (row["who"], row["confirmed"], row["halt"]) == ("somebody not signed in", True, edge.halt_id)
    assert row["host"] == "127.0.0.1"
    assert row["nonce"] == asked.nonce


def test_who_is_signed_in_is_named_and_the_halt_has_no_verdict(hub: HubProcess, edge: FakeEdge) -> None:
    seen(hub, edge)
    with closing(hub.signed_in()) as ana:
        answer = ana.post(path_of(edge))
        assert "STOP CONFIRMED" in answer.text
        assert "<html" not in answer.text
        assert edge.stops[0].who == "Ana (operator)"
        halt = until(lambda: halts_of(hub, edge))[0]["id"]
        page = until(lambda: (t := ana.get(f"/halts/{halt}").text) and "asked for a stop" in t and t)
        assert "stop requested by Ana (operator)" in page
        assert "Real defect" not in page
        refused = ana.post(f"/halts/{halt}/verdict", data={"verdict": "real", "saw": ""})
        assert refused.status_code == 409
        assert "there is nothing to judge" in refused.text
        # acknowledged, then reset by the ordinary handshake, with no verdict in between
        assert "acknowledge and judge first" in ana.post(f"/halts/{halt}/reset").text
        assert ana.post(f"/halts/{halt}/ack").status_code == 200
        assert ana.post(f"/halts/{halt}/reset").status_code == 200
        until(lambda: edge.run == 1, what="the permit")
        until(lambda: "Closed" in ana.get(f"/halts/{halt}").text, what="a closed alarm")
        german = ana.get(f"/halts/{halt}", headers={"accept-language": "de"}).text
        assert "Stopp angefordert: Ana (operator)" in german
    (row,) = until(lambda: told(hub, "stop_requested", edge.topics.station))
    assert row["who"] == "Ana (operator)"


def test_an_edge_that_does_not_answer_is_not_confirmed(hub: HubProcess, edge: FakeEdge) -> None:
    """It still gives its permit, as an edge of before would, which does not know the message."""
    edge.deaf = True
    seen(hub, edge)
    began = time.monotonic()
    answer = httpx.post(hub.url + path_of(edge), headers={"HX-Request": "true"}, timeout=10)
    assert time.monotonic() - began < 4
    assert answer.status_code == 409
    assert "STOP NOT CONFIRMED" in answer.text
    assert "Use the machine&#39;s own stop button now." in answer.text.replace("'", "&#39;")
    assert "the edge still gives its permit" in answer.text
    assert len({asked.nonce for asked in edge.stops}) == 1
    assert len(edge.stops) > 1, "it is repeated, as one request"
    (row,) = until(lambda: told(hub, "stop_requested", edge.topics.station))
    assert not row["confirmed"]


def test_another_sites_page_stops_nothing(hub: HubProcess, edge: FakeEdge) -> None:
    seen(hub, edge)
    answer = httpx.post(hub.url + path_of(edge), headers={"Origin": "https://evil.example"}, timeout=10)
    assert answer.status_code == 403
    assert edge.stops == []


def test_a_database_that_hangs_costs_the_name_and_not_the_stop(tmp_path: Path) -> None:
    """Every connection is taken, so nobody can say whose sign-in it is; nor is there a broker here."""
    world = World(tmp_path)
    topics = Topics("p", "l", "s")
    world.hub.live.plc(topics, PlcState(state="RUNNING", ts_ms=wall_ms()))
    client = world.client("Ada")
    held = [world.hub.store._reader.connect() for _ in range(16)]
    began = time.monotonic()
    answer = client.post("/stations/p~l~s/stop")
    took_s = time.monotonic() - began
    for connection in held:
        connection.close()
    assert answer.status_code == 409
    assert "the hub has lost the broker" in answer.text
    assert "If the request still arrives" not in answer.text, "nothing was sent"
    assert took_s < 2, "waiting for a connection takes 5 s"


def test_a_station_nobody_knows_is_told_so(hub: HubProcess) -> None:
    answer = httpx.post(f"{hub.url}/stations/no~such~one/stop", timeout=10)
    assert answer.status_code == 404
    assert "own stop button" in answer.text


def test_a_requested_stop_closes_without_a_verdict() -> None:
    """Pure: the same table, counted as judged from the start."""
    assert alarms.is_judged(7, None)
    assert not alarms.is_judged(1, None)
    asked = alarms.step(alarms.State.CLEARED_UNACKED, alarms.Cause.ACK, judged=alarms.is_judged(7, None))
    assert asked is alarms.State.CLOSED
