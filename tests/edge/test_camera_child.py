"""A live camera is read in a child process: what it delivers, what it costs, and how it ends."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge.cameras import child, wire
from edge.cameras.child import ChildCamera, without_password
from edge.cameras.fake_stream import FakeStream
from edge.config import CameraConfig
from inspection.errors import CameraError

SIZE = (256, 320)


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    # each picture is one grey level, so that a picture says which one it is
    served = FakeStream([np.full((*SIZE, 3), 20 * k, np.uint8) for k in range(10)], fps=60)
    yield served
    served.close()


def camera(source: str, **more: object) -> ChildCamera:
    return ChildCamera(CameraConfig.model_validate({"type": "opencv", "source": source, **more}))


def read_on(cam: ChildCamera) -> None:
    """Until the source ends or fails."""
    while cam.read():
        pass


def test_pictures_come_whole_in_order_and_with_their_time(stream: FakeStream) -> None:
    cam = camera(stream.url)
    try:
        frames = [cam.read() for _ in range(40)]
    finally:
        cam.close()
    for before, frame in itertools.pairwise(frames):
        assert before
        assert frame
        steps = frame.frame_id - before.frame_id
        assert steps >= 1
        # a lost picture is a gap in frame_id, and never a picture under another's number
        grey, was = int(frame.image.mean().round()), int(before.image.mean().round())
        assert (grey - was) % 200 == pytest.approx(20 * steps % 200, abs=2)
        assert frame.image.std() < 2, "a torn picture shows two grey levels"
        assert frame.captured_ns > before.captured_ns
        assert abs(frame.wall_ms - time.time_ns() / 1e6) < 5000


def test_a_picture_of_which_the_end_is_missing_is_a_lost_frame(stream: FakeStream) -> None:
    """FFmpeg filled it up with the end of the one before, and it was judged as if all of it were new."""
    whole = stream._pictures
    stream._pictures = [data[: len(data) // 2] if k % 2 else data + b"\0" * 64 for k, data in enumerate(whole)]
    cam = camera(stream.url)
    try:
        frames = [cam.read() for _ in range(12)]
    finally:
        cam.close()
    assert all(frame and frame.image.std() < 1 for frame in frames)
    numbers = [frame.frame_id for frame in frames if frame]
    assert all((later - before) % 2 == 0 for before, later in itertools.pairwise(numbers)), "each lost one is a gap"
    stream._pictures = [data[: len(data) // 2] for data in whole]
    with pytest.raises(CameraError, match="its pictures are cut off"):
        camera(stream.url)


def test_a_reader_too_slow_loses_whole_frames_and_their_numbers_say_so(stream: FakeStream) -> None:
    cam = camera(stream.url)
    try:
        first = cam.read()
        assert first
        time.sleep(0.5)  # 30 pictures, for a ring of 4
        ids = [frame.frame_id for frame in (cam.read() for _ in range(8)) if frame]
    finally:
        cam.close()
    assert max(ids) - first.frame_id > len(ids)


def test_a_blocked_read_ends_on_its_deadline_and_its_process_is_gone(stream: FakeStream) -> None:
    cam = camera(stream.url, stall_ms=300)
    assert cam.read()
    pid = cam.child_pid
    stream.stall()
    start = time.monotonic()
    with pytest.raises(CameraError, match="no frame for 300 ms"):
        read_on(cam)
    assert time.monotonic() - start < 1.5
    cam.close()
    assert not psutil.pid_exists(pid)


def test_a_server_that_accepts_and_says_nothing_cannot_hold_the_edge() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(1)
        start = time.monotonic()
        with pytest.raises(CameraError, match="no frame for 1500 ms"):
            camera(f"http://127.0.0.1:{mute.getsockname()[1]}/s.mjpg", open_ms=1500)
        assert time.monotonic() - start < 4


def test_an_unplugged_camera_is_reported_with_what_and_why(stream: FakeStream) -> None:
    cam = camera(stream.url)
    stream.unplug()
    with pytest.raises(CameraError, match=r"cam1: http.*stopped delivering"):
        read_on(cam)
    cam.close()
    with pytest.raises(CameraError, match="OpenCV cannot open it"):
        camera(stream.url)


def test_a_camera_that_found_too_few_descriptors_keeps_none(stream: FakeStream) -> None:
    """It is opened again every other second: what each try kept, nothing else could have."""
    before = sorted(Path("/proc/self/fd").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, hard))
        for _ in range(len(held)):
            with pytest.raises(CameraError, match="Too many open files"):
                camera(stream.url)
            os.close(held.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_close_from_another_thread_ends_a_blocked_read(stream: FakeStream) -> None:
    cam = camera(stream.url, stall_ms=60_000)
    assert cam.read()
    stream.stall()
    threading.Timer(0.3, cam.close).start()
    start = time.monotonic()
    read_on(cam)
    assert time.monotonic() - start < 5
    cam.close()


def test_a_reader_that_is_killed_is_an_error_not_a_hang(stream: FakeStream) -> None:
    cam = camera(stream.url)
    os.kill(cam.child_pid, signal.SIGKILL)
    with pytest.raises(CameraError, match="its reader ended"):
        read_on(cam)
    cam.close()


def test_the_reader_ends_when_the_edge_is_killed_even_while_its_read_blocks(stream: FakeStream) -> None:
    program = (
        "import time; from edge.cameras.child import ChildCamera; from edge.config import CameraConfig\n"
        f"cam = ChildCamera(CameraConfig(type='opencv', source='{stream.url}', stall_ms=60000))\n"
        "print(cam.child_pid, flush=True); time.sleep(60)"
    )
    edge = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=child.ROOT)
    try:
        assert edge.stdout
        reader = psutil.Process(int(edge.stdout.readline()))
        stream.stall()
        time.sleep(0.2)
    finally:
        edge.kill()
        edge.wait()
    _, alive = psutil.wait_procs([reader], 5)
    assert not alive


def test_the_reader_loads_nothing_heavy(stream: FakeStream) -> None:
    cam = camera(stream.url)
    try:
        loaded = Path(f"/proc/{cam.child_pid}/maps").read_text()
        rss_mib = psutil.Process(cam.child_pid).memory_info().rss / 2**20
    finally:
        cam.close()
    for heavy in ("onnxruntime", "pydantic_core", "cryptography", "torch"):
        assert heavy not in loaded
    assert rss_mib < 120


def test_many_openings_leave_no_process_and_no_descriptor(stream: FakeStream) -> None:
    def held() -> tuple[int, int]:
        fds = [p for p in Path("/proc/self/fd").iterdir() if p.is_symlink() and "socket" not in str(p.readlink())]
        return len(psutil.Process().children()), len(fds)

    camera(stream.url).close()
    before = held()
    for k in range(6):
        cam = camera(stream.url)
        if k % 2:
            cam.read()
            os.kill(cam.child_pid, signal.SIGSTOP)  # a process that answers to nothing but SIGKILL
        cam.close()
        with pytest.raises(CameraError):
            camera("http://127.0.0.1:9/none", open_ms=2000)
    assert held() == before


def test_a_password_in_a_url_is_neither_logged_nor_listed(stream: FakeStream) -> None:
    assert without_password("rtsp://kim:secret@10.0.0.9:554/ch1?x=1") == "rtsp://10.0.0.9:554/ch1?x=1"
    assert without_password("0") == "0"
    url = stream.url.replace("http://", "http://kim:secret@")
    cam = camera(url)
    try:
        assert "secret" not in " ".join(psutil.Process(cam.child_pid).cmdline())
        stream.unplug()
        with pytest.raises(CameraError) as failed:
            read_on(cam)
        assert "secret" not in str(failed.value)
    finally:
        cam.close()


def test_a_message_survives_its_way() -> None:
    header = wire.Header(wire.FRAME, 3, 0, 512, 640, 2**40, 2**60, 1_795_190_000_000)
    assert wire.Header.decode(header.encode()) == header
    assert len(wire.error("ä" * 5000)) <= 4096, "longer than PIPE_BUF it could be written in pieces"


def test_a_triggered_camera_may_be_silent_for_longer_than_its_deadline(stream: FakeStream) -> None:
    cam = camera(stream.url, stall_ms=0, open_ms=5000)
    try:
        assert cam.read()
        stream.stall()
        threading.Timer(1.5, stream.flow).start()
        start = time.monotonic()
        frames = [cam.read() for _ in range(20)]
        assert all(frames)
        assert time.monotonic() - start > 1.3
    finally:
        cam.close()
