"""From cameras into the inbox: a failing camera is silent and comes back, and no frame number is given twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from benchmarks.station import wait_for
from edge.cameras import pump as pumping
from edge.cameras.pump import CameraPump
from edge.inbox import Inbox
from inspection.errors import CameraError
from inspection.types import Frame


class Scripted:
    """Implements `ports.Camera`: these frame ids, then a failure."""

    name = "cam1"

    def __init__(self, ids: list[int]) -> None:
        self._ids = iter(ids)
        self.closed = threading.Event()

    def read(self) -> Frame:
        number = next(self._ids, None)
        if number is None:
            raise CameraError("unplugged")
        return Frame("cam1", number, 1, 1, np.zeros((2, 2, 3), np.uint8), 1.0)

    def close(self) -> None:
        self.closed.set()


class Blocking(Scripted):
    def __init__(self) -> None:
        super().__init__([])

    def read(self) -> Frame:
        self.closed.wait(10)
        raise CameraError("closed")


class Kept(Inbox):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[int] = []

    def put(self, arrival: object) -> None:
        assert isinstance(arrival, Frame)
        self.ids.append(arrival.frame_id)


def pump_of(cameras: list[Scripted], inbox: Inbox) -> CameraPump:
    left: Iterator[Scripted] = iter(cameras)

    def open_next() -> Scripted:
        camera = next(left, None)
        if camera is None:
            raise CameraError("still unplugged")
        return camera

    return CameraPump("cam1", open_next, inbox)


def test_numbers_go_on_over_a_reopening_and_gaps_stay_gaps() -> None:
    cameras = [Scripted([0, 1, 3]), Scripted([0, 1]), Scripted([900, 901]), Scripted([0])]
    inbox = Kept()
    pump = pump_of(cameras, inbox)
    pump.start()
    wait_for(lambda: len(inbox.ids) == 8 and pump.failures >= 4, what="eight frames, and the last camera gone")
    pump.close()
    assert inbox.ids == [0, 1, 3, 4, 5, 900, 901, 902]
    assert all(camera.closed.is_set() for camera in cameras)
    assert pump.failures >= 4


def test_closing_ends_a_blocked_read() -> None:
    camera = Blocking()
    pump = pump_of([camera], Kept())
    pump.start()
    wait_for(lambda: pump.camera is camera)
    pump.close()
    pump._thread.join(2)
    assert not pump._thread.is_alive()
    assert pump.failures == 0, "an end that was asked for is no failure"


def test_a_camera_opened_while_the_edge_ends_is_closed() -> None:
    camera, opening = Blocking(), threading.Event()

    def slow() -> Blocking:
        opening.wait(5)
        return camera

    pump = CameraPump("cam1", slow, Kept())
    pump.start()
    pump.close()
    opening.set()
    assert camera.closed.wait(2)


def test_a_camera_that_stays_away_is_asked_less_often() -> None:
    assert pumping.FIRST_AGAIN_S < pumping.AGAIN_S <= 2
