"""One supervised MQTT connection with paho's traps closed.

A callback's exception must not kill paho's thread while `is_connected()` stays true, the backoff must not grow to two
minutes, Nagle must not hold a permit back for 40 ms, a ping must not wait behind a backlog, and a password belongs
into a file.
"""

from __future__ import annotations

import functools
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MessageType, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.config import MqttConfig
from edge.line.prompt_client import PromptClient
from edge.named_files import broker_context, load, secret
from edge.tuning import KERNEL_BYTES
from inspection.errors import ConfigError, MessageError
from inspection.messages import Topics

log = structlog.get_logger()

KEEPALIVE_S = 2
"""Short, so that a half-open connection is noticed; the stop itself never waits for it."""
SHORT_BYTES = 4096
"""A permit has 200; of a live picture paho keeps what does not fit into the socket."""
HEAD_BYTES = 32
"""At most what a packet has before its payload, besides the topic."""
GOODBYE_S = 2.0
"""For paho's thread to end. It may be asking a name server that does not answer, which takes 20 s, and a supervisor
kills an edge that takes 15 s for all of its end."""
ASK_AGAIN_S = 10.0
"""A broker whose rules were mended neither hangs up nor says so: what it refused is asked again this often."""


@dataclass(frozen=True, slots=True)
class Received:
    topic: str
    payload: bytes
    retained: bool


def client_id(topics: Topics, *more: str) -> str:
    """Joined by what no level of a topic contains: joined by anything else two stations' connections may have one id
    (`weld1`'s evidence and `weld1-out`'s permit had), and the broker lets them throw each other out for ever."""
    return "/".join(("haltline", topics.site, topics.line, topics.station, *more))


class Connection:
    """A paho client whose thread is kept alive. Handlers run on that thread and may raise: it is logged and counted."""

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        *,
        session_s: int = 0,
        will: tuple[str, bytes] | None = None,
        keepalive_s: int = KEEPALIVE_S,
    ) -> None:
        self.config = config
        self.connected = False
        self.handler_errors = 0
        self.rejected = 0
        self.away = ""
        """Why the broker could not be reached, or let us in, when it was tried last; empty once it did."""
        self.heard: set[str] = set()
        """Topics of which something has come: a broker may take a subscription and never send anything."""
        self.refused: dict[str, str] = {}
        """`hear TOPIC` or `send TOPIC` -> why the broker does not let us. It never says so of QoS 0, nor, on MQTT
        3.1.1, of anything that is sent. Replaced, never changed: read from other threads."""
        self._asking = threading.Lock()
        self._asked: dict[int, str] = {}
        self._asked_s = 0.0
        self._most_bytes: int | None = None
        self._too_large: set[str] = set()
        self._keepalive_s = keepalive_s
        self._session_s = session_s
        self._subscriptions: list[tuple[str, int, Callable[[Received], None]]] = []
        self._on_up: list[Callable[[], None]] = []
        self._before_connect: list[Callable[[], None]] = [self._renew]
        self._newest: dict[str, MQTTMessageInfo] = {}
        self._v5 = config.protocol == "5"
        self._prompt = config.tls is None
        self._client = self._make(client_id)
        if will:
            self._client.will_set(will[0], will[1], qos=1, retain=True)

    def on(self, topic: str, qos: int, handler: Callable[[Received], None]) -> None:
        """Call `handler` for messages on `topic`; before `start` only."""
        self._subscriptions.append((topic, qos, handler))

    def settled(self) -> bool:
        """Whether every subscription of this connection has its answer, or it was not let in."""
        with self._asking:
            return bool(self.away) or (self.connected and not self._asked)

    def on_up(self, handler: Callable[[], None]) -> None:
        """Call `handler` after each (re)connect, once the subscriptions are sent."""
        self._on_up.append(handler)

    def before_connect(self, handler: Callable[[], None]) -> None:
        """Call `handler` before each CONNECT, the first and every later one."""
        self._before_connect.append(handler)

    def set_will(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """The will of the next CONNECT; the broker keeps the present one for the present connection."""
        self._client.will_set(topic, payload, qos=1, retain=retain)

    def start(self) -> None:
        """Connect in the background and keep trying; a broker that is away is no error here."""
        properties = None
        if self._v5:
            properties = _properties(PacketTypes.CONNECT, SessionExpiryInterval=self._session_s)
        self._client.connect_async(
            self.config.host,
            self.config.port,
            keepalive=self._keepalive_s,
            clean_start=self._session_s == 0 if self._v5 else 3,
            properties=properties,
        )
        self._client.loop_start()

    def supervise(self) -> None:
        """Call every second: starts the network thread again should it have died, and asks for what was refused."""
        if self._client.loop_start() is MQTTErrorCode.MQTT_ERR_SUCCESS:
            log.error("mqtt thread had died and was started again", host=self.config.host)
        if self.connected and self.refused and time.monotonic() - self._asked_s > ASK_AGAIN_S:
            self._subscribe([(topic, qos) for topic, qos, _ in self._subscriptions if f"hear {topic}" in self.refused])

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Hand over to paho; False when it did not take it (not connected, or its queue is full). Never blocks.

        Not before CONNACK: paho would put a packet in front of its own CONNECT, which the broker answers by hanging
        up, and would keep QoS 1 messages in memory, where nobody counts them.
        """
        if not self.connected or not self.fits(topic, payload):
            return False
        if qos == 0 and self._prompt and len(payload) < SHORT_BYTES:
            return self._client.send_at_once(_packet(topic, payload, retain, expiry_s if self._v5 else None, self._v5))
        properties = None
        if self._v5 and expiry_s is not None:
            properties = _expires(expiry_s)
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        return info.rc is MQTTErrorCode.MQTT_ERR_SUCCESS

    def fits(self, topic: str, payload: bytes) -> bool:
        """Whether the broker takes a message of this size. One that it does not ends the connection, and paho would
        send it again after each reconnect: nothing else would ever get through. MQTT 3.1.1 does not tell."""
        size = len(topic) + len(payload) + HEAD_BYTES
        if self._most_bytes is None or size <= self._most_bytes:
            return True
        if topic not in self._too_large:
            self._too_large.add(topic)
            fix = "raise its limit (Mosquitto: max_packet_size), or lower live.width_px in edge.yaml for live pictures"
            log.error("larger than the broker takes, not sent", topic=topic, bytes=size, most=self._most_bytes, fix=fix)
        return False

    def takes_newest(self, of: str) -> bool:
        """Whether the last `publish_newest` of the same name has left for the broker, or went down with a link."""
        before = self._newest.get(of)
        gone = before is None or before.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS or before.is_published()
        return self.connected and gone

    def publish_newest(self, of: str, topic: str, payload: bytes) -> bool:
        """QoS 0, one at a time of each name `of`: False while the one before waits for the socket. paho keeps QoS 0
        without a limit, so that on a link too slow for them pictures would get older and older, all evidence behind
        them."""
        if not self.takes_newest(of) or not self.fits(topic, payload):
            return False
        self._newest[of] = self._client.publish(topic, payload)
        return self._newest[of].rc is MQTTErrorCode.MQTT_ERR_SUCCESS

    def stop(self) -> None:
        self._client.disconnect()
        goodbye = threading.Thread(target=self._client.loop_stop, name="goodbye", daemon=True)  # waits without a limit
        goodbye.start()
        goodbye.join(GOODBYE_S)

    # ── paho ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make(self, client_id: str) -> PromptClient:
        version = MQTTProtocolVersion.MQTTv5 if self._v5 else MQTTProtocolVersion.MQTTv311
        clean = None if self._v5 else self._session_s == 0
        client = PromptClient(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean,
            protocol=version,
            prompt=self._prompt,
        )
        client.max_inflight_messages_set(100)
        client.reconnect_delay_set(1, 5)
        client.on_pre_connect = self._guarded(self._connects)
        client.on_connect = self._guarded(self._connected)
        client.on_connect_fail = self._guarded(self._not_reached)
        client.on_disconnect = self._guarded(self._disconnected)
        client.on_message = self._guarded(self._message)
        client.on_subscribe = self._guarded(self._subscribed)
        client.on_puback = self._guarded(lambda topic, reason: self._note(f"send {topic}", reason))
        client.on_socket_open = self._guarded(_tune)
        self._tls = broker_context(self.config.tls) if self.config.tls else None
        if self._tls:
            client.tls_set_context(self._tls)
        _name(client, self.config)
        return client

    def _renew(self) -> None:
        """Certificates and passwords are replaced while an edge runs, and the broker lets in no old one: read before
        each connect. What does not read, as while somebody replaces it, leaves what was there."""
        try:
            if self._tls and self.config.tls:
                broker_context(self.config.tls)  # whole and fitting, before the one in use is touched
                load(self._tls, self.config.tls)
            _name(self._client, self.config)
        except ConfigError as e:
            log.warning("the broker is asked with what was read before", where=e.where, what=e.what)

    def _guarded(self, handler: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any) -> None:
            try:
                handler(*args)
            except MessageError as e:
                self.rejected += 1
                log.warning("message refused", where=e.where, what=e.what)
            except Exception:
                # Whatever it is, this thread must live: without it neither halts nor resumes travel.
                self.handler_errors += 1
                log.exception("mqtt handler failed")

        return call

    def _connects(self, _client: Client, _userdata: Any) -> None:
        for handler in self._before_connect:
            handler()

    def _not_reached(self, _client: Client, _userdata: Any) -> None:
        """In paho's own `except`: a name nobody knows, a port nobody listens on, a certificate that has expired. Said
        once for each reason, it is tried every few seconds."""
        self._is_away("broker not reached, trying again", str(sys.exc_info()[1]))

    def _is_away(self, event: str, why: str) -> None:
        if why != self.away:
            log.warning(event, host=self.config.host, port=self.config.port, why=why)
        self.away = why

    def _connected(self, _client: Client, _userdata: Any, _flags: Any, reason: Any, properties: Any = None) -> None:
        if reason.is_failure:
            self._is_away("broker refused the connection, trying again", str(reason))
            return
        self.connected, self.away = True, ""
        self._most_bytes = getattr(properties, "MaximumPacketSize", None)
        self._subscribe([(topic, qos) for topic, qos, _ in self._subscriptions])
        for handler in self._on_up:
            handler()

    def _disconnected(self, _client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any = None) -> None:
        self.connected = False
        self.away = self.away or str(reason)  # of a broker that takes connections and hangs there is no other word
        log.info("broker connection ended", host=self.config.host, reason=str(reason))

    def _subscribe(self, wanted: list[tuple[str, int]]) -> None:
        """One by one: an answer to many would not say which, should the broker have left one out."""
        self._asked_s = time.monotonic()
        for topic, qos in wanted:
            with self._asking:  # the answer may come before we know by which number
                _, mid = self._client.subscribe(topic, qos)
                if mid is not None:
                    self._asked[mid] = topic

    def _subscribed(self, _client: Client, _userdata: Any, mid: int, reasons: list[Any], _properties: Any) -> None:
        with self._asking:
            topic = self._asked.pop(mid, None)
        if topic and reasons:
            self._note(f"hear {topic}", reasons[0])

    def _note(self, what: str, reason: Any) -> None:
        """What the broker answered, said when it is another answer than before."""
        if reason.is_failure:
            if what not in self.refused:
                fix = "let it, in the broker's access rules (as deploy/mosquitto/haltline.acl does)"
                log.error("the broker does not let this edge", what=what, why=str(reason), fix=fix)
            self.refused = {**self.refused, what: str(reason)}
        elif what in self.refused:
            self.refused = {other: why for other, why in self.refused.items() if other != what}
            log.info("the broker lets this edge again", what=what)

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self.heard.add(message.topic)
        for topic, _, handler in self._subscriptions:
            if topic == message.topic:
                handler(Received(message.topic, bytes(message.payload), bool(message.retain)))


def _packet(topic: str, payload: bytes, retain: bool, expiry_s: int | None, v5: bool) -> bytes:
    """A PUBLISH of QoS 0 (MQTT 5, 3.3; 3.1.1 has no properties)."""
    command, head = _head(topic, retain, expiry_s, v5)
    size, length = len(head) + len(payload), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return command + length + head + payload


@functools.cache
def _head(topic: str, retain: bool, expiry_s: int | None, v5: bool) -> tuple[bytes, bytes]:
    """The first byte, and what stands between the packet's length and its payload: made once for each topic."""
    name = topic.encode()
    properties = b""
    if v5:
        expires: Any = _properties(PacketTypes.PUBLISH) if expiry_s is None else _expires(expiry_s)
        properties = expires.pack()
    return bytes([MessageType.PUBLISH | retain]), struct.pack("!H", len(name)) + name + properties


@functools.cache
def _expires(after_s: int) -> Properties:
    """Made once for each of the few expiries there are: paho checks every name and value of one anew."""
    return _properties(PacketTypes.PUBLISH, MessageExpiryInterval=after_s)


def _properties(packet: int, **values: int) -> Properties:
    make: Any = Properties  # paho ships no types for it
    properties: Properties = make(packet)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _tune(_client: Client, _userdata: Any, sock: Any) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)


def _name(client: Client, config: MqttConfig) -> None:
    if config.username is not None:
        password = secret("mqtt.password_file", config.password_file) if config.password_file else None
        client.username_pw_set(config.username, password)
