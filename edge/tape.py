"""`haltline edge run --record FILE`: every event and what the guard answered, written off the frame path.

Bounded twice: what waits in memory, where losing an event is counted and said in the file, and what lies on disk,
where the recording begins anew and the one before it is kept as FILE.1.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import cv2
import structlog

from edge.ports import Moment
from inspection.errors import StorageError
from inspection.events import Action, Event
from inspection.recording import Head, Shot, at_ns, head_line, lost_line, step_line
from inspection.types import Frame

log = structlog.get_logger()

WAITING = 1000
WAITING_FRAMES = 30
FLUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class TapeConfig:
    """What `--record` asks for. `frames`: a folder that takes every picture as PNG, within the same bound."""

    path: Path
    max_mb: int = 256
    frames: Path | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    event: Event
    actions: list[Action]
    frame: Frame | None
    shot: Shot | None


class Tape:
    """Implements `ports.Recorder`. `head` is what its guard was made of."""

    def __init__(self, config: TapeConfig, head: Head) -> None:
        path, frames = config.path, config.frames
        self.path, self._head, self._frames = path, head, frames
        self._max_bytes = config.max_mb * 2**20
        self.lost = 0
        self._untold = 0
        self._picture_bytes = 0
        self._waiting: queue.Queue[_Entry | None] = queue.Queue(WAITING)
        self._waiting_frames = threading.Semaphore(WAITING_FRAMES)
        try:
            if frames:
                frames.mkdir(parents=True, exist_ok=True)
            self._file = self._begin()
        except OSError as e:
            raise StorageError(f"{e.filename or path}: {e.strerror}\n  fix: --record takes a file to write") from e
        self._thread = threading.Thread(target=self._work, name="record", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        # A picture is a megabyte: few of them may wait, and an event without its picture is still worth keeping.
        keeps = self._frames and moment.frame and self._waiting_frames.acquire(blocking=False)
        frame = moment.frame if keeps else None
        shot = Shot(frame.wall_ms, frame.px_per_mm) if frame else None
        try:
            self._waiting.put_nowait(_Entry(moment.event, list(actions), frame, shot))
        except queue.Full:
            self.lost += 1
            if frame:
                self._waiting_frames.release()

    def close(self) -> None:
        try:
            self._waiting.put(None, timeout=1)
        except queue.Full:
            log.error("the recording is behind; its end is lost", path=str(self.path))  # noqa: TRY400 - why is known
        self._thread.join(timeout=5)

    def _work(self) -> None:
        try:
            while (entry := self._next()) is not None:
                self._write(entry)
        except Exception:
            log.exception("recording failed; the edge goes on without it", path=str(self.path))
        finally:
            self._file.close()

    def _next(self) -> _Entry | None:
        while True:
            try:
                return self._waiting.get(timeout=FLUSH_S)
            except queue.Empty:
                self._file.flush()

    def _write(self, entry: _Entry) -> None:
        if self.lost > self._untold:
            self._file.write(lost_line(self.lost - self._untold) + "\n")
            self._untold = self.lost
        shot = entry.shot if self._take_picture(entry) else None
        self._file.write(step_line(entry.event, entry.actions, shot) + "\n")
        self._head = replace(self._head.after(entry.event, entry.actions), now_ns=at_ns(entry.event))
        if self._file.tell() > self._max_bytes:
            self._file.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._file = self._begin()

    def _begin(self) -> TextIO:
        file = self.path.open("w", encoding="utf-8")
        file.write(head_line(self._head) + "\n")
        return file

    def _take_picture(self, entry: _Entry) -> bool:
        if not (self._frames and entry.frame):
            return False
        self._waiting_frames.release()
        if self._picture_bytes > self._max_bytes:
            return False
        ok, data = cv2.imencode(".png", entry.frame.image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not ok:
            return False
        picture_path(self._frames, entry.frame.camera, entry.frame.frame_id).write_bytes(data.tobytes())
        self._picture_bytes += data.nbytes
        return True


def picture_path(folder: Path, camera: str, frame_id: int) -> Path:
    """A region's name has a slash, which no file name can have and no camera's name has an @."""
    return folder / f"{camera.replace('/', '@')}-{frame_id:08d}.png"
