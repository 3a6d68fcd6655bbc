"""Every MQTT payload of the line contract: encode, decode, reject.

The permit is a *level*, not an alarm: `run` 1 many times a second means the line may run; its absence stops the line.
A payload that does not decode is refused with `MessageError`, never half-read.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from inspection.errors import ConfigError, MessageError
from inspection.samples import Sha256
from inspection.types import Code

VERSION: Literal[1] = 1
PERMIT_PERIOD_MS = 250
PERMIT_MAX_BYTES = 200
MESSAGE_MAX_BYTES = 256 * 1024


def _whole(value: object) -> object:
    """Python and pydantic take True and 1.0 for 1; a PLC's parser may not."""
    if type(value) is not int:
        raise ValueError("must be an integer")
    return value


def _without_nul(value: object) -> object:
    """A PLC pads its strings with U+0000, and PostgreSQL stores none. Refused for it, a stop would not be done, and a
    halt or record that lies on an edge's disk would be sent for ever: so the padding goes, and one inside is shown."""
    return value.rstrip("\0").replace("\0", "\ufffd") if isinstance(value, str) else value


def _without_padding(value: object) -> object:
    return value.rstrip("\0") if isinstance(value, str) else value


V = Annotated[Literal[1], BeforeValidator(_whole)]
Run = Annotated[Literal[0, 1], BeforeValidator(_whole)]
U32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
U53 = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""What a PLC or browser that keeps numbers as doubles can still hold exactly."""
Plain = Annotated[str, BeforeValidator(_without_nul)]
Text = Annotated[Plain, Field(max_length=400)]
Uid = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Nonce = Annotated[str, Field(pattern=r"^[0-9a-zA-Z_-]{8,64}$")]


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one station. Levels are checked, so that no name can reach another station's topics."""

    site: str
    line: str
    station: str

    def __post_init__(self) -> None:
        for key, level in (("site", self.site), ("line", self.line), ("station", self.station)):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", level):
                raise ConfigError(
                    key, f"{level!r} is no topic level", "1 to 32 of A-Z a-z 0-9 _ . -, letter or digit first"
                )

    @property
    def base(self) -> str:
        return f"haltline/v1/{self.site}/{self.line}/{self.station}"

    def of(self, kind: type[Message] | str) -> str:
        return f"{self.base}/{kind if isinstance(kind, str) else kind.TOPIC}"

    @staticmethod
    @lru_cache(16384)  # a plant has a few thousand, each heard thousands of times
    def parse(topic: str) -> tuple[Topics, str]:
        """`haltline/v1/site/line/station/a/b` -> (topics, "a/b"); MessageError for any other shape."""
        parts = topic.split("/")
        if len(topic) > 128 or len(parts) != 7 or parts[:2] != ["haltline", "v1"]:
            raise MessageError(topic, "is no topic of the line contract", "haltline/v1/{site}/{line}/{station}/…")
        try:
            topics = Topics(*parts[2:5])
        except ConfigError as e:
            raise MessageError(topic, e.what, e.fix) from e
        if not all(re.fullmatch(r"[a-z_]+", part) for part in parts[5:]):
            raise MessageError(topic, "is no topic of the line contract", "haltline/v1/{site}/{line}/{station}/…")
        return topics, "/".join(parts[5:])


class Message(BaseModel):
    """A payload. Subclasses name their topic below the station, QoS, retain flag and expiry in s (None = none)."""

    # NaN and infinity are no JSON: they would leave as null, which the receiver refuses.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    TOPIC: ClassVar[str]
    QOS: ClassVar[int] = 1
    RETAIN: ClassVar[bool] = False
    EXPIRY_S: ClassVar[int | None] = None

    v: V = 1

    def encode(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        if len(payload) > MESSAGE_MAX_BYTES:
            raise MessageError(cls.TOPIC, f"{len(payload)} bytes", f"at most {MESSAGE_MAX_BYTES}")
        try:
            return cls.model_validate_json(payload, by_alias=True)
        except ValidationError as e:
            first = e.errors()[0]
            key = ".".join(str(part) for part in first["loc"])[:80] or "payload"
            raise MessageError(cls.TOPIC, f"{key}: {first['msg']}", "see deploy/plc/schemas") from e


class Permit(Message):
    """The level. `boot`: persisted start count; `seq` counts permits since then; `run` 1 = the line may run;
    `halt`: id of the open halt or 0; `echo`: the last heartbeat seen; `age_ms`: age of the newest judged frame."""

    TOPIC: ClassVar[str] = "state/permit"
    QOS: ClassVar[int] = 0
    RETAIN: ClassVar[bool] = True
    EXPIRY_S: ClassVar[int | None] = 2

    boot: U32
    seq: U32
    run: Run
    code: Annotated[int, Field(ge=0, le=255)]
    """A `Code`. A reader takes one that it does not know, from a newer edge: why the line stops must not delay that."""
    halt: U32
    echo: U32
    age_ms: U32
    ts_ms: U53

    def encode(self) -> bytes:
        # By hand: on the way of a halt pydantic's encoder, cold after an inference, costs what the broker does.
        payload = (
            f'{{"v":{self.v},"boot":{self.boot},"seq":{self.seq},"run":{self.run},"code":{self.code},'
            f'"halt":{self.halt},"echo":{self.echo},"age_ms":{self.age_ms},"ts_ms":{self.ts_ms}}}'
        ).encode()
        if len(payload) > PERMIT_MAX_BYTES:
            raise MessageError(self.TOPIC, f"{len(payload)} bytes", f"at most {PERMIT_MAX_BYTES}")
        return payload

    def short(self) -> bytes:
        """`run;seq;echo` in 16 ASCII characters, for PLCs without JSON: `1;00048213;00991`."""
        return f"{self.run};{self.seq % 10**8:08d};{self.echo % 10**5:05d}".encode()


PERMIT_SHORT_TOPIC = "state/permit_s"


class Conn(Message):
    """Whether the edge is there. BROKEN is its will: for people, too slow to be the stop."""

    TOPIC: ClassVar[str] = "state/conn"
    RETAIN: ClassVar[bool] = True

    state: Literal["ONLINE", "OFFLINE", "BROKEN"]
    boot: U32
    edge: Text = ""


class Heartbeat(Message):
    """The PLC's counter; the edge echoes it, which bounds staleness without synchronised clocks."""

    TOPIC: ClassVar[str] = "plc/hb"
    QOS: ClassVar[int] = 0
    EXPIRY_S: ClassVar[int | None] = 2

    n: U32


class PlcState(Message):
    """What the line itself says it does, for the pages. Not part of the stop."""

    TOPIC: ClassVar[str] = "plc/state"
    RETAIN: ClassVar[bool] = True

    state: Literal["RUNNING", "TRIPPED", "READY"]
    why: Text = ""
    ts_ms: U53


class Trigger(Message):
    """A part is in place: inspect `part` and answer with one verdict within `deadline_ms`."""

    TOPIC: ClassVar[str] = "cmd/trigger"
    EXPIRY_S: ClassVar[int | None] = 2

    # Padding is no part of the number; U+0000 inside is refused, lest two parts become one.
    part: Annotated[
        str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]+\x00*$"), BeforeValidator(_without_padding)
    ]
    inspection: U53
    deadline_ms: Annotated[int, Field(ge=10, le=600_000)]
    frames: Annotated[int, Field(ge=1, le=1000)] = 1


class Resume(Message):
    """A person asks to end a halt. `boot` and `seq` are those of the newest permit the asker has seen: the edge
    refuses a request based on a permit too old, so a queued or replayed one does nothing."""

    TOPIC: ClassVar[str] = "cmd/resume"
    EXPIRY_S: ClassVar[int | None] = 5

    halt: U32
    who: Annotated[Plain, Field(min_length=1, max_length=64)]
    nonce: Nonce
    boot: U32
    seq: U32
    why: Text = ""


class Stop(Message):
    """A person asks for a stop. `who` may be empty: nobody has to sign in for it. The edge drops a retained one and a
    copy (`nonce`), and stops for every other, however late it comes; `ts_ms` is for people."""

    TOPIC: ClassVar[str] = "cmd/stop"
    EXPIRY_S: ClassVar[int | None] = 5

    nonce: Nonce
    who: Annotated[Plain, Field(max_length=64)] = ""
    why: Annotated[Plain, Field(max_length=200)] = ""
    ts_ms: U53


class StopAnswer(Message):
    """What became of a requested stop. `halt`: the one that keeps the line stopped now; 0: nothing was done."""

    TOPIC: ClassVar[str] = "evt/stop"

    halt: U32
    who: Text
    nonce: Text
    why: Text
    ts_ms: U53


class ResumeAnswer(Message):
    """What became of a resume; refused ones are recorded too."""

    TOPIC: ClassVar[str] = "evt/resume"

    halt: U32
    who: Text
    nonce: Text
    accepted: bool
    why: Text
    ts_ms: U53


class HaltEvent(Message):
    """The halt for people and records; the stop itself is the permit."""

    TOPIC: ClassVar[str] = "evt/halt"

    halt: U32
    uid: Uid
    code: Annotated[int, Field(ge=0, le=max(Code))]
    reason: Text
    cls: Text = ""
    score: float = 0.0
    limit: float = 0.0
    length_mm: float = 0.0
    limit_mm: float = 0.0
    frame_id: int = -1
    part: Text = ""
    model: Text = ""
    policy: Text = ""
    records: tuple[Uid, ...] = ()
    stages_ms: dict[str, float] = Field(default_factory=dict)
    ts_ms: U53


class VerdictEvent(Message):
    """Exactly one per part."""

    TOPIC: ClassVar[str] = "evt/verdict"
    EXPIRY_S: ClassVar[int | None] = 60

    part: Text
    inspection: U53
    verdict: Literal["pass", "uncertain", "defect", "fault"]
    cls: Text = ""
    score: float = 0.0
    length_mm: float = 0.0
    frames: int = 0
    why: Text = ""
    ts_ms: U53


class FindingMsg(BaseModel):
    """One finding inside a record."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cls: Text
    score: float
    box_px: tuple[float, float, float, float]
    length_mm: float
    area_mm2: float


class RecordEvent(Message):
    """One kept frame, or a fact without a frame. Sent until the hub acknowledges `uid`.

    `why`: each reason it was kept for: halt, uncertain, audit, context. `image`, `heat`: sha256 of the PNG files,
    uploaded to the hub before the record is sent. `heat` holds one class's map, `heat_to_frame` its 2x3 affine.
    """

    TOPIC: ClassVar[str] = "evt/record"

    uid: Uid
    why: tuple[Text, ...]
    camera: Text
    frame_id: int
    ts_ms: U53
    call: Literal["pass", "uncertain", "defect", "fault"]
    scores: dict[str, float]
    findings: tuple[FindingMsg, ...] = ()
    image: Sha256 | None = None
    heat: Sha256 | None = None
    heat_cls: Text = ""
    heat_to_frame: tuple[float, ...] = ()
    px_per_mm: float
    width_px: int
    height_px: int
    halt: U32 = 0
    part: Text = ""
    model: Text = ""
    policy: Text = ""
    label_book: Text = ""
    stages_ms: dict[str, float] = Field(default_factory=dict)


class Tally(Message):
    """What passed between two moments, so that audits of passed parts are a share of something. Sent like a record,
    until the hub acknowledges `uid`; at most four an hour, none where nothing was judged.

    `frames_passed`: frames called a pass while the lottery of audits ran. `parts_*`: verdicts by kind. `audited`: parts
    that passed and of which every frame was drawn and kept; their records carry the pictures.
    """

    TOPIC: ClassVar[str] = "evt/tally"

    uid: Uid
    from_ms: U53
    to_ms: U53
    frames_passed: U53 = 0
    parts_passed: U53 = 0
    parts_uncertain: U53 = 0
    parts_defect: U53 = 0
    parts_fault: U53 = 0
    audited: tuple[Text, ...] = Field(default=(), max_length=500)


class AckEvent(Message):
    """The hub has committed these uids to its database. Only this deletes a record from an edge."""

    TOPIC: ClassVar[str] = "evt/ack"

    uids: tuple[Uid, ...] = Field(min_length=1, max_length=1000)


class ModelDesired(Message):
    """The hub wants this bundle served; `url` is relative to the hub's base address."""

    TOPIC: ClassVar[str] = "model/desired"
    RETAIN: ClassVar[bool] = True

    bundle: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}-[0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}$")]
    sha256: Sha256
    # No `//`, which would name another host, and no `..`.
    url: Annotated[str, Field(pattern=r"^(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$", max_length=201)]
    rollback: bool = False
    """True allows an older version than the one served; without it, an older one is refused."""
    ts_ms: U53 = 0
    """When it was asked for. What was asked for before the newest that an edge has heard of is not carried out: a
    broker may come back with what it remembered last. 0: nobody said when."""


class ModelReported(Message):
    """What the edge serves, and what became of the newest request."""

    TOPIC: ClassVar[str] = "model/reported"
    RETAIN: ClassVar[bool] = True

    bundle: Text
    sha256: Text
    state: Literal["serving", "fetching", "refused"]
    wanted: Text = ""
    why: Text = ""
    provider: Text = ""
    ts_ms: U53


MESSAGES: tuple[type[Message], ...] = (
    Permit,
    Conn,
    Heartbeat,
    PlcState,
    Trigger,
    Resume,
    ResumeAnswer,
    Stop,
    StopAnswer,
    HaltEvent,
    VerdictEvent,
    RecordEvent,
    Tally,
    AckEvent,
    ModelDesired,
    ModelReported,
)


def record_uid(base: str, boot: int, camera: str, frame_id: int) -> str:
    """The uid of a frame's record: the same frame gives the same uid, so a repeated one is no second record."""
    return hashlib.sha256(f"{base}:{boot}:{camera}:{frame_id}".encode()).hexdigest()[:32]


def tally_uid(base: str, boot: int, number: int) -> str:
    """`number` counts the tallies of this start: one sent twice is counted once."""
    return hashlib.sha256(f"{base}:{boot}:tally:{number}".encode()).hexdigest()[:32]


def halt_uid(base: str, halt: int) -> str:
    return hashlib.sha256(f"{base}:halt:{halt}".encode()).hexdigest()[:32]
