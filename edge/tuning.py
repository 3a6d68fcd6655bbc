"""What the process is told once, before its first frame, so that threads do not wait for each other."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import struct
import sys
import threading

import cv2

SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while the frame path waits: Python's 5 ms are a halt's whole way."""

LONG_TURN_NS = 100_000_000
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""The system call's number (asm/unistd_64.h, asm-generic/unistd.h)."""

KERNEL_BYTES = 65536
"""What the kernel may hold of one connection to the broker or the hub (Linux takes it twice). By itself it takes up to
4 MB, which a slow link carries for minutes: the answer to a ping then comes after the keepalive, that to a file after
its timeout, and what works is ended, again and again."""


def tune() -> None:
    """For the whole process. OpenCV's own threads spin when they are done, on the core the model needs next, and a
    frame of 640x512 px is resized no faster by two of them."""
    sys.setswitchinterval(SWITCH_S)
    cv2.setNumThreads(1)


def settle() -> None:
    """When everything is loaded and running: what is here now stays, so that no later collection walks through it, and
    what only the start needed goes back to the system."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def yield_to_others(by: int) -> None:
    """Lower the calling thread's priority by so much below its process's: what it does may come later than a halt, or
    than a live picture. An edge that somebody set above the rest of the machine keeps all its threads above it.

    Priority alone only says who gets more: a frame that is ready still waited up to 4 ms, a tick of the kernel, for the
    thread that was encoding. Whoever asks for long turns is interrupted at once by all who did not (Linux 6.12 and
    newer). SCHED_IDLE would do the same and starve a thread that holds the interpreter, and the frame path with it."""
    with contextlib.suppress(AttributeError, OSError):  # only Linux has priorities of threads
        own = os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own + by)
        _ask_for_turns_of(LONG_TURN_NS if by > 0 else 0, own + by)


def _ask_for_turns_of(turn_ns: int, nice: int) -> None:
    """sched_setattr(2) for the calling thread, which neither Python nor the C library has; 0 is the kernel's own turn.
    A kernel that does not know it, or an older one that does not heed it, leaves all as it was."""
    number = SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    # struct sched_attr, its first version: size, policy, flags, nice, priority, runtime, deadline, period.
    attributes = struct.pack("=IIQiIQQQ", 48, os.sched_getscheduler(0), 0, nice, 0, turn_ns, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)
