"""A model that people rolled back stays away, whatever restarts; and a bundle that a person installs counts again."""

from __future__ import annotations

import errno
import json
import os
import queue
import shutil
import signal
from pathlib import Path

import pytest

from benchmarks.station import TOPICS, end, start_edge, wait_for, write_station
from benchmarks.storage_disk import FailingDisk, disk_error
from benchmarks.tiny_bundle import write_bundle
from edge.bundle_store import read_bundle
from edge.config import BundleConfig, MqttConfig
from edge.last_order import LastOrder
from edge.line.connection import Connection
from inspection.bundle import MODEL_FILE
from inspection.errors import BundleError, StorageError
from inspection.messages import ModelDesired, ModelReported


def order_for(folder: Path, ts_ms: int = 0) -> ModelDesired:
    bundle = read_bundle(folder)
    return ModelDesired(bundle=bundle.manifest.id, sha256=bundle.sha256, url="/x", rollback=True, ts_ms=ts_ms)


class Station:
    """`bundle.path` holds red-1.1.0; red-1.0.0, red-0.9.0 lie in the store."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.installed = folder / "installed"
        self.install("1.1.0")
        self.old, self.older = (write_bundle(self.state / "bundles", v) for v in ("1.0.0", "0.9.0"))

    def install(self, version: str) -> None:
        shutil.rmtree(self.installed, ignore_errors=True)
        write_bundle(self.installed.parent, version).rename(self.installed)

    def order(self, disk: FailingDisk | None = None) -> LastOrder:
        return LastOrder(self.state, BundleConfig(path=self.installed), *([disk] if disk else []))

    def starts_with(self) -> str:
        self.order().drop_old()
        return self.order().bundle().manifest.id


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.mark.broker
def test_a_model_rolled_back_stays_away_when_broker_and_edge_restart(own_mosquitto: int, tmp_path: Path) -> None:
    config = write_station(tmp_path, own_mosquitto)  # its bundle.path holds red-1.0.0
    old = write_bundle(tmp_path / "state" / "bundles", "0.9.0")
    told: queue.Queue[ModelReported] = queue.Queue()
    hub = Connection(MqttConfig(port=own_mosquitto), "hub")
    hub.on(TOPICS.of(ModelReported), 1, lambda r: r.payload and told.put(ModelReported.decode(r.payload)))
    hub.start()
    wait_for(lambda: hub.connected, what="the broker")
    edge = start_edge(config)
    try:
        assert told.get(timeout=30).bundle == "red-1.0.0"
        hub.publish(TOPICS.of(ModelDesired), order_for(old).encode(), 1, True)
        wait_for(lambda: told.get(timeout=20).bundle == "red-0.9.0", what="the older one")
        wait_for((tmp_path / "state" / "order.json").exists, what="the order on disk")
        os.kill(edge.pid, signal.SIGKILL)
        edge.wait()
        for message in (ModelDesired, ModelReported):  # what the broker forgets when it restarts
            hub.publish(TOPICS.of(message), b"", 1, True)
        edge = start_edge(config)
        assert told.get(timeout=30).bundle == "red-0.9.0", "the withdrawn one came back by itself"
    finally:
        end(edge)
        hub.stop()


@pytest.mark.broker
def test_a_broker_that_remembers_an_older_order_does_not_bring_a_withdrawn_model_back(
    own_mosquitto: int, tmp_path: Path
) -> None:
    """One with persistence writes every half hour: killed, it comes back with what was retained then."""
    config = write_station(tmp_path, own_mosquitto)  # its bundle.path holds red-1.0.0
    old, new = (write_bundle(tmp_path / "state" / "bundles", version) for version in ("0.9.0", "1.1.0"))
    told: queue.Queue[ModelReported] = queue.Queue()
    hub = Connection(MqttConfig(port=own_mosquitto), "hub")
    hub.on(TOPICS.of(ModelReported), 1, lambda r: told.put(ModelReported.decode(r.payload)))
    hub.start()
    wait_for(lambda: hub.connected, what="the broker")

    def say(order: ModelDesired) -> None:
        hub.publish(TOPICS.of(ModelDesired), order.encode(), 1, True)

    def hears(state: str, bundle: str, wanted: str) -> None:
        def is_it() -> bool:
            said = told.get(timeout=40)
            return (said.state, said.bundle, said.wanted) == (state, bundle, wanted)

        wait_for(is_it, 60, f"{state} {bundle}, asked for {wanted}")

    edge = start_edge(config)
    try:
        say(order_for(new, 1000))
        hears("serving", "red-1.1.0", "red-1.1.0")
        say(order_for(old, 2000))
        hears("serving", "red-0.9.0", "red-0.9.0")
        say(order_for(new, 1000))
        hears("refused", "red-0.9.0", "red-1.1.0")
        end(edge)
        edge = start_edge(config)  # the older one is what the broker retains now
        hears("refused", "red-0.9.0", "red-1.1.0")
        say(order_for(new, 3000))
        hears("serving", "red-1.1.0", "red-1.1.0")
    finally:
        end(edge)
        hub.stop()


def test_the_newest_order_counts_and_one_for_the_installed_bundle_ends_it(station: Station) -> None:
    assert station.starts_with() == "red-1.1.0"
    station.order().keep(order_for(station.old))
    assert station.starts_with() == "red-1.0.0"
    station.order().keep(order_for(station.older))
    assert station.starts_with() == "red-0.9.0"
    station.order().keep(order_for(station.installed))
    assert station.starts_with() == "red-1.1.0"


def test_a_bundle_that_a_person_installs_counts_and_the_order_does_not_come_back(station: Station) -> None:
    station.order().keep(order_for(station.old))
    station.install("1.2.0")
    station.order().keep(order_for(station.old))  # the hub only says again what it said
    assert station.order().bundle().manifest.id == "red-1.2.0"
    assert station.starts_with() == "red-1.2.0"
    station.install("1.1.0")
    assert station.starts_with() == "red-1.1.0", "put back by a person too"
    station.order().keep(order_for(station.old))
    assert station.starts_with() == "red-1.0.0"


@pytest.mark.parametrize("fault", ["gone", "broken", "another"])
def test_an_ordered_bundle_that_cannot_be_served_is_no_reason_to_serve_the_withdrawn_one(
    station: Station, fault: str
) -> None:
    station.order().keep(order_for(station.old))
    if fault == "broken":
        (station.old / MODEL_FILE).write_bytes(b"rot")
    else:
        shutil.rmtree(station.old)
    if fault == "another":
        write_bundle(station.old.parent, "1.0.0", lo=0.1)
    with pytest.raises(BundleError, match=r"the hub ordered red-1.0.0 last.*\n  fix: copy red-1.0.0 to .*order.json"):
        station.starts_with()
    (station.state / "order.json").unlink()
    assert station.starts_with() == "red-1.1.0", "what the message says to do"


@pytest.mark.parametrize("text", ["", "[]", '{"bundle": "red-1.0.0"}'])
def test_an_order_that_does_not_read_is_said_and_never_guessed(station: Station, text: str) -> None:
    (station.state / "order.json").write_text(text)
    with pytest.raises(StorageError, match=r"order.json: .*\n  fix: restore it, or delete it"):
        station.starts_with()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_will_not_remember_an_order_does_not_keep_it_from_being_served(station: Station, code: int) -> None:
    disk = FailingDisk()
    order = station.order(disk)
    disk.fail = {"write": disk_error("write", code)}
    order.keep(order_for(station.old))
    disk.fail = {}
    assert station.starts_with() == "red-1.1.0"
    order.keep(order_for(station.old))  # said again by the hub
    assert json.loads((station.state / "order.json").read_text())["bundle"] == "red-1.0.0"
