"""What the hub is made of and the order in which it starts and stops. Only `app.create_app` builds one."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import select

from inspection.errors import ConfigError
from inspection.messages import Conn, Message, PlcState, Topics
from review import audit, export, rollout
from review.backup import Backups
from review.broadcast import Broadcaster
from review.clock import wall_ms
from review.frame_cache import FrameCache
from review.frames import FolderFrames, FrameStore
from review.live import Live
from review.mqtt_in import MqttIn
from review.performance import Counted
from review.recent import Recent
from review.registry import Registry
from review.settings import Settings
from review.shared import Shared
from review.store import Station, Store
from review.writer import Writer

__all__ = ["Hub", "wall_ms"]


@dataclass(slots=True)
class Hub:
    """Handed to every route."""

    settings: Settings
    store: Store
    frames: FrameStore
    images: FrameCache
    live: Live
    news: Broadcaster
    writer: Writer
    mqtt: MqttIn
    backups: Backups
    shared: Shared
    counted: Counted
    recent: Recent

    @staticmethod
    def build(settings: Settings) -> Hub:
        """Opens folders and database and brings the schema up to date."""
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        store = Store(settings.database)
        store.must_write()
        store.migrate()
        audit.keep(store, settings.data_dir)
        with suppress(ConfigError):  # PINs go on; a badge that is read is refused with why
            settings.badge_key()  # made now, and not by the first command
        frames, live, news = FolderFrames(settings.frames_dir), Live(), Broadcaster()
        frames.settle()
        Registry(settings.bundles_dir).settle()
        export.settle()
        writer = Writer(store, frames, news.tell)
        mqtt = MqttIn(settings.mqtt, settings.mqtt_client_id(), live, news.tell, writer.offer)
        writer.done, writer.publish = mqtt.done, mqtt.publish
        images, backups = FrameCache(frames), Backups(settings, store)
        hub = Hub(settings, store, frames, images, live, news, writer, mqtt, backups, Shared(), Counted(), Recent())
        mqtt.on_up = hub._say_again
        return hub

    def start(self) -> None:
        self._remember_stations()
        self.writer.start()
        self.mqtt.start()

    def stop(self) -> None:
        """The ear first, then what it fills."""
        self.mqtt.stop()
        self.writer.stop()
        self.recent.close()
        self.store.close()

    def publish(self, topics: Topics, message: Message) -> bool:
        """Send one message to a station; False when it could not be handed to the broker."""
        return self.mqtt.publish(topics, message)

    def connected(self) -> bool:
        return self.mqtt.connected

    def hears(self) -> bool:
        """Whether what stations send comes, as far as the hub can know."""
        return self.mqtt.connected and not self.mqtt.deaf

    def failing(self) -> str:
        """Why nothing can be stored right now; empty when it can."""
        return self.writer.failing

    def counts(self) -> Counter[str]:
        return self.mqtt.counts + self.writer.counts

    def _say_again(self) -> None:
        """What the stations were asked to serve: the broker may have restarted, and forgotten it."""
        rollout.say_again(self.store, self.publish)

    def _remember_stations(self) -> None:
        """A station that is silent since the hub started is shown as not inspecting, not left out."""
        with self.store.reading() as session:
            for s in session.scalars(select(Station)):
                if s.retired_ms is not None:
                    self.live.retire(s.key)
                    continue
                conn = Conn(state=s.conn, boot=0) if s.conn in ("ONLINE", "OFFLINE", "BROKEN") else None  # type: ignore[arg-type]
                plc = None
                if s.plc in ("RUNNING", "TRIPPED", "READY"):
                    plc = PlcState(state=s.plc, why=s.plc_why, ts_ms=s.plc_ms)  # type: ignore[arg-type]
                self.live.know(Topics(s.site, s.line, s.station), conn, plc)
