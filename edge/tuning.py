"""What the process is told once, before its first frame, so that threads do not wait for each other."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading

import cv2

SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while the frame path waits: Python's 5 ms are a halt's whole way."""


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
    than a live picture. An edge that somebody set above the rest of the machine keeps all its threads above it."""
    with contextlib.suppress(AttributeError, OSError):  # only Linux has priorities of threads
        own = os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own + by)
