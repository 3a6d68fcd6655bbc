"""The film before a halt: the last frames, small, and what the guard made of each. For people at the hub.

While nothing happens a frame costs a reference and no copy; tiles are made when there is a halt, on the spool's
thread. A camera whose frames are too large to be held is thinned by whole px as they come.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from edge.ports import Moment
from edge.spool import RANK_CONTEXT, Item, Spool
from inspection.bundle import sha256
from inspection.events import Action, Event, Judged, RaiseHalt
from inspection.evidence import Level
from inspection.messages import Topics
from inspection.policy import ClassPolicy, Policy, judge
from inspection.station_messages import FILM_FRAMES, FilmEvent, FilmFrame, FilmRule, film_uid
from inspection.types import Frame, HaltReport, Image

FILM_BYTES = 20 * 2**20
"""What one camera's film may hold in memory: 20 frames of 640 x 512 as they are, larger ones thinned."""
TILE_W_PX = 480
COLUMNS = 7
JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Shot:
    frame_id: int
    wall_ms: int
    image: Image
    event: Event
    levels: Mapping[str, Level]


class Film:
    """Implements `ports.Recorder`. `levels`: the guard's evidence for a camera, by class; `policy`: the one it holds.

    `held`: so many of the last frames are held by somebody else as well, and not counted twice."""

    def __init__(
        self,
        spool: Spool,
        topics: Topics,
        levels: Callable[[str], Mapping[str, Level]],
        policy: Callable[[], Policy],
        held: int = 0,
    ) -> None:
        self._spool, self._topics, self._levels, self._policy, self._held = spool, topics, levels, policy, held
        self._rings: dict[str, deque[Shot]] = {}

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        frame = moment.frame
        if frame is None:
            return
        ring = self._rings.setdefault(frame.camera, deque(maxlen=FILM_FRAMES + 1))
        levels = self._levels(frame.camera) if isinstance(moment.event, Judged) else {}
        ring.append(Shot(frame.frame_id, frame.wall_ms, held_small(frame.image), moment.event, levels))
        for action in actions:
            if isinstance(action, RaiseHalt):
                self._send(action.report, frame, tuple(ring))

    def _send(self, report: HaltReport, frame: Frame, shots: tuple[Shot, ...]) -> None:
        policy = self._policy()
        apart = shots[: max(0, len(shots) - 1 - self._held)] if shots[-1].image is frame.image else shots
        cost = sum(shot.image.nbytes for shot in apart)

        def make() -> Item:
            jpeg, width, height = contact_sheet([shot.image for shot in shots])
            event = FilmEvent(
                uid=film_uid(self._topics.base, report.halt),
                halt=report.halt,
                camera=frame.camera,
                cls=report.cls,
                rule=rule_of(policy, report.cls),
                frames=tuple(_told(shot, policy, report.cls) for shot in shots),
                image=sha256(jpeg),
                columns=COLUMNS,
                tile_w_px=width,
                tile_h_px=height,
            )
            return Item(event.uid, self._topics.of(FilmEvent), event.encode(), RANK_CONTEXT, (jpeg,))

        self._spool.offer(make, RANK_CONTEXT, cost)


def held_small(image: Image) -> Image:
    """The frame itself where 20 of them fit into FILM_BYTES, else every n-th px of it, copied."""
    step = math.ceil(math.sqrt(FILM_FRAMES * image.nbytes / FILM_BYTES))
    return image if step <= 1 else np.ascontiguousarray(image[::step, ::step])


def contact_sheet(images: list[Image]) -> tuple[bytes, int, int]:
    """All frames as tiles of one JPEG, COLUMNS in a row; its bytes and a tile's width and height in px."""
    height, width = images[-1].shape[:2]
    scale = min(1.0, TILE_W_PX / width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    rows = math.ceil(len(images) / COLUMNS)
    sheet = np.zeros((rows * h, COLUMNS * w, 3), np.uint8)
    for n, image in enumerate(images):
        y, x = n // COLUMNS * h, n % COLUMNS * w
        sheet[y : y + h, x : x + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise OSError("the film could not be encoded as JPEG")
    return bytes(data), w, h


def rule_of(policy: Policy, cls: str) -> FilmRule | None:
    rule: ClassPolicy | None = next((rule for rule in policy.classes if rule.cls == cls), None)
    if rule is None:
        return None
    total = rule.cusum
    window = total is None or rule.beside
    return FilmRule(
        lo=rule.lo, hi=rule.hi, limit_mm=rule.limit_mm, k=rule.k, n=rule.n, window=window, h=total.h if total else 0.0
    )


def _told(shot: Shot, policy: Policy, cls: str) -> FilmFrame:
    if not isinstance(shot.event, Judged):
        return FilmFrame(frame_id=shot.frame_id, ts_ms=shot.wall_ms)
    call = judge(shot.event.scores, shot.event.findings, policy)
    level = shot.levels.get(cls, Level())
    return FilmFrame(
        frame_id=shot.frame_id,
        ts_ms=shot.wall_ms,
        score=shot.event.scores.get(cls),
        length_mm=max((f.length_mm for f in shot.event.findings if f.cls == cls), default=0.0),
        stop=cls in call.defects,
        hits=level.hits,
        nats=level.nats,
    )
