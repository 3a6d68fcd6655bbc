"""Fault 23: who has no certificate, the wrong one, or no right to a topic, changes nothing at the line."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tls import EDGE, HUB, NEIGHBOUR, NOBODY, PLC, SHIPPED, TOPICS, Client, Plant, plant

from benchmarks.proxy import BadNetwork
from benchmarks.station import end, run_line, start_edge, wait_for, write_station
from deploy import broker
from edge.config import MqttConfig
from edge.line.connection import Connection
from edge.line.plc_sim import PlcSim
from inspection.messages import (
    PERMIT_SHORT_TOPIC,
    AckEvent,
    Conn,
    HaltEvent,
    Heartbeat,
    ModelDesired,
    Permit,
    Resume,
    Topics,
    Trigger,
)
from inspection.watchdog import WatchdogLimits
from tests.conftest import free_port, missing

pytestmark = pytest.mark.broker
FORGED_BOOT = 4_000_000
FORGED = Permit(boot=FORGED_BOOT, seq=1, run=1, code=0, halt=0, echo=0, age_ms=0, ts_ms=0)
CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "line-contract.md"
OK = ("Success", "No matching subscribers")


@dataclass(slots=True)
class Line:
    plant: Plant
    plc: PlcSim
    folder: Path
    status: int

    def facts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.status}/status.json", timeout=5) as answer:
            facts: dict[str, Any] = json.loads(answer.read())
        return facts

    def edge_log(self) -> str:
        return (self.folder / "edge.log").read_text(errors="replace")


@contextmanager
def running(folder: Path, pictures: list[float] | None = None) -> Iterator[Line]:
    """Broker with TLS and ACL, an edge and a plc-sim, each with its own certificate, and the line runs."""
    with plant(folder) as p:
        station = folder / "station"
        status = free_port()
        config = write_station(station, p.port, station="weld1", pictures=pictures, status=status)
        config.write_text(p.yaml(config.read_text(), EDGE))
        plc = PlcSim(p.config(PLC), TOPICS, WatchdogLimits())
        plc.start()
        edge = start_edge(config)
        try:
            run_line(plc, 30)
            yield Line(p, plc, station, status)
        finally:
            code = end(edge)
            plc.close()
        assert code == 0


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with running(tmp_path_factory.mktemp("plant")) as it:
        yield it


@contextmanager
def client(p: Plant, name: str | None, **more: Path) -> Iterator[Client]:
    it = Client(p, name, **more)
    assert it.connect(), it.trouble
    try:
        yield it
    finally:
        it.close()


def untouched(line: Line) -> None:
    """The line runs on, and no forged permit has reached the controller."""
    time.sleep(0.3)
    assert line.plc.view()["state"] == "RUNNING"
    newest = line.plc._dog.newest
    assert newest
    assert newest.boot != FORGED_BOOT


def test_a_halt_a_reset_and_a_start_over_tls(tmp_path: Path) -> None:
    with running(tmp_path, pictures=[0.0] * 60 + [6.0] * 5 + [0.0] * 1500) as line:
        wait_for(lambda: line.plc.view()["state"] == "TRIPPED", what="the halt")
        assert line.plc.view()["halt"] == 10_001
        assert line.plc.press_reset("kim")
        run_line(line.plc)
        assert line.plc.view()["halt"] == 0


@pytest.mark.parametrize("who", ["no certificate", "another CA", "no TLS"])
def test_strangers_are_not_let_in_and_the_broker_says_so(line: Line, who: str) -> None:
    before = len(line.plant.log.read_text())
    if who == "no TLS":
        with socket.create_connection(("127.0.0.1", line.plant.port), 2) as sock:
            sock.sendall(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x03abc")
            sock.settimeout(5)
            with suppress(ConnectionResetError):
                assert b"\x20" not in sock.recv(100), "a CONNACK without TLS"
    else:
        stranger = Client(line.plant, EDGE if who == "another CA" else None)
        stranger.tls = line.plant.tls.parent / "other" if who == "another CA" else None
        assert not stranger.connect()
    wait_for(lambda: "error" in line.plant.log.read_text()[before:].lower(), 5, "the broker's log")
    untouched(line)


FORGERIES = {
    "another edge's permit": (NEIGHBOUR, TOPICS.of(Permit), FORGED.encode()),
    "another edge's short permit": (NEIGHBOUR, TOPICS.of(PERMIT_SHORT_TOPIC), FORGED.short()),
    "another edge's conn": (NEIGHBOUR, TOPICS.of(Conn), Conn(state="OFFLINE", boot=1).encode()),
    "a known CA, an unknown name": (NOBODY, TOPICS.of(Permit), FORGED.encode()),
    "the PLC's own permit": (PLC, TOPICS.of(Permit), FORGED.encode()),
    "the PLC's acknowledgement": (PLC, TOPICS.of(AckEvent), AckEvent(uids=("0" * 32,)).encode()),
    "the PLC's bundle": (
        PLC,
        TOPICS.of(ModelDesired),
        ModelDesired(bundle="red-9.0.0", sha256="0" * 64, url="/x").encode(),
    ),
    "the hub's permit": (HUB, TOPICS.of(Permit), FORGED.encode()),
    "the hub's trigger": (HUB, TOPICS.of(Trigger), Trigger(part="x", inspection=1, deadline_ms=100).encode()),
    "the hub's heartbeat": (HUB, TOPICS.of(Heartbeat), Heartbeat(n=1).encode()),
    "the edge's own resume": (
        EDGE,
        TOPICS.of(Resume),
        Resume(halt=1, who="edge", nonce="12345678", boot=1, seq=1).encode(),
    ),
    "another edge's resume": (
        NEIGHBOUR,
        TOPICS.of(Resume),
        Resume(halt=1, who="edge", nonce="12345678", boot=1, seq=1).encode(),
    ),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_forged_messages_reach_nobody(line: Line, what: str) -> None:
    name, topic, payload = FORGERIES[what]
    with client(line.plant, HUB) as listener, client(line.plant, name) as forger:
        listener.subscribe("haltline/v1/#")
        assert "Not authorized" in forger.publish(topic, payload)
        assert "Not authorized" in forger.publish(topic, payload, retain=True)
        forger.post(topic, payload)
        untouched(line)
        assert (topic, payload) not in listener.heard
    with client(line.plant, HUB) as late:
        late.subscribe("haltline/v1/#")
        time.sleep(0.2)
        assert (topic, payload) not in late.heard, "nothing forged is kept either"


def test_what_each_may_do_it_can_do(line: Line) -> None:
    """The other half: an ACL that refuses everything would pass the tests above."""
    own = Topics("east", "line1", "weld2")
    halt = HaltEvent(halt=1, uid="0" * 32, code=1, reason="x", ts_ms=1)
    with client(line.plant, NEIGHBOUR) as edge, client(line.plant, PLC) as plc, client(line.plant, HUB) as hub:
        assert edge.publish(own.of(Permit), FORGED.encode()) in OK
        assert edge.publish(own.of(HaltEvent), halt.encode()) in OK
        assert plc.publish(TOPICS.of(Heartbeat), Heartbeat(n=1).encode()) in OK
        resume = Resume(halt=1, who="kim", nonce=secrets.token_hex(8), boot=1, seq=1)
        assert plc.publish(TOPICS.of(Resume), resume.encode()) in OK
        assert hub.publish(TOPICS.of(Resume), resume.encode()) in OK
        assert hub.publish(TOPICS.of(AckEvent), AckEvent(uids=("0" * 32,)).encode()) in OK


WRITERS = {"edge": EDGE, "PLC": PLC, "hub": HUB}


def contract() -> dict[str, tuple[set[str], set[str]]]:
    """Topic -> who writes it and who hears it, as the page of the contract has it."""
    rows = re.findall(r"^\| `([a-z_/]+)` \| (.+?) → (.+?) \|", CONTRACT.read_text(), re.MULTILINE)
    split = [(topic, re.split(" or ", by), re.split(", ", to.partition(";")[0])) for topic, by, to in rows]
    return {t: (set(by), {"edge", "PLC", "hub"} if to == ["all"] else set(to)) for t, by, to in split}


def test_the_shipped_rules_let_each_do_what_the_contract_says_and_write_nothing_else(tmp_path: Path) -> None:
    """A subscription that Mosquitto takes says nothing: each topic is written by all three, and must arrive or not."""
    known = contract()
    assert len(known) > 20
    with plant(tmp_path) as p, client(p, EDGE) as edge, client(p, PLC) as plc, client(p, HUB) as hub:
        of = {"edge": edge, "PLC": plc, "hub": hub}
        for path in known:
            for one in of.values():
                one.subscribe(TOPICS.of(path))
        for path, (writers, readers) in known.items():
            topic = TOPICS.of(path)
            for name, one in of.items():
                allowed = "Not authorized" not in one.publish(topic, f"{path} {name}".encode())
                assert allowed == (name in writers), f"{name} writes {path}"
            for name in readers:
                wanted = {(topic, f"{path} {writer}".encode()) for writer in writers}
                wait_for(partial(wanted.issubset, of[name].heard), 5, f"{path} at the {name}")


def test_nobody_reads_another_stations_commands(line: Line) -> None:
    with client(line.plant, NEIGHBOUR) as edge, client(line.plant, PLC) as plc, client(line.plant, HUB) as hub:
        answers = [edge.subscribe(TOPICS.of(Resume)), edge.subscribe("haltline/v1/#"), plc.subscribe("#")]
        hub.publish(TOPICS.of(Resume), Resume(halt=1, who="x", nonce="12345678", boot=1, seq=1).encode())
        time.sleep(0.3)
        assert [topic for topic, _ in edge.heard if "weld1" in topic] == [], answers
        assert {topic.split("/", 5)[5].split("/")[0] for topic, _ in plc.heard} <= {"state", "evt"}


def malformed(count: int) -> list[bytes]:
    good = Resume(halt=1, who="kim", nonce="12345678", boot=1, seq=1).encode()
    made = [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"v":1}', b"[" * 5000, b'{"n":' + b"9" * 4000 + b"}"]
    made += [good[:k] for k in range(1, len(good))]
    made += [bytes((k + 31 * j) % 256 for j in range(40)) for k in range(count)]
    return made[:count]


def test_a_thousand_malformed_payloads_are_refused_each_logged_and_the_line_runs_on(line: Line) -> None:
    before = line.edge_log().count("message refused")
    refused = line.facts()["mqtt_refused"]
    trips = len(line.plc.transitions)
    with client(line.plant, PLC) as plc:
        for k, payload in enumerate(malformed(1000)):
            plc.publish(TOPICS.of(Resume if k % 2 else Heartbeat), payload)
    wait_for(lambda: line.edge_log().count("message refused") - before >= 1000, 15, "1,000 lines in the edge's log")
    assert line.edge_log().count("message refused") - before == 1000
    assert line.facts()["mqtt_refused"] - refused == 1000
    assert line.facts()["mqtt_handler_errors"] == 0
    untouched(line)
    assert len(line.plc.transitions) == trips, "the line has not so much as blinked"


def test_garbage_on_the_wire_ends_its_own_connection_only(line: Line) -> None:
    trips = len(line.plc.transitions)
    context = ssl.create_default_context(cafile=str(line.plant.tls / "ca.crt"))
    context.load_cert_chain(line.plant.tls / f"{NOBODY}.crt", line.plant.tls / f"{NOBODY}.key")
    for k in range(60):
        with socket.create_connection(("127.0.0.1", line.plant.port), 2) as raw, suppress(OSError):
            if k % 2:
                raw.sendall(secrets.token_bytes(300))
            else:
                with context.wrap_socket(raw, server_hostname="localhost") as sock:
                    sock.sendall(bytes([0x10 + (k % 16) * 16]) + secrets.token_bytes(300))
    assert line.plant.broker.poll() is None
    untouched(line)
    assert len(line.plc.transitions) == trips


def test_plc_sim_takes_certificates_on_its_command_line(line: Line, tmp_path: Path) -> None:
    line.plc.close()  # two controllers of one station would take turns in the permit's echo
    tls = line.plant.tls
    where = ["--site", "east", "--line", "line1", "--station", "weld1", "--mqtt-host", "localhost"]
    cert = ["--ca", str(tls / "ca.crt"), "--cert", str(tls / f"{PLC}.crt"), "--key", str(tls / f"{PLC}.key")]
    port = ["--mqtt-port", str(line.plant.port), "--panel-port", "0"]
    log = tmp_path / "plc.log"
    with log.open("wb") as out:
        args = [sys.executable, "-m", "haltline", "plc-sim", *where, *cert, *port]
        child = subprocess.Popen(args, stdout=out, stderr=out, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        wait_for(lambda: "READY" in log.read_text(), 20, "a good permit over TLS")
    finally:
        assert end(child) == 0


def test_a_plants_broker_differs_from_the_demos_by_its_doors_only() -> None:
    common = "# Without this on BOTH ends"
    demo = (SHIPPED / "haltline.conf").read_text()
    plants = (SHIPPED / "plant.conf").read_text()
    assert demo[demo.index(common) :] in plants
    assert "allow_anonymous true" not in plants


def test_a_ping_waits_for_a_packet_that_tls_has_begun(line: Line) -> None:
    """Of a record that did not fit into the socket OpenSSL takes nothing but the same bytes again: a ping in front of
    them would end a connection that works, whenever a slow link has a backlog."""
    link = BadNetwork(line.plant.port, bytes_per_s=2e6)
    config = line.plant.config(HUB).model_copy(update={"port": link.port})
    connection = Connection(config, "ping", keepalive_s=1)
    ended: list[str] = []
    connection.start()
    try:
        wait_for(lambda: connection.connected, what="a connection over TLS")
        client = connection._client
        client.on_disconnect = lambda *args: ended.append(str(args[3]))
        began_s = time.monotonic()
        for _ in range(40):
            assert connection.publish(TOPICS.of("live/cam1"), bytes(200_000))
        wait_for(lambda: ended or not client._out_packet, 60, what="all of it on its way")
        assert ended == []
        assert time.monotonic() - began_s > 1.5, "too fast for a ping in between, which is due after 1 s"
    finally:
        connection.stop()
        link.close()


@pytest.mark.parametrize(("option", "value"), [("--protocol", "4"), ("--mqtt-port", "0")])
def test_a_bad_option_of_the_simulated_controller_is_named(option: str, value: str) -> None:
    args = [sys.executable, "-m", "haltline", "plc-sim", option, value]
    ended = subprocess.run(args, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"{option}: ")
    assert "Traceback" not in ended.stderr


def test_a_certificate_that_was_replaced_is_shown_without_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old one expires while the edge runs, and the broker takes no old one: the line stood until a restart."""
    with plant(tmp_path) as there:
        used = tmp_path / "used"
        shutil.copytree(tmp_path / "other", used)
        shutil.copy(there.tls / "ca.crt", used / "ca.crt")
        paths = {"ca": used / "ca.crt", "cert": used / f"{EDGE}.crt", "key": used / f"{EDGE}.key"}
        config = MqttConfig.model_validate({"host": "localhost", "port": there.port, "tls": paths})
        connection = Connection(config, "edge")
        connection.start()
        try:
            wait_for(lambda: there.log.read_text(errors="replace").count("rror") >= 2, 15, "the broker's refusal")
            assert not connection.connected
            shutil.copy(there.tls / f"{EDGE}.crt", used)  # half replaced: it does not open with the old key
            wait_for(lambda: "what was read before" in capsys.readouterr().out, 15)
            assert not connection.connected
            shutil.copy(there.tls / f"{EDGE}.key", used)
            wait_for(lambda: connection.connected, 15)
        finally:
            connection.stop()


def test_a_password_that_was_replaced_is_given_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broker.mosquitto_path() is None or shutil.which("mosquitto_passwd") is None:
        missing("mosquitto")
    people, word = tmp_path / "people", tmp_path / "word"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(people), "edge", "new"], check=True)
    word.write_text("old")
    shipped = broker.mosquitto_conf
    own = f"allow_anonymous false\npassword_file {people}"
    monkeypatch.setattr(broker, "mosquitto_conf", lambda port: shipped(port).replace("allow_anonymous true", own))
    port = free_port()
    mosquitto = broker.start_mosquitto(port, tmp_path)
    connection = Connection(MqttConfig(port=port, username="edge", password_file=word), "edge")
    connection.start()
    try:
        time.sleep(1)  # the old word has been tried
        assert not connection.connected
        word.write_text("new")
        wait_for(lambda: connection.connected, 15)
    finally:
        connection.stop()
        mosquitto.kill()
        mosquitto.wait()
