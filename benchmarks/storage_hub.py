"""The hub, which dies by its own hand at the moment a file names: `done` is after the commit and before the broker's
acknowledgement, `publish` after that and before the edge's. `python -m benchmarks.storage_hub FILE serve …`"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from deploy.broker import die_with_parent
from inspection.messages import AckEvent, Message, Topics
from review.cli import app
from review.mqtt_in import MqttIn


def arm(dies_at: Path) -> None:
    done, publish = MqttIn.done, MqttIn.publish

    def dying_done(self: MqttIn, mid: int, qos: int) -> None:
        _die(dies_at, "done")
        done(self, mid, qos)

    def dying_publish(self: MqttIn, topics: Topics, message: Message) -> bool:
        if isinstance(message, AckEvent):
            _die(dies_at, "publish")
        return publish(self, topics, message)

    MqttIn.done, MqttIn.publish = dying_done, dying_publish  # type: ignore[method-assign]


def _die(dies_at: Path, moment: str) -> None:
    if dies_at.exists() and dies_at.read_text() == moment:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL)
    arm(Path(sys.argv.pop(1)))
    app()
