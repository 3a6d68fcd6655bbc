"""An edge's spool in a process that will be killed: offers evidence and says on stdout what is durable.

`python -m benchmarks.storage_child FOLDER MQTT_PORT HUB_URL FIRST COUNT`
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.storage_rig import Sender, flagged
from deploy.broker import die_with_parent
from edge.spool import Item


def main(folder: str, port: str, hub_url: str, first: str, count: str) -> None:
    sender = Sender(Path(folder), int(port), hub_url, again_s=2.0, say=_say)
    os.write(1, b"ready\n")
    for item in flagged(int(first), int(count)):
        while not _offered(sender, item):
            time.sleep(0.002)
    sender.spool.flush()
    os.write(1, b"done\n")
    time.sleep(3600)


def _offered(sender: Sender, item: Item) -> bool:
    return sender.spool.offer(lambda: item, item.rank)


def _say(uid: str) -> None:
    # Unbuffered: what the parent has read was said before the kill.
    os.write(1, f"{uid}\n".encode())


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL)
    main(*sys.argv[1:6])
