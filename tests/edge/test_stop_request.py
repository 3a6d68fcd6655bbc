"""A requested stop at a real edge behind a real broker: what stops, what does not, and what is kept of it."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.station import TOPICS, end, plc_on, run_line, start_edge, state_file, wait_for, write_station
from edge.config import MqttConfig
from edge.line.connection import Connection, Received
from inspection.messages import HaltEvent, Message, Stop, StopAnswer
from inspection.types import Code

pytestmark = pytest.mark.broker


class Asker:
    """Somebody who asks for stops and hears what the edge says."""

    def __init__(self, port: int) -> None:
        self.answers: deque[StopAnswer] = deque()
        self.halts: deque[HaltEvent] = deque()
        self._connection = Connection(MqttConfig(port=port), "asker")
        self._connection.on(TOPICS.of(StopAnswer), 1, self._answered)
        self._connection.on(TOPICS.of(HaltEvent), 1, self._halted)

    def start(self) -> None:
        self._connection.start()
        wait_for(lambda: self._connection.connected, what="the broker")

    def stop(self) -> None:
        self._connection.stop()

    def send(self, message: Message, *, retain: bool = False) -> None:
        self._connection.publish(TOPICS.of(type(message)), message.encode(), qos=1, retain=retain)

    def answer(self) -> StopAnswer:
        wait_for(lambda: self.answers, what="an answer on evt/stop")
        return self.answers.popleft()

    def _answered(self, received: Received) -> None:
        self.answers.append(StopAnswer.decode(received.payload))

    def _halted(self, received: Received) -> None:
        self.halts.append(HaltEvent.decode(received.payload))


@contextmanager
def asker(port: int) -> Iterator[Asker]:
    asking = Asker(port)
    asking.start()
    try:
        yield asking
    finally:
        asking.stop()


def ask(nonce: str, who: str = "") -> Stop:
    return Stop(nonce=nonce, who=who, ts_ms=1)


def test_it_stops_once_for_each_request_and_not_for_what_the_broker_remembers(
    own_mosquitto: int, tmp_path: Path
) -> None:
    config = write_station(tmp_path, own_mosquitto)
    with plc_on(own_mosquitto) as plc, asker(own_mosquitto) as asking:
        edge = start_edge(config)
        try:
            run_line(plc)
            # Published with the retain flag while the edge is there it arrives as any other, and stops.
            asking.send(ask("request-1", "kim"), retain=True)
            wait_for(lambda: plc.view()["state"] == "TRIPPED", what="the trip")
            assert (plc.view()["code"], plc.view()["halt"]) == (int(Code.STOP), 10_001)
            assert asking.answer().halt == 10_001
            assert asking.halts[0].reason == "stop requested by kim"
            assert plc.press_reset()
            run_line(plc)
            asking.send(ask("request-1", "kim"))
            assert asking.answer().why == "this request came before"
            assert plc.view()["state"] == "RUNNING"
            # The next life is given the broker's copy, whose age nobody knows: it must not stop the line for ever.
            end(edge)
            edge = start_edge(config)
            wait_for(lambda: plc.newest and plc.newest.boot == 2, what="the next life")
            run_line(plc)
            time.sleep(0.3)
            assert plc.view()["state"] == "RUNNING"
            assert not asking.answers
        finally:
            end(edge)


def test_during_another_halt_it_is_kept_on_disk_and_follows_it(own_mosquitto: int, tmp_path: Path) -> None:
    config = write_station(tmp_path, own_mosquitto, pictures=[0.0] * 40 + [6.0] * 5 + [0.0] * 1500)
    with plc_on(own_mosquitto) as plc, asker(own_mosquitto) as asking:
        edge = start_edge(config)
        try:
            run_line(plc)
            wait_for(lambda: plc.view()["halt"] == 10_001, what="the defect's halt")
            asking.send(ask("request-2", "kim"))
            assert asking.answer().why == "halt 10001 is open; this stop follows it"
            wait_for(lambda: (state_file(config)["open_halt"] or {}).get("stop"), what="the request on disk")
            os.kill(edge.pid, signal.SIGKILL)
            edge.wait()
            edge = start_edge(config)
            wait_for(lambda: plc.newest and plc.newest.boot == 2, what="the next life")
            time.sleep(0.5)
            assert plc.press_reset()
            wait_for(lambda: plc.view()["halt"] == 20_001, what="the stop's own halt")
            assert plc.view()["code"] == int(Code.STOP)
            assert not plc.press_start(), "no permit in between"
            assert plc.press_reset()
            run_line(plc)
        finally:
            assert end(edge) == 0
