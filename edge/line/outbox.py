"""The evidence connection: events, records, pictures out; acknowledgements and model orders in.

Apart from the permit's connection: whatever piles up here, a halt is not behind it.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.config import MqttConfig
from edge.line.connection import Connection, Received, client_id
from inspection.live_picture import LIVE_TOPIC, LivePicture
from inspection.messages import AckEvent, Message, ModelDesired, ModelReported, Topics

SESSION_S = 24 * 3600


class Outbox:
    """Sends what the spool and the guard have to say. Durable is only what the hub acknowledged by uid."""

    def __init__(self, config: MqttConfig, topics: Topics) -> None:
        self.topics = topics
        # The session outlives a broken link, so that acknowledgements sent meanwhile still come.
        self.connection = Connection(config, client_id(topics, "out"), session_s=SESSION_S, keepalive_s=10)
        self._reported: ModelReported | None = None
        self.connection.on_up(self._report_again)

    def on_ack(self, handler: Callable[[tuple[str, ...]], None]) -> None:
        def receive(received: Received) -> None:
            handler(AckEvent.decode(received.payload).uids)

        self.connection.on(self.topics.of(AckEvent), 1, receive)

    def on_model_desired(self, handler: Callable[[ModelDesired], None]) -> None:
        def receive(received: Received) -> None:
            handler(ModelDesired.decode(received.payload))

        self.connection.on(self.topics.of(ModelDesired), 1, receive)

    def start(self) -> None:
        self.connection.start()

    def close(self) -> None:
        self.connection.stop()

    def publish_event(self, message: Message) -> bool:
        topic = self.topics.of(type(message))
        return self.connection.publish(topic, message.encode(), message.QOS, message.RETAIN, message.EXPIRY_S)

    def takes_live(self, camera: str) -> bool:
        """Whether the link has taken the picture before of this camera."""
        return self.connection.takes_newest(camera)

    def publish_live(self, picture: LivePicture) -> bool:
        """QoS 0: a picture nobody receives is not worth a second try."""
        return self.connection.publish_newest(picture.camera, self.topics.of(LIVE_TOPIC), picture.encode())

    def report_model(self, reported: ModelReported) -> None:
        self._reported = reported
        self.publish_event(reported)

    def _report_again(self) -> None:
        if self._reported:
            self.publish_event(self._reported)
