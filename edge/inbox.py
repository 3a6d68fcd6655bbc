"""The one queue into the frame path. When frames come faster than they are judged the oldest *frame* goes.

A stop, a resume, a trigger or a fault is never dropped, and a tick is not queued twice: one says as much as ten. Orders
overtake frames, so that none waits behind pictures.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from edge.ports import Ready, Serve
from inspection.events import FaultFound, FaultOver, MaintenanceOrdered, PartArrived, ResumeAsked, StopAsked, Tick
from inspection.types import Frame

Arrival = (
    Frame | Ready | Tick | ResumeAsked | StopAsked | PartArrived | FaultFound | FaultOver | MaintenanceOrdered | Serve
)


class Inbox:
    """Bounded in frames, thread-safe. Iterating ends when it is closed.

    `max_frames` per camera: more would only add latency, since a frame that waits is a stop that comes late.
    """

    def __init__(self, max_frames: int = 2) -> None:
        self._max = max_frames
        self._orders: deque[Arrival] = deque()
        self._frames: deque[Frame | Ready] = deque()
        self._tick: Tick | None = None
        self._closed = False
        self._ready = threading.Condition()
        self.dropped = 0

    def put(self, arrival: Arrival) -> None:
        with self._ready:
            if isinstance(arrival, Tick):
                self._tick = arrival
            elif isinstance(arrival, Frame | Ready):
                self._put_frame(arrival)
            else:
                self._orders.append(arrival)
            self._ready.notify()

    def _put_frame(self, frame: Frame | Ready) -> None:
        camera = frame_of(frame).camera
        places = [k for k, one in enumerate(self._frames) if frame_of(one).camera == camera]
        if len(places) < self._max:
            self._frames.append(frame)
            return
        self.dropped += 1  # shows in the gap of frame_id, which the guard counts
        # A camera's newer frames move up into its own places. Behind those of the others it would lose its turn with
        # each frame that goes, and on an edge a tenth too slow some cameras would hardly ever be judged.
        for place, later in pairwise(places):
            self._frames[place] = self._frames[later]
        self._frames[places[-1]] = frame

    def waiting(self, camera: str) -> int:
        """How many of this camera's frames have not been taken."""
        with self._ready:
            return sum(frame_of(one).camera == camera for one in self._frames)

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def __iter__(self) -> Iterator[Arrival]:
        while (arrival := self._take()) is not None:
            yield arrival

    def _take(self) -> Arrival | None:
        with self._ready:
            while not self._closed:
                if self._orders:
                    return self._orders.popleft()
                if self._tick:
                    tick, self._tick = self._tick, None
                    return tick
                if self._frames:
                    return self._frames.popleft()
                self._ready.wait()
            return None


def frame_of(arrival: Frame | Ready) -> Frame:
    return arrival.frame if isinstance(arrival, Ready) else arrival
