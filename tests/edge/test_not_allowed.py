"""A broker's access rules that leave something out: it was told to nobody, and the edge said that all was well."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.station import TOPICS, end, plc_on, run_line, start_edge, wait_for, write_station
from deploy import broker
from edge.config import MqttConfig
from edge.line.connection import Connection
from inspection.messages import HaltEvent, Message, Permit, Stop
from inspection.station_messages import About
from tests.conftest import free_port, missing

pytestmark = pytest.mark.broker
CONTROL = "$CONTROL/dynamic-security/v1"
CALM = "k: 2, n: 3, max_silence_ms: 2000, lease_ms: 2000"


class Rules:
    """A Mosquitto that anybody may use for everything but the denied. Its ACL file refuses what is sent, and takes
    every subscription, of which it then delivers nothing; its dynamic security refuses one, as other brokers do. With
    both the second decides alone."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._acl = folder / "acl"
        self._dynamic = folder / "dynamic.json"
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
        if broker.mosquitto_path() is None or self._plugin is None:
            missing("mosquitto with its dynamic security")
        self._more = ""
        shipped = broker.mosquitto_conf
        monkeypatch.setattr(broker, "mosquitto_conf", lambda port: shipped(port) + self._more)

    def start(self) -> int:
        port = free_port()
        self._child = broker.start_mosquitto(port, self._folder)
        return port

    def without_hearing(self, kind: type[Message]) -> int:
        """Its port, once it runs."""
        kinds = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")
        acls = [
            {"acltype": "subscribeLiteral", "topic": TOPICS.of(kind), "allow": False, "priority": 1},
            {"acltype": "publishClientSend", "topic": CONTROL, "allow": True},
        ]
        known = {
            "defaultACLAccess": dict.fromkeys(kinds, True),
            "anonymousGroup": "all",
            "groups": [{"groupname": "all", "roles": [{"rolename": "anybody"}]}],
            "roles": [{"rolename": "anybody", "acls": acls}],
            "clients": [],
        }
        self._dynamic.write_text(json.dumps(known))
        self._more = f"plugin {self._plugin}\nplugin_opt_config_file {self._dynamic}\n"
        return self.start()

    def without_sending(self, kind: type[Message]) -> int:
        self.let_send(all_but=[kind])
        self._more = f"acl_file {self._acl}\n"
        return self.start()

    def let_send(self, all_but: Sequence[type[Message]] = ()) -> None:
        denied = "".join(f"topic deny {TOPICS.of(kind)}\n" for kind in all_but)
        self._acl.write_text(f"topic readwrite #\n{denied}")
        if self._child:
            self._child.send_signal(signal.SIGHUP)

    def close(self) -> None:
        if self._child:
            self._child.kill()
            self._child.wait()


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
    port, page = rules.without_hearing(Stop), free_port()
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
