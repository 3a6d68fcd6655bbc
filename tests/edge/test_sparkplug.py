"""The edge-node assertions of Sparkplug 3.0.0, on a real broker; docs/sparkplug.md lists which test shows which."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from spb_reader import VALUE_OF, Payload, read, values

from benchmarks.station import end, plc_on, run_line, start_edge, wait_for, write_station
from edge.config import MqttConfig, SparkplugConfig
from edge.line.sparkplug import CAMERA, LINE, REBIRTH, SparkplugNode
from edge.line.sparkplug_payload import DataType, Metric, commands, encode
from edge.ports import Moment
from inspection.errors import MessageError
from inspection.events import CannotJudge, Judged, RaiseHalt, SetPermit
from inspection.messages import Topics
from inspection.types import Code, HaltReport, Stages

pytestmark = pytest.mark.broker


@dataclass(frozen=True, slots=True)
class Heard:
    topic: str
    payload: Any
    qos: int
    retain: bool

    @property
    def verb(self) -> str:
        return self.topic.split("/")[2]


class Host:
    """A host application that only listens, and sends commands."""

    def __init__(self, port: int, group: str) -> None:
        self.heard: list[Heard] = []
        self.group = group
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_message
        ready: list[int] = []
        self._client.on_subscribe = lambda *_: ready.append(1)
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(f"spBv1.0/{group}/#", 1)
        self._client.loop_start()
        wait_for(lambda: ready, what="SUBACK")

    def _on_message(self, _client: Any, _data: Any, m: mqtt.MQTTMessage) -> None:
        if "/NCMD/" not in m.topic:
            self.heard.append(Heard(m.topic, read(m.payload), m.qos, m.retain))

    def verbs(self) -> list[str]:
        return [h.verb for h in self.heard]

    def wait(self, verb: str, count: int = 1, timeout_s: float = 10) -> Heard:
        wait_for(lambda: self.verbs().count(verb) >= count, timeout_s, f"{count} {verb}, heard {self.verbs()}")
        return [h for h in self.heard if h.verb == verb][count - 1]

    def send(self, node: str, payload: bytes) -> None:
        self._client.publish(f"spBv1.0/{self.group}/NCMD/{node}", payload, qos=0)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass(slots=True)
class Plant:
    host: Host
    node: SparkplugNode

    def see(self, camera: str = "cam1", score: float = 0.25) -> None:
        event = Judged(camera, 1, time.monotonic_ns(), time.monotonic_ns(), {"red": score}, ())
        self.node.offer(_moment(event), [])

    def permit(self, run: bool, code: Code = Code.OK, halt: int = 0) -> None:
        self.node.offer(_moment(None), [SetPermit(run, code, halt, 0, 0, changed=True)])

    def cut(self) -> None:
        sock = self.node.connection._client.socket()
        assert sock
        sock.shutdown(2)
        wait_for(lambda: not self.node.connection.connected, what="the cut")


def _moment(event: Any) -> Moment:
    return Moment(event, None, None, Stages(0, 0, 0, 0), "red-1.0.0", "policy", "red@1")


@pytest.fixture(params=["5", "3.1.1"])
def plant(own_mosquitto: int, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plant]:
    group = f"site{abs(hash(tmp_path)) % 10**8}"
    host = Host(own_mosquitto, group)
    config = MqttConfig.model_validate({"port": own_mosquitto, "protocol": request.param})
    node = SparkplugNode(SparkplugConfig(), config, Topics(group, "line1", "st1"), ["cam1", "cam2/left"])
    it = Plant(host, node)
    node.start()
    host.wait("NBIRTH")
    yield it
    node.close()
    host.close()


def sequence_is_whole(heard: list[Heard]) -> None:
    """NBIRTH has 0; every further message of the session one more, 255 then 0; NDEATH has none."""
    expected = None
    for h in heard:
        if h.verb == "NDEATH":
            assert not h.payload.HasField("seq")
            continue
        if h.verb == "NBIRTH":
            expected = 0
        assert expected is not None, f"{h.verb} before NBIRTH"
        assert h.payload.seq == expected, h
        expected = (expected + 1) % 256


def test_births_come_first_complete_and_in_order(plant: Plant) -> None:
    plant.see()
    birth, device = plant.host.heard[0], plant.host.wait("DBIRTH")
    assert birth.topic == f"spBv1.0/{plant.host.group}/NBIRTH/line1-st1"
    assert device.topic == f"spBv1.0/{plant.host.group}/DBIRTH/line1-st1/cam1"
    assert set(values(birth.payload)) == {"bdSeq", REBIRTH, *LINE}
    assert set(values(device.payload)) == set(CAMERA)
    assert values(birth.payload)[REBIRTH] is False
    types = {m.name: m.datatype for m in birth.payload.metrics}
    assert types["bdSeq"] == DataType.INT64
    assert types[REBIRTH] == DataType.BOOLEAN
    names = [m.name.lower() for h in (birth, device) for m in h.payload.metrics]
    assert len(set(names)) == len(names), "no two names alike but for case"
    sequence_is_whole(plant.host.heard)


def test_every_message_is_qos_0_unretained_and_timed_in_utc(plant: Plant, own_mosquitto: int) -> None:
    plant.see()
    plant.host.wait("DBIRTH")
    plant.permit(True)
    plant.see()
    plant.host.wait("NDATA")
    plant.host.wait("DDATA")
    now_ms = time.time() * 1000
    for h in plant.host.heard:
        assert (h.qos, h.retain) == (0, False), h.topic
        assert abs(h.payload.timestamp - now_ms) < 20_000
        for m in h.payload.metrics:
            assert m.name
            assert abs(m.timestamp - now_ms) < 20_000
            assert m.HasField(VALUE_OF[m.datatype])
    nothing_is_retained(plant, own_mosquitto)
    sequence_is_whole(plant.host.heard)


def nothing_is_retained(plant: Plant, port: int) -> None:
    """Only who comes late can tell: to a subscriber that is there, the broker hands on every message as a live one."""
    late = Host(port, plant.host.group)
    time.sleep(0.3)
    late.close()
    assert late.heard == []


def test_changes_of_the_line_are_told_at_once_and_a_cameras_once_a_second(plant: Plant) -> None:
    plant.permit(True)
    report = HaltReport(10_001, Code.DEFECT, "red 6.0 mm", "red", 0.9, 0.7, 6.0, 1.5, 3, "", (3,))
    plant.node.offer(_moment(None), [SetPermit(False, Code.DEFECT, 10_001, 0, 0, changed=True), RaiseHalt(report)])
    wait_for(lambda: "Halt/Class" in told(plant.host.heard), 2, "the halt")
    assert told(plant.host.heard)["Line/Halt"] == 10_001
    assert told(plant.host.heard)["Line/Run"] is False
    assert told(plant.host.heard)["Halt/Length mm"] == 6.0
    begin = time.monotonic()
    while time.monotonic() - begin < 2.5:
        plant.see(score=0.5)
        plant.node.offer(_moment(CannotJudge("cam1", 2, 0, Code.CAMERA, "dark")), [])
        time.sleep(0.02)
    assert 1 <= plant.host.verbs().count("DDATA") <= 3
    last = values([h for h in plant.host.heard if h.verb == "DDATA"][-1].payload)
    assert last["Score"] == 0.5
    assert last["Frames/Judged"] > 50
    sequence_is_whole(plant.host.heard)


def told(heard: list[Heard]) -> dict[str, Any]:
    return {k: v for h in heard if h.verb == "NDATA" for k, v in values(h.payload).items()}


def test_a_rebirth_repeats_the_births_with_the_same_bdseq(plant: Plant) -> None:
    plant.see()
    plant.host.wait("DBIRTH")
    now_ms = int(time.time() * 1000)
    plant.host.send("line1-st1", encode([Metric(REBIRTH, DataType.BOOLEAN, False, now_ms)], now_ms, None))
    plant.host.send("line1-st1", encode([Metric("Something else", DataType.BOOLEAN, True, now_ms)], now_ms, None))
    plant.host.send("line1-st1", b"\xff\xff\xff\xff nothing of the kind")
    time.sleep(0.6)
    assert plant.host.verbs().count("NBIRTH") == 1
    plant.host.send("line1-st1", encode([Metric(REBIRTH, DataType.BOOLEAN, True, now_ms)], now_ms, None))
    again = plant.host.wait("NBIRTH", 2)
    assert values(again.payload)["bdSeq"] == values(plant.host.heard[0].payload)["bdSeq"]
    plant.host.wait("DBIRTH", 2)
    sequence_is_whole(plant.host.heard)


def test_a_broken_link_is_a_death_with_the_births_bdseq_and_the_next_birth_has_the_next(
    plant: Plant, own_mosquitto: int
) -> None:
    plant.cut()
    death = plant.host.wait("NDEATH")
    assert death.topic == f"spBv1.0/{plant.host.group}/NDEATH/line1-st1"
    assert death.qos == 1, "the will is QoS 1"
    assert set(values(death.payload)) == {"bdSeq"}
    first, second = plant.host.heard[0], plant.host.wait("NBIRTH", 2)
    assert values(death.payload)["bdSeq"] == values(first.payload)["bdSeq"] == 0
    assert values(second.payload)["bdSeq"] == 1
    nothing_is_retained(plant, own_mosquitto)
    sequence_is_whole(plant.host.heard)


def test_what_changed_while_away_is_told_as_historical_in_order_and_with_its_own_time(plant: Plant) -> None:
    plant.cut()
    away_ms = time.time() * 1000
    for run in (True, False, True):
        plant.permit(run)
        time.sleep(0.05)
    plant.host.wait("NBIRTH", 2)
    late = plant.host.wait("NDATA", plant.host.verbs().count("NDATA") or 1)
    runs = [m for m in late.payload.metrics if m.name == "Line/Run"]
    assert [m.boolean_value for m in runs] == [True, False, True]
    assert all(m.is_historical for m in runs)
    assert [m.timestamp for m in runs] == sorted(m.timestamp for m in runs)
    assert runs[-1].timestamp < late.payload.timestamp
    assert runs[0].timestamp >= away_ms - 5
    assert values(plant.host.wait("NBIRTH", 2).payload)["Line/Run"] is True, "the birth says what is"
    sequence_is_whole(plant.host.heard)


def test_an_orderly_end_is_told_by_the_node_itself(plant: Plant) -> None:
    plant.node.close()
    death = plant.host.wait("NDEATH")
    assert values(death.payload)["bdSeq"] == 0
    assert not death.payload.HasField("seq")
    time.sleep(0.5)
    assert plant.host.verbs().count("NDEATH") == 1, "and not a second time by the will"


def test_a_camera_that_fell_silent_dies_and_is_born_again(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.line.sparkplug.GONE_S", 1.5)
    plant.see("cam2/left")
    assert plant.host.wait("DBIRTH").topic.endswith("/DBIRTH/line1-st1/cam2:left"), "a device's name has no slash"
    dead = plant.host.wait("DDEATH", timeout_s=5)
    assert dead.topic.endswith("/DDEATH/line1-st1/cam2:left")
    assert dead.payload.HasField("timestamp")
    plant.see("cam2/left")
    plant.host.wait("DBIRTH", 2)
    sequence_is_whole(plant.host.heard)


def test_seq_and_bdseq_go_round_at_255(plant: Plant) -> None:
    for k in range(300):
        plant.permit(bool(k % 2))
        wait_for(lambda: not plant.node._waiting, 2, "NDATA sent")
    wait_for(lambda: len(plant.host.heard) > 280, 10, "the messages")
    sequence_is_whole(plant.host.heard)
    plant.node._bd_seq = 255
    plant.cut()
    assert values(plant.host.wait("NBIRTH", 2).payload)["bdSeq"] == 0


def packet(sock: socket.socket) -> tuple[int, bytes]:
    """One MQTT packet: its first byte and what follows the remaining length."""
    first, length, shift = sock.recv(1)[0], 0, 0
    while True:
        byte = sock.recv(1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first, sock.recv(length, socket.MSG_WAITALL)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_each_connect_asks_for_a_clean_session_with_an_unretained_will_and_ncmd_at_qos_1(protocol: str) -> None:
    """Read off the wire, the first time and after a broken link (MQTT 3.1.1, 3.1.2.3; MQTT 5, 3.1.2.3 and 3.1.2.11)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        config = MqttConfig.model_validate({"port": server.getsockname()[1], "protocol": protocol})
        node = SparkplugNode(SparkplugConfig(), config, Topics("east", "line1", "st1"), [])
        node.start()
        try:
            for _ in range(2):
                sock, _ = server.accept()
                with sock:
                    sock.settimeout(10)
                    kind, connect = packet(sock)
                    assert kind == 0x10
                    assert connect[:7] == b"\x00\x04MQTT" + (b"\x05" if protocol == "5" else b"\x04")
                    will_qos_1, will, clean = 0x08, 0x04, 0x02
                    assert connect[7] == will_qos_1 | will | clean, "no retain (0x20), no user"
                    if protocol == "5":  # properties: nothing but a session expiry (17) of 0 s
                        assert connect[10:16] in (b"\x05\x11\x00\x00\x00\x00", b"\x00" + connect[11:16])
                    sock.sendall(b"\x20\x03\x00\x00\x00" if protocol == "5" else b"\x20\x02\x00\x00")
                    kind, subscribe = packet(sock)
                    assert kind == 0x82
                    assert subscribe.endswith(b"spBv1.0/east/NCMD/line1-st1\x01")
        finally:
            node.close()


@pytest.mark.parametrize(
    "metric",
    [
        Metric("a", DataType.INT32, -1, 2**41),
        Metric("b", DataType.INT64, -(2**63), 0),
        Metric("c", DataType.INT64, 2**63 - 1, 1, historical=True),
        Metric("d", DataType.DOUBLE, -0.125, 1),
        Metric("e", DataType.BOOLEAN, True, 1),
        Metric("Straße/µ", DataType.STRING, "x" * 300, 1),
    ],
    ids=lambda m: m.name,
)
def test_protobuf_reads_what_we_write(metric: Metric) -> None:
    payload = read(encode([metric, metric], 1_795_190_000_000, 255))
    assert (payload.timestamp, payload.seq, len(payload.metrics)) == (1_795_190_000_000, 255, 2)
    m = payload.metrics[1]
    assert (m.name, m.datatype, m.timestamp, m.is_historical) == (
        *(metric.name, metric.type, metric.ts_ms),
        metric.historical,
    )
    bits = {DataType.INT32: 32, DataType.INT64: 64}.get(metric.type)
    value = getattr(m, VALUE_OF[m.datatype])
    assert value == (int(metric.value) % 2**bits if bits else metric.value)


def test_we_read_what_protobuf_writes_and_refuse_the_rest() -> None:
    order = Payload(timestamp=1, seq=3)
    order.metrics.add(name=REBIRTH, datatype=11, boolean_value=True, timestamp=5, float_value=1.5, double_value=2.5)
    order.metrics.add(name="No value", datatype=11)
    data = order.SerializeToString()
    assert commands(data) == {REBIRTH: True}
    refused = 0
    for k in range(1, len(data)):
        try:
            commands(data[:k])
        except MessageError:
            refused += 1
    assert refused > len(data) // 2
    for bad in (b"\xff" * 20, b"\x12\x05ab", b"\x0b", b"\x80" * 11, b"x" * 70_000):
        with pytest.raises(MessageError):
            commands(bad)


def test_an_edge_with_sparkplug_tells_a_host_and_stops_the_line_as_ever(own_mosquitto: int, tmp_path: Path) -> None:
    host = Host(own_mosquitto, "factory")
    pictures = [0.0] * 60 + [6.0] * 5 + [0.0] * 1500
    config = write_station(tmp_path, own_mosquitto, pictures=pictures, more="sparkplug: {group: factory}")
    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            wait_for(lambda: plc.view()["state"] == "TRIPPED", what="the halt")
            wait_for(lambda: told(host.heard).get("Line/Halt") == 10_001, 5, "the halt at the host")
            assert told(host.heard)["Halt/Class"] == "red"
            host.wait("DDATA")
        finally:
            assert end(edge) == 0
    host.wait("NDEATH")
    sequence_is_whole(host.heard)
    host.close()
