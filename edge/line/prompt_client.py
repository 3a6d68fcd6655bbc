"""paho's client, for a line that must not wait for its network thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo, time_func
from paho.mqtt.enums import MessageType, MQTTErrorCode


class PromptClient(Client):
    """paho, but what is published leaves on the thread that publishes it.

    paho hands a packet to its network thread, which must wake up and get the interpreter's lock before the broker gets
    the halt: 0.3 ms and more. Here every write holds one lock, so that two threads cannot tear a packet, and what the
    socket does not take at once is left to the network thread, errors too. Not over TLS: an SSL object is not for two
    threads at a time, and its reader is the network thread.
    """

    def __init__(self, *args: Any, prompt: bool, **more: Any) -> None:
        self._prompt = prompt
        self.on_puback: Callable[[str, Any], None] | None = None
        self._writing = threading.RLock()
        self._ends = False
        super().__init__(*args, **more)

    def _packet_write(self) -> MQTTErrorCode:
        with self._writing:
            return super()._packet_write()

    def _packet_queue(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> MQTTErrorCode:
        kind = command & 0xF0
        if kind == MessageType.PINGREQ:
            # paho queues it behind everything and counts the time until its answer from then on: a backlog of more than
            # a keepalive or two would end a connection that works. The rest of a packet already begun must go first; of
            # TLS nobody knows what it has begun, and it takes nothing but the same bytes again.
            with self._writing:
                begun = bool(self._out_packet) and (not self._prompt or self._out_packet[0]["pos"] > 0)
                self._out_packet.insert(int(begun), _waiting(command, packet, mid, qos, info))
            self._wake_network_thread()
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        if kind == MessageType.DISCONNECT:
            with self._writing:
                self._ends = True
                return super()._packet_queue(command, packet, mid, qos, info)
        if not self._prompt or kind != MessageType.PUBLISH:
            return super()._packet_queue(command, packet, mid, qos, info)
        with self._writing:
            self._out_packet.append(_waiting(command, packet, mid, qos, info))
            # Whoever writes a DISCONNECT calls `on_disconnect`, which waits for the callback that runs now: a callback
            # that publishes while somebody says goodbye would wait for itself, and the edge never end.
            if not self._ends:
                self._packet_write()
            left = bool(self._out_packet)
        if left:
            self._wake_network_thread()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def send_at_once(self, packet: bytes) -> bool:
        """A whole QoS 0 PUBLISH past paho's own `publish`, which costs 0.2 ms where nothing is warm: one system call.
        False when there is no socket, or a broken one, which the network thread finds out by itself."""
        with self._writing:
            sock: Any = self._sock
            if sock is None:
                return False
            sent = 0
            if not self._out_packet:
                try:
                    sent = sock.send(packet)
                except BlockingIOError:
                    pass
                except OSError:
                    return False
            if sent == len(packet):
                self._last_msg_out = time_func()
                return True
            self._out_packet.append(_waiting(MessageType.PUBLISH, packet, 0, 0, MQTTMessageInfo(0), sent))
        self._wake_network_thread()
        return True

    def _do_on_publish(self, mid: int, reason_code: Any, properties: Any) -> MQTTErrorCode:
        """A PUBACK. Not by paho's `on_publish`: that is called for QoS 0 too, by whoever publishes, who would wait for
        every other callback, and callbacks wait for the permit's lock, which is held while it is published."""
        message = self._out_messages.get(mid)
        if message and self.on_puback:
            self.on_puback(message.topic, reason_code)
        return super()._do_on_publish(mid, reason_code, properties)

    def _wake_network_thread(self) -> None:
        if self._sockpairW is not None:
            with contextlib.suppress(BlockingIOError):
                self._sockpairW.send(b"0")


def _waiting(command: int, packet: bytes, mid: int, qos: int, info: Any, sent: int = 0) -> Any:
    """A packet as paho's queue holds it."""
    left = len(packet) - sent
    return {"command": command, "mid": mid, "qos": qos, "pos": sent, "to_process": left, "packet": packet, "info": info}
