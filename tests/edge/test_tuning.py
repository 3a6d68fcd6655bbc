"""Threads that give way do so to their own process: not to everything else on the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAY = """
import os, threading
from edge.tuning import yield_to_others
os.setpriority(os.PRIO_PROCESS, 0, 3)
said = []
def work():
    yield_to_others(5)
    said.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(said[0], os.getpriority(os.PRIO_PROCESS, os.getpid()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_a_thread_gives_way_by_so_much_below_its_process() -> None:
    done = subprocess.run([sys.executable, "-c", SAY], capture_output=True, text=True, check=True)
    nice = 3
    assert done.stdout.split() == [str(nice + 5), str(nice)]


TURNS = """
import ctypes, platform, struct, threading
from edge.tuning import yield_to_others
GETATTR = {"x86_64": 315, "aarch64": 275}[platform.machine()]
def turn_ns():
    told = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(GETATTR, 0, told, 48, 0) == 0
    return struct.unpack("=IIQiIQQQ", told.raw)[5]
def work():
    own = turn_ns()
    yield_to_others(5)
    long = turn_ns()
    yield_to_others(0)
    print(own, long, turn_ns())
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has turns to ask for")
def test_a_thread_that_gives_way_can_be_interrupted_at_once_and_takes_that_back() -> None:
    done = subprocess.run([sys.executable, "-c", TURNS], capture_output=True, text=True, check=True)
    own, long, after = map(int, done.stdout.split())
    # Linux 6.12 is the first with turns of a thread's own; an older one says 0, and must be left as it was.
    assert long >= 10 * own
    assert (long > 0) == (own > 0)
    assert after == own


GIVE_BACK = """
from pathlib import Path
from edge.tuning import settle
def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
parts = [bytearray(100_000) for _ in range(600)]
last = parts[-1]
del parts
before = rss()
settle()
print(before - rss())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc gives memory back when told to")
def test_what_only_the_start_needed_goes_back_to_the_system() -> None:
    """60 MB freed under something that stays: the allocator alone would keep them."""
    done = subprocess.run([sys.executable, "-c", GIVE_BACK], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000
