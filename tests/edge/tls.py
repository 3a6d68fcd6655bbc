"""A broker as on a plant's network: the shipped plant.conf and ACL, with certificates made for the test."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.station import wait_for
from deploy.broker import mosquitto_path, wait_for_port
from deploy.certificates import make
from edge.config import MqttConfig
from inspection.messages import Topics
from tests.conftest import free_port, missing

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "mosquitto"
TOPICS = Topics("east", "line1", "weld1")
EDGE, PLC, HUB = "edge-east-line1-weld1", "plc-east-line1-weld1", "hub"
NEIGHBOUR, NOBODY = "edge-east-line1-weld2", "edge-east-line1-nobody"


@dataclass(slots=True)
class Plant:
    port: int
    tls: Path
    log: Path
    broker: subprocess.Popen[bytes]

    def config(self, name: str) -> MqttConfig:
        tls = {"ca": self.tls / "ca.crt", "cert": self.tls / f"{name}.crt", "key": self.tls / f"{name}.key"}
        return MqttConfig.model_validate({"host": "localhost", "port": self.port, "tls": tls})

    def yaml(self, text: str, name: str) -> str:
        """A station's `edge.yaml` for this broker and the shipped ACL's station."""
        c = self.config(name).tls
        assert c
        mqtt_line = f"mqtt: {{host: localhost, port: {self.port}, tls: {{ca: {c.ca}, cert: {c.cert}, key: {c.key}}}}}"
        lines = [mqtt_line if line.startswith("mqtt:") else line for line in text.splitlines()]
        return "\n".join(lines).replace("site: test", "site: east")


@contextmanager
def plant(folder: Path) -> Iterator[Plant]:
    binary = mosquitto_path()
    if binary is None:
        missing("mosquitto")
    port, tls = free_port(), folder / "tls"
    make(tls, [EDGE, PLC, HUB, NEIGHBOUR, NOBODY], ["localhost", "127.0.0.1"])
    make(folder / "other", [EDGE], ["localhost"])
    acl = (SHIPPED / "haltline.acl").read_text()
    block = acl[acl.index(f"user {EDGE}") : acl.index(f"user {PLC}")]
    (folder / "haltline.acl").write_text(f"{acl}\n{block.replace('weld1', 'weld2')}")
    (folder / "haltline.acl").chmod(0o600)
    conf = (SHIPPED / "plant.conf").read_text()
    for shipped, here in (
        ("listener 8883", f"listener {port} 127.0.0.1"),
        ("/etc/haltline/tls", str(tls)),
        ("/etc/haltline/mosquitto/haltline.acl", str(folder / "haltline.acl")),
    ):
        assert shipped in conf, shipped
        conf = conf.replace(shipped, here)
    (folder / "plant.conf").write_text(conf + "\nuser root\n")
    log = folder / "broker.log"
    with log.open("wb") as out:
        broker = subprocess.Popen([str(binary), "-c", str(folder / "plant.conf")], stdout=out, stderr=out)
    try:
        wait_for_port(port, broker)
        yield Plant(port, tls, log, broker)
    finally:
        broker.terminate()
        broker.wait(5)
        shutil.rmtree(tls)


@dataclass(slots=True)
class Client:
    """A plain MQTT 5 client with somebody's certificate, to try what must not be possible."""

    plant: Plant
    name: str | None
    tls: Path | None = None
    client_id: str = ""
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    trouble: str = ""
    _client: Any = None

    def connect(self) -> bool:
        """Whether the broker let us in; `trouble` says why not."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=mqtt.MQTTv5)
        tls = self.tls or self.plant.tls
        context = ssl.create_default_context(cafile=str(self.plant.tls / "ca.crt"))
        if self.name:
            context.load_cert_chain(tls / f"{self.name}.crt", tls / f"{self.name}.key")
        client.tls_set_context(context)
        connected: list[Any] = []
        client.on_connect = lambda *args: connected.append(args[3])
        client.on_disconnect = lambda *args: connected.append(args[3])
        client.on_connect_fail = lambda *_: connected.append("connect failed")
        client.on_message = lambda _c, _u, m: self.heard.append((m.topic, bytes(m.payload)))
        client.on_publish = lambda _c, _u, _mid, reason, _p: self.answers.append(str(reason))
        client.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.answers.extend(str(r) for r in reasons)
        self._client = client
        try:
            client.connect("localhost", self.plant.port, keepalive=10)
        except OSError as e:
            self.trouble = str(e)
            return False
        client.loop_start()
        first = wait_for(lambda: connected and connected[0], what="an answer to CONNECT")
        self.trouble = str(first)
        if self.trouble == "Success":
            return True
        client.loop_stop()
        return False

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> str:
        """Publish with QoS 1; the broker's answer."""
        count = len(self.answers)
        self._client.publish(topic, payload, qos=1, retain=retain)
        wait_for(lambda: len(self.answers) > count, what="PUBACK")
        return self.answers[-1]

    def post(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 0: no answer comes."""
        self._client.publish(topic, payload, qos=0)

    def subscribe(self, topic: str) -> str:
        count = len(self.answers)
        self._client.subscribe(topic, 1)
        wait_for(lambda: len(self.answers) > count, what="SUBACK")
        return self.answers[-1]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
