"""From cameras into the inbox: a failing camera is silent and comes back, and no frame number is given twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.station import wait_for
from edge.cameras import pump as pumping
from edge.cameras.folder import FolderCamera
from edge.cameras.pump import CameraPump
from edge.cameras.video import VideoCamera
from edge.config import CameraConfig
from edge.inbox import Inbox
from inspection.errors import CameraError
from inspection.log import set_up_logging
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


def test_a_camera_that_opens_and_gives_nothing_is_asked_now_and_then_and_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A film without a frame, or a picture of another size than the calibration's, was tried and told five times a
    second for as long as it lasted."""
    monkeypatch.setattr(pumping, "FIRST_AGAIN_S", 0.01)
    monkeypatch.setattr(pumping, "AGAIN_S", 0.08)
    set_up_logging("json")
    opened: list[float] = []

    def open_one() -> Scripted:
        opened.append(time.monotonic())
        return Scripted([0])

    def unfit(_frame: Frame) -> Iterable[Frame]:
        raise CameraError("calibrate again")

    pump = CameraPump("cam1", open_one, Kept(), unfit)
    pump.start()
    wait_for(lambda: len(opened) >= 6)
    pump.close()
    assert min(late - early for early, late in pairwise(opened[4:6])) >= 0.08
    assert capsys.readouterr().err.count("calibrate again") == 1


# ── a folder of pictures ────────────────────────────────────────────────────────────────────────────────────────


def folder_of(folder: Path, **more: object) -> FolderCamera:
    return FolderCamera(CameraConfig.model_validate({"type": "folder", "source": str(folder), "fps": 500, **more}))


def shows(folder: Path, number: int) -> None:
    cv2.imwrite(str(folder / f"{number}.png"), np.full((8, 8, 3), 10 * number, np.uint8))


def test_a_picture_that_cannot_be_read_is_a_lost_frame_and_the_next_ones_are_seen(tmp_path: Path) -> None:
    """It began the folder anew: the permit stood, and what lay behind it was never judged."""
    for number in (1, 2, 4):
        shows(tmp_path, number)
    (tmp_path / "3.png").write_bytes((tmp_path / "2.png").read_bytes()[:40])
    (tmp_path / "folder.png").mkdir()
    camera = folder_of(tmp_path)
    seen = [frame for _ in range(6) if (frame := camera.read())]
    assert [(frame.frame_id, int(frame.image[0, 0, 0])) for frame in seen] == [
        (0, 10), (1, 20), (3, 40), (4, 10), (5, 20), (7, 40),
    ]  # fmt: skip


def test_a_picture_of_16_bits_is_a_lost_frame_and_not_a_black_one(tmp_path: Path) -> None:
    """Of a 12-bit camera the upper 8 of 16 bits are nearly nothing: a black picture passed."""
    shows(tmp_path, 1)
    shows(tmp_path, 3)
    deep = np.full((8, 8, 3), 0x0FF0, np.uint16)
    cv2.imwrite(str(tmp_path / "2.png"), deep)
    camera = folder_of(tmp_path)
    seen = [frame for _ in range(2) if (frame := camera.read())]
    assert [(frame.frame_id, int(frame.image[0, 0, 0])) for frame in seen] == [(0, 10), (2, 30)]


def test_a_folder_of_which_nothing_can_be_read_or_something_goes_is_a_failed_camera(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(CameraError, match="holds no picture of 8 bits that OpenCV can read"):
        folder_of(tmp_path).read()
    shows(tmp_path, 1)
    shows(tmp_path, 2)
    camera = folder_of(tmp_path)
    assert camera.read()
    (tmp_path / "2.png").unlink()
    with pytest.raises(CameraError, match=r"2\.png is gone"):
        camera.read()


# ── a film ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("frames", [1, 3])
def test_a_film_that_loops_begins_again_be_it_one_frame_long(tmp_path: Path, frames: int) -> None:
    """Of one frame it was "camera has no more frames", and the camera was not opened again."""
    path = str(tmp_path / "film.avi")
    film = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for number in range(frames):
        film.write(np.full((64, 64, 3), 60 * number, np.uint8))
    film.release()
    camera = VideoCamera(CameraConfig.model_validate({"type": "video", "source": path, "fps": 500}))
    seen = [frame for _ in range(7) if (frame := camera.read())]
    assert [frame.frame_id for frame in seen] == [*range(7)]
    assert [round(int(frame.image[0, 0, 0]) / 60) for frame in seen] == [k % frames for k in range(7)]
