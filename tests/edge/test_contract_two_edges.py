"""Fault 9: two edges with one client id. The line stops, and the edges themselves say why."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.station import TOPICS, end, plc_on, run_line, start_edge, trip_after, wait_for, write_station
from edge.config import MqttConfig
from edge.line.connection import Connection, Received
from edge.line.mqtt import RIVALS_NS, MqttLine
from edge.line.outbox import Outbox
from inspection.events import FaultFound
from inspection.messages import Conn, Permit, Topics

pytestmark = [pytest.mark.broker, pytest.mark.slow]


class Ear:
    """Every permit and every ONLINE, with the time it came."""

    def __init__(self, port: int) -> None:
        self.permits: list[tuple[int, Permit]] = []
        self.online: list[tuple[int, int]] = []
        self.connection = Connection(MqttConfig(port=port), "ear")
        self.connection.on(TOPICS.of(Permit), 0, self._permit)
        self.connection.on(TOPICS.of(Conn), 1, self._conn)

    def _permit(self, received: Received) -> None:
        if not received.retained:
            self.permits.append((time.monotonic_ns(), Permit.decode(received.payload)))

    def _conn(self, received: Received) -> None:
        conn = Conn.decode(received.payload)
        if conn.state == "ONLINE" and not received.retained:
            self.online.append((time.monotonic_ns(), conn.boot))


@contextmanager
def listening(port: int) -> Iterator[Ear]:
    ear = Ear(port)
    ear.connection.start()
    wait_for(lambda: ear.connection.connected, what="the broker")
    try:
        yield ear
    finally:
        ear.connection.stop()


RIVALRIES = {"same start": ((1, 1), "5"), "newer, MQTT 3.1.1": ((1, 2), "3.1.1")}


@pytest.mark.parametrize("rivalry", RIVALRIES)
def test_two_edges_under_one_name_stop_the_line_and_say_so(own_mosquitto: int, tmp_path: Path, rivalry: str) -> None:
    boots, protocol = RIVALRIES[rivalry]
    first, second = (write_station(tmp_path / name, own_mosquitto, protocol=protocol) for name in ("first", "second"))
    for config, boot in zip((first, second), boots, strict=True):
        for _ in range(boot - 1):
            end(wait_until_booted(config))
    with plc_on(own_mosquitto) as plc, listening(own_mosquitto) as ear:
        edge = start_edge(first)
        other = None
        try:
            run_line(plc)
            time.sleep(0.6)
            known = len(ear.online)
            other = start_edge(second)
            wait_for(lambda: len(ear.online) > known, what="the second edge")
            taken_ns = ear.online[known][0]
            after_s, why = trip_after(plc, taken_ns - 50_000_000)
            assert after_s <= 1.05 + 0.05, why
            print(f"{rivalry}: trip {after_s:.3f} s ({why})")
            told = wait_for(lambda: [at for at, p in ear.permits if at > taken_ns and p.code == 6], 10, "code 6")
            assert (told[0] - taken_ns) / 1e9 <= 5
            print(f"{rivalry}: code 6 after {(told[0] - taken_ns) / 1e9:.2f} s")
            for config in (first, second):
                log = config.parent / "edge.log"
                wait_for(lambda log=log: "another edge runs as" in log.read_text(), 10, f"the fault in {log}")
            time.sleep(2)
            settled_ns = time.monotonic_ns()
            time.sleep(3)
            assert not [p for at, p in ear.permits if at > settled_ns and p.run], "neither may give the permit"
            assert plc.view()["state"] == "TRIPPED"
            assert end(other) == 0
            alone_ns = time.monotonic_ns()
            patience_s = RIVALS_NS / 1e9 + 8
            wait_for(lambda: any(p.run for at, p in ear.permits if at > alone_ns), patience_s, "one edge alone again")
            if boots[0] >= boots[1]:  # after a newer start, the older one's permits are refused until it starts anew
                wait_for(lambda: plc.view()["state"] == "READY", 5, "a good permit")
        finally:
            end(edge)
            if other:
                end(other)
            shutil.rmtree(tmp_path / "second", ignore_errors=True)


def wait_until_booted(config: Path):  # type: ignore[no-untyped-def]
    edge = start_edge(config)
    wait_for(lambda: (config.parent / "state" / "state.json").exists(), what="the first start")
    time.sleep(0.5)
    return edge


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_neither_a_restart_nor_a_broken_link_looks_like_a_rival(
    own_mosquitto: int, tmp_path: Path, protocol: str
) -> None:
    heard: list[object] = []
    topics = Topics("test", "line1", f"alone{protocol[0]}")
    config = MqttConfig.model_validate({"port": own_mosquitto, "protocol": protocol})

    outbox = Outbox(config, topics)
    outbox.start()

    def life(boot: int) -> MqttLine:
        line = MqttLine(config, topics, boot, outbox, heard.append)
        line.start()
        wait_for(lambda: line.connection.connected, what="the broker")
        return line

    line = life(1)
    for _ in range(3):
        sock = line.connection._client.socket()
        assert sock
        sock.shutdown(2)
        wait_for(lambda: not line.connection.connected, what="the cut")
        wait_for(lambda: line.connection.connected, what="the return")
    line.close()
    line = life(2)
    time.sleep(0.5)
    assert heard == []
    rival = MqttLine(config, topics, 2, outbox, lambda _: None)
    rival.start()
    wait_for(lambda: heard, 8, "a rival")
    assert isinstance(heard[0], FaultFound)
    for one in (rival, line, outbox):
        one.close()
