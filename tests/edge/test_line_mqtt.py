"""What the line's connection says when its other half is away, and after its last word."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.station import wait_for
from edge.config import MqttConfig
from edge.line.mqtt import MqttLine
from edge.line.outbox import Outbox
from edge.ports import Moment
from inspection.events import AnswerResume, AnswerStop, GiveVerdict, SetPermit, Tick
from inspection.messages import Permit, ResumeAnswer, StopAnswer, Topics, VerdictEvent
from inspection.types import Call, Code, HaltReport, Stages

pytestmark = pytest.mark.broker
TOPICS = Topics("test", "line1", "said")
MOMENT = Moment(Tick(0), None, None, Stages(0), "", "", "")


@dataclass(slots=True)
class Ear:
    """Another client: every message of the station since it listens, the broker's memory among them."""

    port: int
    heard: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = Client(CallbackAPIVersion.VERSION2)
        up: list[bool] = []
        self.client.on_connect = lambda *_: self.client.subscribe(f"{TOPICS.base}/#", 1)
        self.client.on_subscribe = lambda *_: up.append(True)
        self.client.on_message = self._message
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        wait_for(lambda: up, what="a subscription")

    client: Client = field(init=False)

    def _message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.heard.append((message.topic, bytes(message.payload)))

    def of(self, topic: str) -> list[dict[str, object]]:
        return [json.loads(payload) for name, payload in self.heard if name == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def permit(run: bool) -> SetPermit:
    now_ns = time.monotonic_ns()
    return SetPermit(run, Code.OK if run else Code.STARTING, 0, now_ns, now_ns + 10**10, changed=True)


@pytest.fixture
def line(mosquitto: int) -> Iterator[MqttLine]:
    """The permit's connection stands; the outbox's does not, since nobody started it."""
    config = MqttConfig(port=mosquitto)
    made = MqttLine(config, TOPICS, 1, Outbox(config, TOPICS), lambda _event: None)
    made.connection.start()
    wait_for(lambda: made.connection.connected, what="the broker")
    yield made
    made.connection.stop()


def test_a_verdict_goes_the_permits_way_where_its_own_is_down(line: MqttLine, mosquitto: int) -> None:
    ear = Ear(mosquitto)
    try:
        line.carry_out(GiveVerdict("p1", 7, Call.FAULT, "", 0.0, 0.0, 0, "no verdict by the deadline"), MOMENT)
        topic = TOPICS.of(VerdictEvent)
        said = wait_for(lambda: ear.of(topic), what="the verdict")
        assert [(v["part"], v["inspection"], v["verdict"]) for v in said] == [("p1", 7, "fault")]
    finally:
        ear.close()


def test_who_resumed_or_asked_for_a_stop_is_told_the_permits_way_where_their_own_is_down(
    line: MqttLine, mosquitto: int
) -> None:
    ear = Ear(mosquitto)
    try:
        line.carry_out(AnswerResume(10_001, "kim", "nonce-0001", True, ""), MOMENT)
        stop = HaltReport(10_002, Code.STOP, "stop requested by eve")
        line.carry_out(AnswerStop("eve", "nonce-0002", "", stop), MOMENT)
        resumed = wait_for(lambda: ear.of(TOPICS.of(ResumeAnswer)), what="who resumed")
        assert [(r["halt"], r["who"], r["accepted"]) for r in resumed] == [(10_001, "kim", True)]
        stopped = wait_for(lambda: ear.of(TOPICS.of(StopAnswer)), what="who stopped")
        assert [(s["halt"], s["who"]) for s in stopped] == [(10_002, "eve")]
    finally:
        ear.close()


def test_after_its_last_word_the_line_says_nothing_more(
    line: MqttLine, mosquitto: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard runs on for a moment when the edge ends: its permit must not be what the broker remembers."""
    line._outbox.start()
    line._thread.start()
    line.carry_out(permit(True), MOMENT)
    stop = line.connection.stop

    def guard_speaks() -> None:
        line.carry_out(permit(True), MOMENT)
        line.carry_out(permit(True), MOMENT)
        stop()

    with monkeypatch.context() as patch:
        patch.setattr(line.connection, "stop", guard_speaks)
        line.close()
    line._outbox.close()
    ear = Ear(mosquitto)
    try:
        topic = TOPICS.of(Permit)
        assert [p["run"] for p in wait_for(lambda: ear.of(topic), what="the retained permit")] == [0]
    finally:
        ear.close()
