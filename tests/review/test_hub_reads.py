"""The hub's MQTT client reads many packets at once: none may be torn, lost or taken over into the next connection."""

from __future__ import annotations

import socket
import threading

from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.station import wait_for
from review.mqtt_in import READ_BYTES, BufferedClient

TOPIC = "haltline/v1/test/line1/reads/live/picture"


def test_packets_of_every_size_come_whole_and_in_order(mosquitto: int) -> None:
    """Many in one read, some over several, and a read that ends inside a packet's length."""
    sizes = [(n * 37) % 400 for n in range(400)] + [READ_BYTES - 1, READ_BYTES, 3 * READ_BYTES, 0, 1, 127, 128, 16384]
    sent = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    heard: list[bytes] = []
    up = threading.Semaphore(0)
    ear = BufferedClient(CallbackAPIVersion.VERSION2)
    ear.on_connect = lambda *_: ear.subscribe(TOPIC, 1)
    ear.on_subscribe = lambda *_: up.release()

    def take(_client: object, _data: object, message: MQTTMessage) -> None:
        heard.append(bytes(message.payload))

    ear.on_message = take
    ear.reconnect_delay_set(1, 1)
    ear.connect("127.0.0.1", mosquitto)
    ear.loop_start()
    mouth = BufferedClient(CallbackAPIVersion.VERSION2)
    mouth.max_inflight_messages_set(100)
    mouth.connect("127.0.0.1", mosquitto)
    mouth.loop_start()
    try:
        assert up.acquire(timeout=5)
        for payload in sent:
            mouth.publish(TOPIC, payload, qos=1)
        wait_for(lambda: len(heard) >= len(sent), 20)
        assert heard == sent

        ear._left, ear._at = b"the rest of a packet", 0
        sock = ear.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        assert up.acquire(timeout=10), "it did not come back"
        mouth.publish(TOPIC, b"after", qos=1)
        wait_for(lambda: heard[-1] == b"after", 5)
    finally:
        for client in (ear, mouth):
            client.disconnect()
            client.loop_stop()
