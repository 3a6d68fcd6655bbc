"""The live picture of a camera, for people: the one message of the line contract that is not JSON alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.errors import MessageError
from inspection.messages import MESSAGE_MAX_BYTES, Text, V

LIVE_TOPIC = "live/picture"


class LiveRegion(BaseModel):
    """An inspected part of a camera's picture: its place as shares (0 to 1) of width and height, and its call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text
    x: float
    y: float
    w: float
    h: float
    call: Text


class _LiveHead(BaseModel):
    """The line of JSON before the JPEG."""

    model_config = ConfigDict(extra="forbid", strict=True)

    v: V = 1
    camera: Text
    frame_id: int
    ts_ms: int
    call: Text
    regions: tuple[LiveRegion, ...] = Field(default=(), max_length=8)
    heat_bytes: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class LivePicture:
    """A small JPEG for people, a few times a second, QoS 0, on the evidence connection.

    `regions`: what of it is inspected. `heat`: the heat map over the whole picture as a grey PNG, empty while all of it
    is cold. On the wire: one line of JSON, a newline, the JPEG's bytes, the PNG's.
    """

    camera: str
    frame_id: int
    ts_ms: int
    call: str
    jpeg: bytes
    regions: tuple[LiveRegion, ...] = ()
    heat: bytes = b""

    def encode(self) -> bytes:
        head = _LiveHead(
            camera=self.camera, frame_id=self.frame_id, ts_ms=self.ts_ms, call=self.call, regions=self.regions,
            heat_bytes=len(self.heat),
        )  # fmt: skip
        return head.model_dump_json().encode() + b"\n" + self.jpeg + self.heat

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        line, _, jpeg = payload.partition(b"\n")
        if not jpeg.startswith(b"\xff\xd8") or len(payload) > MESSAGE_MAX_BYTES:
            raise MessageError(LIVE_TOPIC, "body is no JPEG of at most 256 KiB", "JSON line, newline, JPEG")
        try:
            head = _LiveHead.model_validate_json(line)
        except ValidationError as e:
            what = e.errors()[0]["msg"]
            raise MessageError(LIVE_TOPIC, f"header does not read: {what}", "JSON line, newline, JPEG") from e
        end = len(jpeg) - head.heat_bytes
        heat = jpeg[end:]
        if end < 2 or not (not heat or heat.startswith(b"\x89PNG")):
            raise MessageError(
                LIVE_TOPIC, f"{head.heat_bytes} bytes of heat map are no PNG", "JSON line, newline, JPEG, PNG"
            )
        return cls(head.camera, head.frame_id, head.ts_ms, head.call, jpeg[:end], head.regions, heat)
