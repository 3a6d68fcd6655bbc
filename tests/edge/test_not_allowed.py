"""A broker's access rules that leave something out: it was told to nobody, and the edge said that all was well."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.station import TOPICS, end, plc_on, run_line, start_edge, wait_for, write_station
from edge.config import HubConfig, MqttConfig
from edge.config_file import load
from edge.doctor import HEARS, examine
from edge.line.connection import Connection
from edge.line.mqtt import MqttLine
from edge.line.outbox import Outbox
from edge.wiring import build
from inspection.messages import Conn, HaltEvent, Heartbeat, Message, Permit, Stop
from inspection.station_messages import About
from tests.conftest import free_port
from tests.edge.rules import CONTROL, Rules

pytestmark = pytest.mark.broker
CALM = "k: 2, n: 3, max_silence_ms: 2000, lease_ms: 2000"


def let_hear(told: Connection, kind: type[Message]) -> None:
    topic = TOPICS.of(kind)
    change = {"command": "removeRoleACL", "rolename": "anybody", "acltype": "subscribeLiteral", "topic": topic}
    assert told.publish(CONTROL, json.dumps({"commands": [change]}).encode(), qos=1)


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rules]:
    made = Rules(tmp_path, monkeypatch)
    yield made
    made.close()


def status(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=5) as answer:
        known: dict[str, Any] = json.load(answer)
    return known


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_edge_that_may_not_hear_a_stop_gives_no_permit_until_it_may(
    rules: Rules, tmp_path: Path, protocol: str
) -> None:
    port, page = rules.without_hearing(TOPICS.of(Stop)), free_port()
    config = write_station(tmp_path, port, policy=CALM, protocol=protocol, status=page)
    told: list[About] = []
    hub = Connection(MqttConfig(port=port), "hub")
    hub.on(TOPICS.of(About), 1, lambda r: told.append(About.decode(r.payload)))
    hub.start()
    with plc_on(port) as plc:
        edge = start_edge(config)
        try:
            wait_for(lambda: plc.view()["code"] == 6, 30, "a permit that says that something is wrong")
            assert not plc.press_start()
            wait_for(lambda: "edge started" in (tmp_path / "edge.log").read_text(), what="its status page")
            known = status(page)
            assert f"hear {TOPICS.of(Stop)}" in known["why"]
            assert list(known["mqtt_not_allowed"]) == [f"hear {TOPICS.of(Stop)}"]
            wait_for(lambda: told and "cmd/stop" in told[-1].facts["broker"]["refuses"], 5, "word of it to the hub")
            assert (tmp_path / "edge.log").read_text().count("haltline.acl") == 1, "said once, with the fix"
            let_hear(hub, Stop)
            run_line(plc, 30)  # by itself
            assert status(page)["mqtt_not_allowed"] == {}
        finally:
            end(edge)
            hub.stop()


def test_an_edge_whose_permit_the_broker_drops_does_not_say_that_its_line_may_run(rules: Rules, tmp_path: Path) -> None:
    """On MQTT 5, where a broker tells. The PLC is tripped by the silence, as ever."""
    page = free_port()
    config = write_station(tmp_path, rules.without_sending(Permit), policy=CALM, status=page)
    edge = start_edge(config)
    try:
        said = ("does not let", "edge started")
        wait_for(lambda: all(each in (tmp_path / "edge.log").read_text() for each in said), 30, "a line in the log")
        wait_for(lambda: f"send {TOPICS.of(Permit)}" in status(page)["why"], 10)
        assert not status(page)["run"]
        rules.let_send()
        wait_for(lambda: status(page)["run"], 10, "the permit again")
    finally:
        end(edge)


def test_what_else_is_refused_is_said_and_stops_no_line(rules: Rules, tmp_path: Path) -> None:
    port, page = rules.without_sending(HaltEvent), free_port()
    config = write_station(tmp_path, port, pictures=[0.0] * 60 + [6.0] * 5 + [0.0] * 1500, policy=CALM, status=page)
    with plc_on(port) as plc:
        edge = start_edge(config)
        try:
            run_line(plc, 30)
            wait_for(lambda: plc.view()["halt"], what="the halt")
            expected = {f"send {TOPICS.of(HaltEvent)}"}
            wait_for(lambda: set(status(page)["mqtt_not_allowed"]) == expected, 5, "the refused PUBACK")
        finally:
            end(edge)


# ── rules that take a subscription and deliver nothing ──────────────────────────────────────────────────────────


def test_an_edge_whose_own_word_does_not_come_back_says_so_until_it_does(
    rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that an ACL file of Mosquitto keeps from an edge this is what the edge can know by itself."""
    monkeypatch.setattr("edge.line.mqtt.ECHO_NS", 200_000_000)
    config = MqttConfig(port=rules.writing_only())
    found: list[object] = []
    outbox = Outbox(config, TOPICS)
    line = MqttLine(config, TOPICS, 1, outbox, found.append)
    outbox.start()
    line.start()
    try:
        expected = {f"hear {TOPICS.of(Conn)}": "subscribed, and nothing comes"}
        wait_for(lambda: line.unheard == expected, what="that nothing comes")
        rules.let_read(Conn)
        wait_for(lambda: not line.unheard, what="that it comes again")
        assert line.connection.heard == {TOPICS.of(Conn)}
        assert found == [], "no reason to stop a line"
    finally:
        line.close()
        outbox.close()


def test_an_edge_that_is_not_let_in_says_so(rules: Rules) -> None:
    connection = Connection(MqttConfig(port=rules.with_password(), username="edge"), "edge")
    connection.start()
    try:
        wait_for(lambda: connection.away == "Not authorized", what="the broker's answer")
    finally:
        connection.stop()


def examined(folder: Path, port: int) -> dict[str, Any]:
    return examine(load(write_station(folder, port)))


def test_the_doctor_signs_in_as_the_edge_does(rules: Rules, tmp_path: Path) -> None:
    """A wrong password was "answers", and "ok"."""
    port = rules.with_password()
    facts = examined(tmp_path, port)
    assert facts["problems"] == [f"broker 127.0.0.1:{port}: does not let this edge in: Not authorized"]
    assert facts["rights"] == {"let_in": "no"}


def test_the_doctor_says_what_the_broker_refuses_the_edge_to_hear(rules: Rules, tmp_path: Path) -> None:
    port = rules.without_hearing(TOPICS.of(Stop))
    (problem,) = examined(tmp_path, port)["problems"]
    assert problem.startswith(f"broker 127.0.0.1:{port}: does not let this edge hear {TOPICS.of(Stop)}: ")


def test_the_doctor_says_what_it_heard_and_what_only_people_can_prove(rules: Rules, tmp_path: Path) -> None:
    port = rules.writing_only(Heartbeat)
    with plc_on(port):
        facts = examined(tmp_path, port)
    assert facts["ok"], facts["problems"]
    assert (facts["rights"]["let_in"], facts["rights"]["heard"]) == ("yes", "plc/hb")
    assert facts["rights"]["not_proven"].startswith("cmd/stop, cmd/resume, cmd/trigger, state/conn, ")
    assert "Stop line and Test camera at the hub" in facts["rights"]["not_proven"]


def test_the_doctor_asks_for_all_that_a_running_edge_subscribes_to(own_mosquitto: int, tmp_path: Path) -> None:
    hub = HubConfig(url="http://127.0.0.1:9")
    edge = build(load(write_station(tmp_path, own_mosquitto)).model_copy(update={"hub": hub}))
    try:
        heard = [*edge.line.connection._subscriptions, *edge.outbox.connection._subscriptions]
        assert {topic for topic, _, _ in heard} == {TOPICS.of(kind) for kind in HEARS}
    finally:
        edge.close()
