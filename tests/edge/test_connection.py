"""What leaves a connection: at once, whole, and in order, whoever publishes."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Literal

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.proxy import BadNetwork
from benchmarks.station import wait_for
from deploy import broker
from edge.config import MqttConfig
from edge.line.connection import Connection, Received
from tests.conftest import free_port, missing

TOPIC = "haltline/v1/test/line1/st1/state/permit"


class Listener:
    """Another client: every payload and when it came."""

    def __init__(self, port: int, topic: str) -> None:
        self.heard: list[tuple[bytes, float]] = []
        self._up = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda *_: self.client.subscribe(topic, 1)
        self.client.on_subscribe = lambda *_: self._up.set()
        self.client.on_message = self._message
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._up.wait(5)

    def _message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.heard.append((bytes(message.payload), time.monotonic()))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_permit_leaves_though_the_network_thread_is_busy(mosquitto: int) -> None:
    busy, free = threading.Event(), threading.Event()

    def hang(_received: Received) -> None:
        busy.set()
        free.wait(5)

    connection, listener = Connection(MqttConfig(port=mosquitto), "edge"), Listener(mosquitto, TOPIC)
    connection.on("haltline/v1/test/line1/st1/plc/hb", 1, hang)
    connection.start()
    try:
        wait_for(lambda: connection.connected)
        for _ in range(50):  # the subscription may not have reached the broker yet
            listener.client.publish("haltline/v1/test/line1/st1/plc/hb", b"1", qos=1)
            if busy.wait(0.1):
                break
        assert busy.is_set(), "the handler was not called"
        sent_s = time.monotonic()
        assert connection.publish(TOPIC, b"halt")
        payload, at_s = wait_for(lambda: listener.heard and listener.heard[-1], 3)
        assert payload == b"halt"
        assert at_s - sent_s < 0.5
    finally:
        free.set()
        connection.stop()
        listener.close()


def test_packets_of_many_threads_are_neither_torn_nor_reordered(mosquitto: int) -> None:
    """A small socket buffer makes writes partial, which is when two writers could mix. What waits takes longer than two
    keepalives to leave: a ping behind all of it would end the connection."""
    threads, each = 4, 25
    connection = Connection(MqttConfig(port=mosquitto), "edge", keepalive_s=1)
    listener = Listener(mosquitto, TOPIC)
    connection.start()
    try:
        wait_for(lambda: connection.connected)
        sock = connection._client.socket()
        assert isinstance(sock, socket.socket)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        def publish(thread: int) -> None:
            for number in range(each):
                body = bytes([thread]) * 100_000
                assert connection.publish(TOPIC, f"{thread}:{number}:".encode() + body)

        began_s = time.monotonic()
        workers = [threading.Thread(target=publish, args=(k,)) for k in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        wait_for(lambda: len(listener.heard) >= threads * each, 60)
        assert time.monotonic() - began_s > 2, "too fast to show anything"
        order: dict[int, list[int]] = {k: [] for k in range(threads)}
        for payload, _ in listener.heard:
            thread, number, body = payload.split(b":", 2)
            assert body == bytes([int(thread)]) * 100_000
            order[int(thread)].append(int(number))
        assert all(numbers == list(range(each)) for numbers in order.values())
        assert connection.connected
    finally:
        connection.stop()
        listener.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_permit_is_a_packet_as_paho_would_have_made_it(mosquitto: int, protocol: Literal["5", "3.1.1"]) -> None:
    """Both sizes of the length field, retained or not, with an expiry or without: as an independent client reads it."""
    connection, listener = Connection(MqttConfig(port=mosquitto, protocol=protocol), "edge"), Listener(mosquitto, TOPIC)
    connection.start()
    payloads = [b"", b"x" * 20, b"y" * 300, b"z" * 4095]
    try:
        wait_for(lambda: connection.connected)
        for payload in payloads:
            assert connection.publish(TOPIC, payload, expiry_s=2)
            assert connection.publish(TOPIC, payload, retain=payload != b"")
        wait_for(lambda: len(listener.heard) == 2 * len(payloads), 5)
        assert [payload for payload, _ in listener.heard] == [payload for payload in payloads for _ in range(2)]
        late = Listener(mosquitto, TOPIC)
        assert wait_for(lambda: late.heard and late.heard[0][0], 5) == payloads[-1], "the retained one"
        late.close()
        connection.publish(TOPIC, b"", retain=True)
    finally:
        connection.stop()
        listener.close()


def test_short_packets_of_many_threads_are_neither_torn_nor_reordered(mosquitto: int) -> None:
    """Faster than the socket takes them, so that some are left to the network thread, in part or whole."""
    threads, each = 4, 100
    connection, listener = Connection(MqttConfig(port=mosquitto), "edge"), Listener(mosquitto, TOPIC)
    connection.start()
    try:
        wait_for(lambda: connection.connected)
        sock = connection._client.socket()
        assert isinstance(sock, socket.socket)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        left = 0

        def publish(thread: int) -> None:
            nonlocal left
            for number in range(each):
                assert connection.publish(TOPIC, f"{thread}:{number}:".encode() + bytes([thread]) * 4000)
                left += connection._client.want_write()

        workers = [threading.Thread(target=publish, args=(k,)) for k in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        wait_for(lambda: len(listener.heard) >= threads * each, 20)
        heard = [payload.split(b":", 2) for payload, _ in listener.heard]
        assert left, "the socket took everything: nothing was tested"
        assert all(body == bytes([int(thread)]) * 4000 for thread, _, body in heard)
        for k in range(threads):
            assert [int(number) for thread, number, _ in heard if int(thread) == k] == list(range(each))
    finally:
        connection.stop()
        listener.close()


def test_on_a_slow_link_pictures_are_few_and_new_and_the_connection_stays(mosquitto: int) -> None:
    """Three times as many pictures as the link carries: the newest count. Before, the kernel took 40 s of the link, and
    the answer to a ping came after the keepalive."""
    link = BadNetwork(mosquitto, bytes_per_s=60_000)
    connection = Connection(MqttConfig(port=link.port), "edge", keepalive_s=6)
    listener = Listener(mosquitto, "live")
    connection.start()
    ended: list[float] = []
    try:
        wait_for(lambda: connection.connected)
        connection._client.on_disconnect = lambda *_: ended.append(time.monotonic())
        took = 0
        for _ in range(60):
            taken = connection.publish_newest("cam", "live", str(time.monotonic()).encode().ljust(40_000))
            took += taken
            assert connection.takes_newest("other"), "another camera's picture waits for nobody"
            time.sleep(0.2)  # 200 kB/s, where the link carries 60
        ages = [at_s - float(payload) for payload, at_s in listener.heard]
        assert not ended
        assert 5 < len(ages) <= took < 30
        assert max(ages) < 6, "a picture shows what was long ago"
    finally:
        connection.stop()
        listener.close()
        link.close()


def test_a_picture_that_went_down_with_its_link_holds_up_no_other(mosquitto: int) -> None:
    link = BadNetwork(mosquitto, bytes_per_s=60_000)
    connection = Connection(MqttConfig(port=link.port), "edge")
    connection.start()
    try:
        wait_for(lambda: connection.connected)
        wait_for(lambda: not connection.publish_newest("cam", "live", bytes(100_000)), 5, what="a picture that waits")
        link.close()
        wait_for(lambda: not connection.connected)
        again = BadNetwork(mosquitto)
        connection._client._port = again.port
        wait_for(lambda: connection.connected)
        assert connection.publish_newest("cam", "live", b"new")
        again.close()
    finally:
        connection.stop()


def test_what_the_broker_does_not_take_stays_here_and_the_connection_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broker whose owner allows less than ours: each live picture ended the evidence connection."""
    if broker.mosquitto_path() is None:
        missing("mosquitto")
    shipped = broker.mosquitto_conf
    monkeypatch.setattr(
        broker, "mosquitto_conf", lambda port: shipped(port).replace("packet_size 524288", "packet_size 20000")
    )
    port = free_port()
    mosquitto = broker.start_mosquitto(port, tmp_path)
    connection, listener = Connection(MqttConfig(port=port), "edge"), Listener(port, "evt/#")
    connection.start()
    ended: list[float] = []
    try:
        wait_for(lambda: connection.connected)
        connection._client.on_disconnect = lambda *_: ended.append(time.monotonic())
        for _ in range(3):
            assert not connection.publish_newest("cam", "live", bytes(30_000))
            assert not connection.publish("evt/record", bytes(20_000), qos=1)
        assert connection.publish("evt/record", bytes(19_900), qos=1)
        wait_for(lambda: listener.heard, 5)
        time.sleep(0.5)  # a broker that minds hangs up when it reads it
        assert not ended
        said = capsys.readouterr().out
        assert said.count("larger than the broker takes") == 2
        assert "max_packet_size" in said
    finally:
        connection.stop()
        listener.close()
        mosquitto.kill()
        mosquitto.wait()


def test_why_a_broker_is_not_reached_is_said_once_for_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong name, a closed port, an expired certificate: the log of an edge that never got through was empty."""
    connection = Connection(MqttConfig(host="127.0.0.1", port=free_port()), "edge")
    connection.start()
    try:
        wait_for(lambda: connection.away)
        time.sleep(2.5)  # two tries more: paho makes one a second at first
        assert "refused" in connection.away
        assert capsys.readouterr().out.count("broker not reached") == 1
    finally:
        connection.stop()


def test_a_broker_that_takes_the_connection_and_hangs_is_said_to_be_away() -> None:
    """One that was stopped in its tracks: connections are taken by its kernel, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        connection = Connection(MqttConfig(port=hung.getsockname()[1]), "edge", keepalive_s=1)
        connection.start()
        try:
            wait_for(lambda: connection.away == "Keep alive timeout", what="why it is not connected")
        finally:
            connection.stop()


def test_a_goodbye_waits_for_no_name_server() -> None:
    """One that does not answer, as where the plant's network is cut, keeps paho's thread for 20 s."""
    connection, asks, answers = Connection(MqttConfig(), "edge"), threading.Event(), threading.Event()
    connection.before_connect(lambda: bool(asks.set() or answers.wait(30)))
    connection.start()
    try:
        assert asks.wait(5)
        goodbye = threading.Thread(target=connection.stop, daemon=True)
        goodbye.start()
        goodbye.join(10)
        assert not goodbye.is_alive()
    finally:
        answers.set()


def test_a_goodbye_during_a_callback_that_publishes_comes_to_an_end(mosquitto: int) -> None:
    """Told to end just as it was connected again, an edge waited for itself for ever: the callback wrote the DISCONNECT
    that lay before its own message, and paho's `on_disconnect` waits for the callback."""
    connection, reached, told = Connection(MqttConfig(port=mosquitto), "edge"), threading.Event(), threading.Event()

    def say_hello() -> None:
        reached.set()
        told.wait(5)
        connection.publish(TOPIC, b"hello", qos=1)

    connection.on_up(say_hello)
    connection.start()
    assert reached.wait(5)
    goodbye = threading.Thread(target=connection.stop, daemon=True)
    goodbye.start()
    wait_for(lambda: connection._client._ends)
    told.set()
    goodbye.join(5)
    assert not goodbye.is_alive()
