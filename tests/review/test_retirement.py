"""A station that is gone for good leaves every list of what is now, and comes back when it is heard, not before."""

from __future__ import annotations

import json
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from inspection.messages import Conn, Heartbeat, Permit, PlcState, Topics
from review import faults
from review.store import Halt, Station
from tests.review.factory import FakeEdge, HubProcess, until
from tests.review.floor import World

TOPICS = Topics("p", "l", "s1")
KEY = "p~l~s1"
PERMIT = Permit(boot=1, seq=1, run=1, code=0, halt=0, echo=0, age_ms=1, ts_ms=1)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path, monkeypatch)
    monkeypatch.setattr("review.routes.system.wall_ms", lambda: world.now)
    world.hub.mqtt.connected = True
    for n in (1, 2):
        world.hub.live.know(Topics("p", "l", f"s{n}"), Conn(state="BROKEN", boot=1))
    return world


def said(world: World, message: Conn | Permit | PlcState | Heartbeat, *, retained: bool) -> None:
    raw = mqtt.MQTTMessage(mid=1, topic=TOPICS.of(type(message)).encode())
    raw.payload, raw.retain = message.encode(), retained
    world.hub.mqtt._take(raw)


def look(world: World) -> None:
    world.now += 11_000
    world.upkeep._faults_due_ns = 0
    world.upkeep.look_at_faults(world.now * 1_000_000, world.now)


def retire(world: World, by: str = "chen") -> int:
    return int(getattr(world, by).post("/system/stations/retire", data={"station": KEY}).status_code)


def test_it_leaves_the_lists_of_now_and_its_past_stays(world: World) -> None:
    look(world)
    look(world)
    held, seen = world.halt(), world.halt("undercut", station=2)
    assert "Retire s1" in world.chen.get("/system").text
    assert "Retire s1" not in world.ana.get("/system").text
    assert retire(world, "ana") == 403
    assert retire(world) == 303
    for page in ("/", "/andon", "/system", "/models"):
        assert KEY not in world.chen.get(page).text, page
    assert world.chen.get(f"/stations/{KEY}").status_code == 404
    assert f'href="/halts/{held}"' in world.ana.get("/alarms").text
    look(world)
    with world.hub.store.reading() as session:
        states = {h.id: h.state for h in session.query(Halt)}
        assert states == {held: "CLEARED_UNACKED", seen: "ACTIVE_UNACKED"}
        found = [(f.station_id, f.state) for f in faults.open_faults(session)]
        assert found == [(1, "CLEARED_UNACKED"), (2, "ACTIVE_UNACKED")]
    assert world.acts("station_retired") == [("Chen (engineer)", "station 1")]
    assert retire(world) == 303, "twice is once, and says so"
    assert len(world.acts("station_retired")) == 1


def test_what_the_broker_remembers_does_not_bring_it_back_and_what_is_said_now_does(world: World) -> None:
    retire(world)
    for message in (Conn(state="BROKEN", boot=1), PERMIT, PlcState(state="READY", ts_ms=1)):
        said(world, message, retained=True)
    look(world)
    assert world.hub.live.get(KEY) is None
    with world.hub.store.reading() as session:
        assert session.get_one(Station, 1).retired_ms is not None
    said(world, PERMIT, retained=False)
    assert world.hub.live.get(KEY) is not None
    look(world)
    with world.hub.store.reading() as session:
        assert session.get_one(Station, 1).retired_ms is None
    assert world.acts("station_came_back") == [("hub", "station 1")]


@pytest.mark.parametrize("message", [PERMIT, Heartbeat(n=1)])
def test_while_somebody_there_is_heard_it_stays(world: World, message: Permit | Heartbeat) -> None:
    said(world, message, retained=False)
    answer = world.chen.post("/system/stations/retire", data={"station": KEY}, headers={"HX-Request": "true"})
    assert (answer.status_code, "is heard" in answer.text) == (409, True)
    assert world.hub.live.get(KEY) is not None
    assert f"Retire {TOPICS.station}" not in world.chen.get("/system").text


@pytest.mark.broker
def test_over_a_real_broker_and_a_restart_of_the_hub(hub: HubProcess, edge: FakeEdge) -> None:
    key = f"plant~line-a~{edge.topics.station}"
    edge.send(Conn(state="ONLINE", boot=edge.boot))
    chen = hub.signed_in("Chen (engineer)")
    until(lambda: key in chen.get("/").text)
    edge.send(Conn(state="OFFLINE", boot=edge.boot))
    edge.close()
    until(lambda: chen.post("/system/stations/retire", data={"station": key}).status_code == 200, 15)
    assert key not in chen.get("/").text
    hub.stop()
    hub.start()
    until(lambda: json.loads(chen.get("/healthz").text), 15)
    assert key not in hub.signed_in("Chen (engineer)").get("/").text
