"""What the hub is made of, handed to every route. Only `app.create_app` builds one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from review.broadcast import Broadcaster
from review.frames import FolderFrames, FrameStore
from review.live import Live
from review.settings import Settings
from review.store import Store

if TYPE_CHECKING:
    from inspection.messages import Message, Topics


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _not_connected(_topics: Topics, _message: Message) -> bool:
    return False


@dataclass(slots=True)
class Hub:
    """`publish(topics, message)` sends one message to a station; False when it could not be handed to the broker."""

    settings: Settings
    store: Store
    frames: FrameStore
    live: Live
    news: Broadcaster
    publish: Callable[[Topics, Message], bool] = field(default=_not_connected)

    @staticmethod
    def build(settings: Settings) -> Hub:
        """Opens folders and database and brings the schema up to date."""
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        store = Store(settings.database)
        store.migrate()
        return Hub(settings, store, FolderFrames(settings.frames_dir), Live(), Broadcaster())
