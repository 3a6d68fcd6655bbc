"""The broker dies, the database is locked, the disk is gone: said at once, nothing acknowledged, mended by itself."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from edge.config import MqttConfig
from edge.line.connection import Connection
from inspection.bundle import sha256
from inspection.messages import ModelDesired
from tests.conftest import free_port, wait_for_port
from tests.review.factory import FakeEdge, HubProcess, png, until
from tests.review.test_registry import bundle_files, zipped

pytestmark = pytest.mark.broker


class Broker:
    """A Mosquitto that can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "broker.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
        self._binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([self._binary, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        wait_for_port(self.port, self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def broker(mosquitto: int, tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


def wrong(hub: HubProcess) -> dict[str, str]:
    return dict(httpx.get(f"{hub.url}/healthz", timeout=20).json())


def test_a_broker_that_dies_is_said_and_found_again(broker: Broker, data_dir: Path) -> None:
    hub = HubProcess(data_dir, free_port(), broker.port).start()
    edge = FakeEdge(broker.port, hub.url)
    try:
        first = edge.record()
        until(lambda: first.uid in edge.acked)
        broker.kill()
        until(lambda: "broker" in wrong(hub))
        broker.start()
        until(lambda: wrong(hub) == {"ok": True}, 15)
        edge.close()
        edge = FakeEdge(broker.port, hub.url)
        second = edge.record()
        until(lambda: second.uid in edge.acked, 15)
    finally:
        edge.close()
        hub.stop()


def test_a_broker_that_forgot_what_a_station_should_serve_is_told_again(broker: Broker, data_dir: Path) -> None:
    hub = HubProcess(data_dir, free_port(), broker.port).start()
    edge = FakeEdge(broker.port, hub.url, "forgotten")
    heard: list[ModelDesired] = []
    try:
        edge.online()
        chen = hub.signed_in("Chen (engineer)")
        for version in ("1.0.0", "1.1.0"):
            files = {"bundle": ("up.zip", zipped(bundle_files(version)))}
            assert chen.post("/models/upload", files=files).status_code == 303
        until(lambda: "plant~line-a~forgotten" in chen.get("/models").text)
        order = {"station": "plant~line-a~forgotten", "bundle": "scratch-1.1.0"}
        assert chen.post("/models/rollout", data=order).status_code == 303
        order = {"station": "plant~line-a~forgotten", "bundle": "scratch-1.0.0", "rollback": "true"}
        assert chen.post("/models/rollout", data=order).status_code == 303
        edge.close()
        broker.kill()  # and with it what it retained
        broker.start()
        until(lambda: wrong(hub) == {"ok": True}, 15)
        late = Connection(MqttConfig(port=broker.port), "late")  # an edge that starts only now
        late.on(edge.topics.of(ModelDesired), 1, lambda r: heard.append(ModelDesired.decode(r.payload)))
        late.start()
        until(lambda: heard, what="the order")
        late.stop()
        assert (heard[-1].bundle, heard[-1].rollback) == ("scratch-1.0.0", True)
    finally:
        hub.stop()


def test_a_locked_database_acknowledges_nothing_and_loses_nothing(mosquitto: int, data_dir: Path) -> None:
    hub = HubProcess(data_dir, free_port(), mosquitto).start()
    edge = FakeEdge(mosquitto, hub.url, "locked")
    lock = sqlite3.connect(data_dir / "hub.db", isolation_level=None)
    try:
        edge.online()
        before = edge.record()
        until(lambda: before.uid in edge.acked)
        lock.execute("BEGIN IMMEDIATE")
        sent = [edge.record().uid for _ in range(20)]
        until(lambda: "storage" in wrong(hub), 20)
        assert set(edge.acked) == {before.uid}
        assert httpx.get(hub.url, timeout=5).status_code == 200, "pages are still read"
        lock.execute("ROLLBACK")
        until(lambda: set(edge.acked) >= set(sent), 20)
        until(lambda: wrong(hub) == {"ok": True})
    finally:
        lock.close()
        edge.close()
        hub.stop()


def test_a_lost_frame_folder_is_507_and_the_edge_keeps_its_frame(hub: HubProcess) -> None:
    data = png(np.full((5, 5, 3), 3, np.uint8))
    folder = hub.data / "frames" / sha256(data)[:2]
    folder.write_text("in the way")
    try:
        answer = httpx.put(f"{hub.url}/api/edge/frames/{sha256(data)}", content=data)
        assert answer.status_code == 507
        assert "free space on the hub's disk" in answer.text
        other = png(np.full((5, 5, 3), 4, np.uint8))
        body = b"".join(bytes.fromhex(sha256(one)) + len(one).to_bytes(4, "big") + one for one in (data, other))
        told = httpx.post(f"{hub.url}/api/edge/frames", content=body).json()["files"]
        assert [one["status"] for one in told] == [507, 201], "it does not hold up what came with it"
    finally:
        folder.unlink()


def test_a_broker_without_mqtt_5_will_do(mosquitto: int, data_dir: Path) -> None:
    hub = HubProcess(data_dir, free_port(), mosquitto, "--mqtt-version", "3").start()
    edge = FakeEdge(mosquitto, hub.url, "mqtt-3")
    try:
        record = edge.record()
        until(lambda: record.uid in edge.acked)
    finally:
        edge.close()
        hub.stop()
