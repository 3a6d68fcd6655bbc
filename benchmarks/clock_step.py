"""A wall clock that can be stepped for chosen processes, while this machine's own stays as it is.

A small library, preloaded, adds an offset to what the C library says of CLOCK_REALTIME; the offset stands in a mapped
file, so that it changes under a running process, as a clock does that somebody sets. The monotonic clock is untouched.
A wait until an absolute wall time would hang or return at once, more than under a real step: nothing on the stop path
may have one. (Debian 12's libfaketime ends every `time.sleep` of Python 3.11 with EINVAL when it leaves the monotonic
clock alone: wolfcw/libfaketime#426.)
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

HOUR_S = 3600
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset_s;

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("CLOCK_STEP_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(0, sizeof *offset_s, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) offset_s = at;
    close(fd);
}

static int64_t offset(void) { return offset_s ? *offset_s : 0; }

int clock_gettime(clockid_t clock, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real ? real(clock, t) : (int)syscall(SYS_clock_gettime, clock, t);
    if (!rc && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) t->tv_sec += offset();
    return rc;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""


class SteppedClock:
    """Processes started with `env` have this clock. `step(s)`: from now on it is `s` seconds off."""

    def __init__(self, folder: Path) -> None:
        source, library, offset = folder / "clock.c", folder / "clock.so", folder / "clock-offset"
        source.write_text(SOURCE)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        offset.write_bytes(bytes(8))
        with offset.open("r+b") as f:
            self._map = mmap.mmap(f.fileno(), 8)
        self.offset_s = 0
        self.env = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_STEP_FILE": str(offset)}

    def step(self, offset_s: int) -> None:
        self._map[:] = struct.pack("=q", offset_s)
        self.offset_s = offset_s

    def close(self) -> None:
        self._map.close()


def can_step() -> bool:
    """Whether a C compiler is here: the library is built where it is used."""
    return shutil.which("cc") is not None
