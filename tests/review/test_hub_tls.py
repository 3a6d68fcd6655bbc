"""The hub at a broker as on a plant's network: its certificate changes while it runs."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inspection.messages import AckEvent
from review.hub import Hub
from review.settings import MqttSettings, Settings
from review.system import failing
from tests.conftest import free_port
from tests.edge.rules import Rules
from tests.edge.tls import EDGE, HUB, PLC, TOPICS, Client, Plant, plant
from tests.review.factory import until

pytestmark = pytest.mark.broker


@contextmanager
def running(folder: Path, mqtt: MqttSettings) -> Iterator[Hub]:
    hub = Hub.build(Settings(data_dir=folder / "hub", mqtt=mqtt))
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


def settings_as(there: Plant, who: str) -> MqttSettings:
    """The hub's, with the certificate of `who`."""
    tls = there.config(who).tls
    assert tls
    return MqttSettings(host="localhost", port=there.port, ca_file=tls.ca, cert_file=tls.cert, key_file=tls.key)


def test_a_certificate_that_was_replaced_is_shown_without_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old one expires while the hub runs, and the broker takes no old one: no station was heard until a restart."""
    with plant(tmp_path) as there:
        used = tmp_path / "used"
        used.mkdir()
        shutil.copy(there.tls / "ca.crt", used)
        for end in ("crt", "key"):
            shutil.copy(tmp_path / "other" / f"{EDGE}.{end}", used / f"hub.{end}")
        mqtt = MqttSettings(
            host="localhost", port=there.port,
            ca_file=used / "ca.crt", cert_file=used / "hub.crt", key_file=used / "hub.key",
        )  # fmt: skip
        with running(tmp_path, mqtt) as hub:
            until(lambda: there.log.read_text(errors="replace").count("rror") >= 2, 15, "the broker's refusal")
            assert not hub.connected()
            shutil.copy(there.tls / f"{HUB}.crt", used)  # half replaced: it does not open with the old key
            until(lambda: "what was read before" in capsys.readouterr().out, 15)
            assert not hub.connected()
            shutil.copy(there.tls / f"{HUB}.key", used)
            until(hub.connected, 15)


def test_only_the_thread_that_reads_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside it an SSL object's records were torn: "bad record mac" at the broker, every few seconds of a busy hub."""
    with plant(tmp_path) as there, running(tmp_path, settings_as(there, HUB)) as hub:
        until(hub.connected, 15)
        wrote: list[str] = []
        client = hub.mqtt._client
        send = client._sock_send

        def noted(data: bytes | bytearray) -> int:
            wrote.append(threading.current_thread().name)
            return send(data)

        monkeypatch.setattr(client, "_sock_send", noted)
        for _ in range(20):
            assert hub.publish(TOPICS, AckEvent(uids=("0" * 32,)))
        until(lambda: len(wrote) >= 20, 10)
        assert set(wrote) == {"mqtt-in"}


def test_why_the_broker_is_not_reached_is_said(tmp_path: Path) -> None:
    """A port nobody listens on, and a broker whose certificate another authority signed, looked the same: silence."""
    with running(tmp_path, MqttSettings(port=free_port())) as hub:
        until(lambda: "Connection refused" in failing(hub).get("broker", ""), 10)
    with plant(tmp_path) as there:
        ca = tmp_path / "other" / "ca.crt"
        with running(tmp_path, MqttSettings(host="localhost", port=there.port, ca_file=ca)) as hub:
            until(lambda: "certificate verify failed" in failing(hub).get("broker", ""), 10)


def test_a_broker_that_delivers_nothing_is_said_until_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ACL file left out what the hub reads: it took every subscription; the hub was "ok" with an empty plant."""
    monkeypatch.setattr("review.mqtt_in.ECHO_S", 0.2)
    with plant(tmp_path) as there:
        first = Client(there, HUB)
        assert first.connect(), "a broker that is up takes a signal"
        first.close()
        rules = tmp_path / "haltline.acl"
        shipped = rules.read_text()
        rules.write_text(shipped.replace("topic read haltline/v1/#", "topic read haltline/v2/#"))
        there.broker.send_signal(signal.SIGHUP)
        with running(tmp_path, settings_as(there, HUB)) as hub:
            until(lambda: "delivers nothing" in failing(hub).get("broker", ""), 10)
            assert hub.connected()
            assert not hub.hears()
            rules.write_text(shipped)
            there.broker.send_signal(signal.SIGHUP)
            until(hub.hears, 10)
            assert "broker" not in failing(hub)
            assert hub.live.stations() == [], "what the hub says to itself is no station"


def test_a_hub_that_may_send_nothing_to_itself_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("review.mqtt_in.ECHO_S", 0.05)
    with plant(tmp_path) as there, running(tmp_path, settings_as(there, PLC)) as hub:
        answers: list[str] = []
        told = hub.mqtt._client.on_publish
        assert told

        def answered(*args: Any) -> None:
            told(*args)
            answers.append(str(args[3]))

        hub.mqtt._client.on_publish = answered
        until(lambda: answers == ["Not authorized"], 10)
        assert hub.mqtt._echo != -1
        assert hub.hears()


def test_a_broker_that_refuses_a_subscription_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules(tmp_path, monkeypatch)
    try:
        with running(tmp_path, MqttSettings(port=rules.without_hearing("haltline/v1/+/+/+/evt/#"))) as hub:
            until(lambda: "does not let the hub hear haltline/v1/+/+/+/evt/#" in failing(hub).get("broker", ""), 10)
            assert not hub.hears()
    finally:
        rules.close()
