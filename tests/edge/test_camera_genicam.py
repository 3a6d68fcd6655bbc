"""Industrial cameras: libaravis against its own fake camera on loopback, pylon against its emulation."""

from __future__ import annotations

import ctypes.util
import importlib.util
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.station import wait_for
from edge.cameras.child import ChildCamera
from edge.cameras.clock import DeviceClock, WholeIds
from edge.cameras.pixels import BAYER8, BGR8, MONO8, RGB8, picture
from edge.cameras.pump import CameraPump
from edge.config import CameraConfig
from edge.inbox import Inbox
from inspection.errors import CameraError
from inspection.types import Frame
from tests.conftest import missing

FAKE = Path(__file__).with_name("fake_gv_camera.py")


@contextmanager
def fake_camera(lost_per_thousand: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    if ctypes.util.find_library("aravis-0.8") is None:
        missing("libaravis-0.8-0")
    fake = subprocess.Popen([sys.executable, str(FAKE), "HL01", str(lost_per_thousand)], stdout=subprocess.PIPE)
    try:
        assert fake.stdout
        assert fake.stdout.readline() == b"running\n"
        yield fake
    finally:
        fake.kill()
        fake.wait()


def camera(**more: object) -> ChildCamera:
    settings = {"type": "genicam", "source": "127.0.0.1", "width_px": 320, "height_px": 256, **more}
    return ChildCamera(CameraConfig.model_validate(settings))


def test_frames_carry_the_cameras_own_number_and_time() -> None:
    with fake_camera():
        cam = camera()
        try:
            frames = [frame for frame in (cam.read() for _ in range(30)) if frame]
        finally:
            cam.close()
    assert frames[0].image.shape == (256, 320, 3)
    steps = [(b.captured_ns - a.captured_ns) / 1e6 / (b.frame_id - a.frame_id) for a, b in itertools.pairwise(frames)]
    assert np.median(steps) == pytest.approx(33.3, rel=0.1)
    assert all(0 <= time.monotonic_ns() - frame.captured_ns < 10e9 for frame in frames)


def test_frames_with_lost_packets_are_left_out_and_their_numbers_are_missing() -> None:
    with fake_camera(lost_per_thousand=5):
        cam = camera(stall_ms=5000)
        try:
            ids = [frame.frame_id for frame in (cam.read() for _ in range(40)) if frame]
        finally:
            cam.close()
    assert ids == sorted(set(ids))
    assert ids[-1] - ids[0] > len(ids), "a loss must show as a gap"


def test_an_unplugged_camera_is_noticed_and_comes_back_within_ten_seconds() -> None:
    seen: list[Frame] = []

    class Kept(Inbox):
        def put(self, arrival: object) -> None:
            assert isinstance(arrival, Frame)
            seen.append(arrival)

    pump = CameraPump("cam1", camera, Kept())
    try:
        with fake_camera():
            pump.start()
            wait_for(lambda: len(seen) > 5, what="frames")
        wait_for(lambda: pump.failures, what="the failure")
        time.sleep(1)
        with fake_camera():
            plugged, had = time.monotonic(), len(seen)
            wait_for(lambda: len(seen) > had, 12, "the camera's return")
            assert time.monotonic() - plugged < 10
    finally:
        pump.close()
    ids = [frame.frame_id for frame in seen]
    assert ids == sorted(set(ids)), "a number given twice would be two records with one name"


def test_no_camera_is_an_error_that_says_so() -> None:
    if ctypes.util.find_library("aravis-0.8") is None:
        missing("libaravis-0.8-0")
    with pytest.raises(CameraError, match="cam1: 127"):
        camera(open_ms=5000)


def test_a_basler_camera_in_pylons_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("pypylon") is None:
        pytest.skip("pypylon is not installed (an extra: pip install 'haltline[basler]')")
    monkeypatch.setenv("PYLON_CAMEMU", "1")
    cam = ChildCamera(CameraConfig.model_validate({"type": "pylon", "width_px": 640, "height_px": 512}))
    try:
        ids = [frame.frame_id for frame in (cam.read() for _ in range(20)) if frame]
    finally:
        cam.close()
    assert ids[-1] - ids[0] >= 19
    with pytest.raises(CameraError, match="cam1"):
        ChildCamera(CameraConfig.model_validate({"type": "pylon", "source": "12345678"}))


def test_device_time_is_told_on_our_clock_without_what_transport_added() -> None:
    clock, rng, offset = DeviceClock(), np.random.default_rng(0), 7_000_000_000_000
    late_ms = []
    for k in range(1000):
        true_ns = offset + k * 33_000_000
        arrived = true_ns + 2_000_000 + int(rng.exponential(5e6))
        late_ms.append((clock.captured(k * 33_000_000 + 1, arrived) - true_ns) / 1e6)
    assert max(late_ms[50:]) - min(late_ms[50:]) < 0.5
    assert 1.5 < np.median(late_ms) < 2.6
    assert clock.captured(0, 123) == 123, "a device without a clock"


def test_clocks_may_drift() -> None:
    clock = DeviceClock()
    for k in range(1, 5000):
        device = k * 33_000_000
        off_ms = (clock.captured(device, round(device * 1.0001) + 1_000_000) - round(device * 1.0001)) / 1e6
        assert -2.5 < off_ms < 2.5  # 100 ppm over two windows of 10 s


def test_ids_wrap_and_restart_without_a_loss_that_was_none() -> None:
    ids = WholeIds()
    assert [ids.whole(k) for k in (65_533, 65_534, 65_535, 1, 2, 5)] == [0, 1, 2, 3, 4, 7]
    assert ids.whole(0) == 8, "a restart"


@pytest.mark.parametrize("code", sorted(BAYER8))
def test_bayer_patterns_give_their_colours(code: int) -> None:
    pattern = {0x01080008: "GRBG", 0x01080009: "RGGB", 0x0108000A: "GBRG", 0x0108000B: "BGGR"}[code]
    raw = np.zeros((16, 16), np.uint8)
    for k, colour in enumerate(pattern):
        raw[k // 2 :: 2, k % 2 :: 2] = {"R": 200, "G": 100, "B": 20}[colour]
    assert picture(raw.ravel(), 16, 16, code)[8, 8].tolist() == [20, 100, 200]


def test_other_formats() -> None:
    rgb = np.arange(48, dtype=np.uint8)
    assert (picture(rgb, 4, 4, BGR8) == rgb.reshape(4, 4, 3)).all()
    assert (picture(rgb, 4, 4, RGB8) == cv2.cvtColor(rgb.reshape(4, 4, 3), cv2.COLOR_RGB2BGR)).all()
    assert picture(rgb, 4, 4, MONO8).shape == (4, 4)
    with pytest.raises(OSError, match="0x01100007 is not Mono8"):
        picture(rgb, 4, 4, 0x01100007)
