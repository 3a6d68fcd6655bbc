"""What a station tells people beside the line contract: the film before a halt, what it runs on, a camera's test.

None of it is part of the stop. The rules of `messages.py` hold here too: what does not decode is refused.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from inspection.messages import U53, Message, Nonce, Text, Uid
from inspection.samples import Sha256

FILM_FRAMES = 20
"""So many frames before a halt are shown with it; the one that completed it is one more."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FilmRule(_Part):
    """The limits of the class that stopped the line. Score from `hi` on calls for a stop, below `lo` is a pass; `k` of
    the last `n` judged frames halt. `h`: nats at which the sum (CUSUM) halts, 0 where there is none; `window`: whether
    k of n counts at all."""

    lo: float
    hi: float
    limit_mm: float
    k: int
    n: int
    window: bool = True
    h: float = 0.0


class FilmFrame(_Part):
    """One frame as the guard took it. `score`, `length_mm`: of the halt's class; a score of None is a frame nobody
    judged. `stop`: this frame alone calls for a stop. `hits`, `nats`: the evidence with this frame added."""

    frame_id: int
    ts_ms: U53
    score: float | None = None
    length_mm: float = 0.0
    stop: bool = False
    hits: int = 0
    nats: float = 0.0


class FilmEvent(Message):
    """The last frames before a halt, oldest first, the completing one last, and what the guard made of each.

    `image`: sha256 of one JPEG with all of them as tiles, `columns` in a row, each `tile_w_px` x `tile_h_px`.
    Uploaded and sent like a record, until the hub acknowledges `uid`.
    """

    TOPIC: ClassVar[str] = "evt/film"

    uid: Uid
    halt: Annotated[int, Field(ge=1, le=2**32 - 1)]
    camera: Text
    cls: Text
    rule: FilmRule | None = None
    frames: Annotated[tuple[FilmFrame, ...], Field(min_length=1, max_length=64)]
    image: Sha256
    columns: Annotated[int, Field(ge=1, le=64)]
    tile_w_px: Annotated[int, Field(ge=1, le=4096)]
    tile_h_px: Annotated[int, Field(ge=1, le=4096)]


class About(Message):
    """What a station really runs on, as its doctor found it, and the configuration it runs with (no secrets: those
    lie in files that it only names). Retained; renewed once a minute."""

    TOPIC: ClassVar[str] = "state/about"
    RETAIN: ClassVar[bool] = True

    boot: Annotated[int, Field(ge=0, le=2**32 - 1)]
    facts: dict[str, Any]
    """Section -> name -> value, for people: machine, model, cameras, disk."""
    config: dict[str, Any]
    disk_free_bytes: U53
    spool_pending: U53
    spool_bytes: U53
    spool_quota_bytes: U53
    ts_ms: U53


class CameraTest(Message):
    """A person asks what a camera gives right now."""

    TOPIC: ClassVar[str] = "cmd/camera"
    EXPIRY_S: ClassVar[int | None] = 5

    camera: Annotated[str, Field(min_length=1, max_length=80)]
    nonce: Nonce
    who: Annotated[str, Field(min_length=1, max_length=64)]


class CameraAnswer(Message):
    """What the camera gave while it was watched for a second. `ok`: frames come and can be judged."""

    TOPIC: ClassVar[str] = "evt/camera"
    QOS: ClassVar[int] = 0

    camera: Text
    nonce: Nonce
    ok: bool
    why: Text
    state: Literal["live", "silent", "unknown"]
    fps: float = 0.0
    age_ms: float = 0.0
    width_px: int = 0
    height_px: int = 0
    brightness: float = 0.0
    """Mean grey, 0 to 255."""
    sharpness: float = 0.0
    """Variance of the Laplacian."""
    ts_ms: U53


STATION_MESSAGES: tuple[type[Message], ...] = (FilmEvent, About, CameraTest, CameraAnswer)


def film_uid(base: str, halt: int) -> str:
    return hashlib.sha256(f"{base}:film:{halt}".encode()).hexdigest()[:32]
