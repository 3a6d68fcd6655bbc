"""The hub's ear and mouth on the broker: one paho client on one thread of its own.

What only pages need (permits, pictures) updates memory here. What must last goes to the writer, and its PUBACK is
sent only after the commit: a hub that dies in between is told again by the broker, which keeps its session.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from inspection.errors import ConfigError, MessageError
from inspection.live_picture import LIVE_TOPIC, LivePicture
from inspection.messages import (
    PERMIT_SHORT_TOPIC,
    AckEvent,
    Conn,
    HaltEvent,
    Heartbeat,
    Message,
    ModelReported,
    Permit,
    PlcState,
    RecordEvent,
    ResumeAnswer,
    StopAnswer,
    Tally,
    Topics,
    VerdictEvent,
)
from inspection.station_messages import About, CameraAnswer, FilmEvent
from review.broadcast import News
from review.clock import wall_ms
from review.live import Live, Now
from review.settings import MqttSettings
from review.writer import Arrival

log = structlog.get_logger("review.mqtt")

FILTERS = tuple(
    (f"haltline/v1/+/+/+/{part}", qos)
    for part, qos in (("state/#", 1), ("evt/#", 1), ("plc/#", 1), ("model/reported", 1), ("live/picture", 0))
)
IN_FLIGHT = 100
"""Unacknowledged messages the broker may have on the way to us: the writer's queue can never hold more."""
SESSION_S = 7 * 24 * 3600
"""How long the broker keeps halts and records for a hub that is away."""
KEEPALIVE_S = 5
ECHO_TOPIC, ECHO = "haltline/v1/hub/hub/hub/evt/ack", AckEvent(uids=("0" * 32,)).encode()
"""An acknowledgement for no edge: the hub may send it and, where it hears anything, hears it."""
ECHO_S, ASK_AGAIN_S = 5.0, 10.0
READ_BYTES = 65536
"""Of one read: some 200 packets, handled before anything else on that thread."""

_STATES = (Permit, Conn, Heartbeat, PlcState, ModelReported, About, CameraAnswer)
_EVENTS = (HaltEvent, ResumeAnswer, StopAnswer, VerdictEvent, RecordEvent, Tally, FilmEvent)
KINDS: dict[str, type[Message]] = {kind.TOPIC: kind for kind in (*_STATES, *_EVENTS)}
NOT_FOR_US = {PERMIT_SHORT_TOPIC, "evt/ack"}


class BufferedClient(mqtt.Client):
    """paho, but it reads all that has come at once, and handles all of it before it looks for more.

    paho asks the system for a packet's first byte, its length and its body one by one, and for one packet a round: four
    calls, and after each it waits up to 5 ms for the interpreter while a page is being made. 200 stations say 1,000
    packets a second.
    """

    _left, _at = b"", 0

    def _create_socket(self) -> Any:
        self._left, self._at = b"", 0  # the rest of a connection that broke is no part of the next
        return super()._create_socket()

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._at >= len(self._left):
            self._left, self._at = super()._sock_recv(READ_BYTES), 0
        found = self._left[self._at : self._at + bufsize]
        self._at += len(found)
        return found

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        rc = super().loop_read(max_packets)
        while rc is MQTTErrorCode.MQTT_ERR_SUCCESS and self._at < len(self._left):
            rc = super().loop_read(max_packets)
        return rc


class MqttIn:
    """`offer` takes what must last. Start once, stop once."""

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        live: Live,
        tell: Callable[[News], None],
        offer: Callable[[Arrival], None],
    ) -> None:
        self._settings, self._live, self._tell, self._offer = settings, live, tell, offer
        self.counts: Counter[str] = Counter()
        """`received`, `undecodable`, `callback_errors`, `thread_restarts`: loss is counted, never only logged."""
        self.connected = False
        self.away = ""
        """Why the broker is not there; empty while it is, and before the first try."""
        self.deaf = ""
        """Why what stations send does not come though the broker is there; empty where nothing is known of it."""
        self._heard_before, self._echo = 0, -1
        self.on_up: Callable[[], None] = lambda: None
        """Called after each connect, on a thread of its own: a database that is slow must not end the connection."""
        self._stopping = threading.Event()
        self._client = self._make_client(client_id)
        self._thread = threading.Thread(target=self._run, name="mqtt-in", daemon=True)
        # Else paho writes on whatever thread publishes or acknowledges, beside the one that reads: an SSL object is not
        # for two threads at a time, and over TLS the broker ended the connection of a busy hub every few seconds.
        self._client._thread = self._thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._client.disconnect()
        self._thread.join(timeout=3)

    def publish(self, topics: Topics, message: Message) -> bool:
        """Hand one message to paho; False when it was refused or the broker is away, so that the caller can say so."""
        if not self.connected:
            return False
        properties = None
        if self._settings.version == 5 and message.EXPIRY_S is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = message.EXPIRY_S
        sent = self._client.publish(
            topics.of(type(message)), message.encode(), message.QOS, message.RETAIN, properties=properties
        )
        return sent.rc == mqtt.MQTT_ERR_SUCCESS

    def done(self, mid: int, qos: int) -> None:
        """PUBACK: what this message said is committed, or can never be."""
        self._client.ack(mid, qos)

    def _make_client(self, client_id: str) -> mqtt.Client:
        s = self._settings
        v5 = s.version == 5
        client = BufferedClient(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if v5 else False,
            protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
            manual_ack=True,
        )
        if s.user:
            client.username_pw_set(s.user, s.password.get_secret_value() if s.password else None)
        self._tls = _tls(s) if s.ca_file else None
        if self._tls:
            client.tls_set_context(self._tls)
        client.reconnect_delay_set(1, 5)
        client.on_pre_connect = self._guarded(self._renew)
        client.on_connect = self._guarded(self._on_connect)
        client.on_connect_fail = self._guarded(self._on_connect_fail)
        client.on_disconnect = self._guarded(self._on_disconnect)
        client.on_message = self._guarded(self._on_message)
        client.on_subscribe = self._guarded(self._on_subscribe)
        client.on_publish = self._guarded(self._on_publish)
        client.on_socket_open = self._guarded(_no_delay)
        if v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
            properties.ReceiveMaximum = IN_FLIGHT
            client.connect_async(s.host, s.port, KEEPALIVE_S, clean_start=False, properties=properties)
        else:
            client.connect_async(s.host, s.port, KEEPALIVE_S)
        return client

    def _run(self) -> None:
        """Paho's loop, started again if it ever ends: a dead thread would look like a silent factory."""
        while not self._stopping.is_set():
            try:
                self._client.loop_forever(retry_first_connection=True)
            except Exception:
                log.exception("mqtt loop ended, starting it again")
            self.connected = False
            if not self._stopping.wait(1):
                self.counts["thread_restarts"] += 1

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """An exception in a callback would kill paho's thread while `is_connected()` stays true."""

        def call(*args: Any) -> None:
            try:
                callback(*args)
            except Exception:
                self.counts["callback_errors"] += 1
                log.exception("mqtt callback failed")

        return call

    def _renew(self, _client: mqtt.Client, _data: Any) -> None:
        """Certificates are replaced while a hub runs, and the broker lets in no old one: read before each connect. What
        does not read, as while somebody replaces it, leaves what was there."""
        if self._tls is None:
            return
        try:
            _tls(self._settings)  # whole and fitting, before the one in use is touched
            _load(self._tls, self._settings)
        except ConfigError as e:
            log.warning("the broker is asked with what was read before", where=e.where, what=e.what)

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        """In paho's own `except`: a name nobody knows, a port nobody listens on, a certificate that has expired. Said
        once for each reason, it is tried every few seconds."""
        self._is_away("broker not reached, trying again", str(sys.exc_info()[1]))

    def _is_away(self, event: str, why: str) -> None:
        if why != self.away:
            log.warning(event, host=self._settings.host, port=self._settings.port, why=why)
        self.away = why

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._is_away("broker refuses the hub", str(reason))
            return
        client.subscribe(list(FILTERS))
        self.connected, self.away, self.deaf = True, "", ""
        self._heard_before = self.counts["received"]
        log.info("connected to broker", host=self._settings.host, port=self._settings.port)
        self._tell(News("line", ""))
        threading.Thread(target=self._guarded(self.on_up), name="mqtt-up", daemon=True).start()

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        # A refusal has said why; what paho makes of its end says less.
        if not self._stopping.is_set() and (self.connected or not self.away):
            self._is_away("broker lost", str(reason))
        self.connected = False
        self._tell(News("line", ""))

    def _on_subscribe(self, client: mqtt.Client, _data: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        refused = [topic for (topic, _qos), reason in zip(FILTERS, reasons, strict=False) if reason.is_failure]
        if refused:
            self._is_deaf(f"it does not let the hub hear {', '.join(refused)}")
            self._later(ASK_AGAIN_S, lambda: client.subscribe(list(FILTERS)))
            return
        if self.deaf:
            self._heard_before = self.counts["received"]
        self.deaf = ""
        if self._settings.version == 5:  # 3.1.1 would not say that it was not let send
            self._echo = client.publish(ECHO_TOPIC, ECHO, 1).mid

    def _on_publish(self, client: mqtt.Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        if mid == self._echo and not reason.is_failure:
            self._later(ECHO_S, lambda: self._look_for_echo(client))

    def _look_for_echo(self, client: mqtt.Client) -> None:
        """An ACL file of Mosquitto takes every subscription and then delivers nothing."""
        if self.counts["received"] == self._heard_before:
            self._is_deaf("it takes the hub's subscriptions and delivers nothing, not even what the hub itself sent")
            self._echo = client.publish(ECHO_TOPIC, ECHO, 1).mid

    def _is_deaf(self, why: str) -> None:
        if why != self.deaf:
            fix = "mend its access rules (deploy/mosquitto/haltline.acl)"
            log.error("the broker keeps from the hub what stations send", why=why, fix=fix)
            self._tell(News("line", ""))
        self.deaf = why

    def _later(self, after_s: float, work: Callable[[], object]) -> None:
        def call() -> None:
            if self.connected and not self._stopping.is_set():
                work()

        timer = threading.Timer(after_s, self._guarded(call))
        timer.daemon = True
        timer.start()

    def _on_message(self, client: mqtt.Client, _data: Any, raw: mqtt.MQTTMessage) -> None:
        self.counts["received"] += 1
        if self.deaf:
            self.deaf = ""
            log.info("the broker delivers again")
        kept = False
        try:
            kept = self._take(raw)
        except MessageError as e:
            self.counts["undecodable"] += 1
            log.warning("message refused", topic=raw.topic, what=e.what, fix=e.fix)
        finally:
            if not kept and raw.qos:
                client.ack(raw.mid, raw.qos)

    def _take(self, raw: mqtt.MQTTMessage) -> bool:
        """True when the writer has it now and will acknowledge it."""
        topics, path = Topics.parse(raw.topic)
        if self._live.ignores(topics, retained=raw.retain):
            return False
        now_ns = time.monotonic_ns()
        if path == LIVE_TOPIC:
            self._on_picture(topics, LivePicture.decode(bytes(raw.payload)), now_ns)
            return False
        if path in NOT_FOR_US:
            return False
        if path not in KINDS:
            raise MessageError(raw.topic, "no such message", "see deploy/plc/schemas")
        message = KINDS[path].decode(bytes(raw.payload))
        if not self._show(topics, message, now_ns, retained=raw.retain):
            return False
        self._offer(Arrival(topics, message, raw.mid, raw.qos))
        return True

    def _on_picture(self, topics: Topics, picture: LivePicture, now_ns: int) -> None:
        self._live.picture(topics, picture, now_ns)
        key = f"{topics.site}~{topics.line}~{topics.station}"
        told = {"frame": picture.frame_id, "call": picture.call, "at_ms": wall_ms(), "camera": picture.camera}
        # News of one kind and key replace each other, and those of two cameras must not; pages know them by station.
        self._tell(News("picture", f"{key}/{picture.camera}", {"key": key, **told}))

    def _show(self, topics: Topics, message: Message, now_ns: int, *, retained: bool) -> bool:
        """Update what pages see now; True when the message must also be stored."""
        match message:
            case Permit():
                # A retained permit is the past: it names the station and proves nothing about now.
                self._live.know(topics)
                if not retained:
                    self._live.permit(topics, message, now_ns)
                return False
            case Heartbeat():
                self._live.heartbeat(topics, now_ns)
                return False
            case Conn():
                self._live.conn(topics, message)
            case PlcState():
                self._live.plc(topics, message)
            case ModelReported():
                self._live.model(topics, message)
            case About():
                self._live.about(topics, message, now_ns)
                self._tell(News("system", Now(topics).key))
                return False
            case CameraAnswer():
                self._live.answer(topics, message)
                self._tell(News("system", Now(topics).key))
                return False
            case StopAnswer():
                self._live.stop_answer(topics, message)
            case VerdictEvent():
                return False
        return True


def _tls(s: MqttSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, s)
    return context


def _load(context: ssl.SSLContext, s: MqttSettings) -> None:
    """The files as they are now, into a context that may hold earlier ones: the hub's own certificate is replaced,
    another authority is trusted beside the one before."""
    try:
        context.load_verify_locations(s.ca_file)
    except OSError as e:
        raise ConfigError("mqtt.ca_file", f"{s.ca_file}: {e}", "name the broker's CA certificate (PEM)") from e
    if s.cert_file:
        try:
            # Without a password OpenSSL would ask for it at a terminal, and wait.
            context.load_cert_chain(s.cert_file, s.key_file, password="")
        except OSError as e:
            fix = "name a certificate and its key (PEM), without a passphrase"
            raise ConfigError("mqtt.cert_file", f"{s.cert_file}: {e}", fix) from e


def _no_delay(_client: mqtt.Client, _data: Any, sock: socket.socket) -> None:
    """Nagle's algorithm costs 78 ms per acknowledged message on loopback; without it 0.6 ms."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
