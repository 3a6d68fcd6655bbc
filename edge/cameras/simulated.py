"""A rendered seam under a camera, for the demo and the tests: it moves while the line runs and stops with it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection

from edge.cameras.pacing import Pace
from edge.config import CameraConfig
from inspection.errors import CameraError
from inspection.render import TASKS, DefectSpec, Seam
from inspection.types import Frame

PR_SET_PDEATHSIG = 1
SPEED_MM_S = 15.0
TAKEN_OFF_S = 3.0
"""So long after a stop the bad part has been taken off and the next one lies under the camera."""
LENGTHS_MM = {"porosity": 2.2, "undercut": 6.0, "burn_through": 4.0, "scratch": 4.5}


class SimulatedCamera:
    """Implements `ports.Camera`. Each part is a strip with one defect in its last third; `source` is the task.

    `line_runs` is set by whoever hears the line's state; None = nobody does, and the seam moves on.
    """

    def __init__(self, config: CameraConfig) -> None:
        self.name = config.name
        self._config = config
        self.task = config.source or "weld"
        if self.task not in TASKS:
            raise CameraError(f"the simulated camera knows {sorted(TASKS)}, not {self.task!r}")
        self.line_runs: bool | None = None
        self._pace = Pace(config.fps)
        self._parts = [_part(self.task, config, 0)]
        self._frame_id, self._index, self._part_no = -1, 0, 0
        self._stopped_ns = 0
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        self._artist = context.Process(target=_draw, args=(theirs, self.task, config), daemon=True)
        self._artist.start()
        theirs.close()
        threading.Thread(target=self._collect_parts, args=(ours,), name="simulated-parts", daemon=True).start()

    def read(self) -> Frame | None:
        if not self._pace.wait():
            return None
        self._frame_id += 1
        self._move()
        seam = self._parts[self._part_no % len(self._parts)]
        # Light and noise follow the frame's number: a stopped seam stands still, but its picture is not frozen.
        image = seam.frame(self._index, flicker=self._frame_id).image
        now_ns, wall_ms = time.monotonic_ns(), time.time_ns() // 1_000_000
        return Frame(self.name, self._frame_id, now_ns, wall_ms, image, seam.px_per_mm)

    def close(self) -> None:
        self._pace.stop()
        self._artist.kill()

    def _move(self) -> None:
        if self.line_runs is not False:
            self._stopped_ns = 0
            self._index += 1
            seam = self._parts[self._part_no % len(self._parts)]
            if self._index * seam.step_px > seam.strip_px - seam.width_px:
                self._next_part()
            return
        now_ns = time.monotonic_ns()
        if self._stopped_ns == 0:
            self._stopped_ns = now_ns
        elif self._index and now_ns - self._stopped_ns > TAKEN_OFF_S * 1e9:
            self._next_part()

    def _next_part(self) -> None:
        self._part_no, self._index = self._part_no + 1, 0

    def _collect_parts(self, ours: Connection) -> None:
        try:
            while True:
                self._parts.append(ours.recv())
        except (EOFError, OSError):  # all drawn, or closed
            ours.close()


def _draw(theirs: Connection, task: str, config: CameraConfig) -> None:
    """In a process of its own, at the lowest priority: a second or two of drawing would hold up the frames. It ends
    with its parent, also when that is killed."""
    os.nice(19)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in range(1, 2 * len(TASKS[task].classes)):
        theirs.send(_part(task, config, number))
    theirs.close()


def _part(task: str, config: CameraConfig, number: int) -> Seam:
    length_mm = SPEED_MM_S * config.defect_every_s
    classes = TASKS[task].classes
    cls = classes[number % len(classes)]
    defect = DefectSpec(cls, LENGTHS_MM.get(cls, 3.0), at_mm=(0.75 * length_mm, 0.5 * 512 / config.px_per_mm))
    return Seam(
        task,
        config.seed + number,
        length_mm=length_mm,
        defects=[defect],
        speed_mm_s=SPEED_MM_S,
        fps=config.fps,
        px_per_mm=config.px_per_mm,
    )
