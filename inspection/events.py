"""What the guard is told and what it asks for: events in, actions out. Times are ns of one monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inspection.policy import Policy
from inspection.types import Call, Code, Finding, HaltReport


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    HALTED = "halted"
    BLIND = "blind"


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Judged:
    """The model judged a frame. `at_ns`: when its outputs were there; `captured_ns`: when it was exposed; `novelty`:
    how unlike its training pictures the model finds it, None where it cannot say."""

    camera: str
    frame_id: int
    at_ns: int
    captured_ns: int
    scores: dict[str, float]
    findings: tuple[Finding, ...] = ()
    novelty: float | None = None


@dataclass(frozen=True, slots=True)
class CannotJudge:
    """A frame that nobody judged: inference failed (MODEL), or the picture shows nothing to judge (CAMERA)."""

    camera: str
    frame_id: int
    at_ns: int
    code: Code
    why: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed. A pure core cannot notice silence, so silence must be told to it.

    `camera`, `frame_id`: the frame that came then and that nobody judged, dark for a moment: it is no lost one."""

    now_ns: int
    camera: str = ""
    frame_id: int = 0


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """Somebody wants to end a halt, having seen permit `boot`/`seq`; the newest one sent is `seq_now`."""

    now_ns: int
    halt: int
    who: str
    nonce: str
    boot: int
    seq: int
    seq_now: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the line to stop. All that is asked of it is that it is no copy (`nonce`); `who` may be empty."""

    now_ns: int
    nonce: str
    who: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class PartArrived:
    """A trigger: judge `frames` frames of this part, one or more by each camera, and say one verdict by the deadline.

    Frames exposed before `now_ns` show the part before this one and do not count."""

    now_ns: int
    part: str
    inspection: int
    deadline_ms: int
    frames: int


@dataclass(frozen=True, slots=True)
class FaultFound:
    """Something other than a camera or its model makes this edge's permit worth nothing, as another edge of its name
    does. A code holds one reason, the newest, and its `FaultOver` ends it: what finds a fault has a code to itself."""

    now_ns: int
    code: Code
    why: str


@dataclass(frozen=True, slots=True)
class FaultOver:
    now_ns: int
    code: Code


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A new bundle serves, with its own limits. Evidence gathered under the old ones is dropped."""

    now_ns: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class MaintenanceOrdered:
    """An engineer works at the station until `until_ns`, or ends it early (`until_ns` <= `now_ns`).

    The permit is withdrawn, whatever else the site allows, and comes back only on fresh frames: nothing that passes
    meanwhile has been inspected."""

    now_ns: int
    until_ns: int
    who: str


Event = (
    Judged
    | CannotJudge
    | Tick
    | ResumeAsked
    | StopAsked
    | PartArrived
    | FaultFound
    | FaultOver
    | PolicyChanged
    | MaintenanceOrdered
)

# ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SetPermit:
    """The level from now on. Whoever publishes it lets it lapse at `good_until_ns`: a guard that has gone silent,
    because inference hangs or its thread died, must not leave a running permit behind."""

    run: bool
    code: Code
    halt: int
    judged_ns: int
    good_until_ns: int
    changed: bool


@dataclass(frozen=True, slots=True)
class RaiseHalt:
    report: HaltReport


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep this frame as evidence: `why` lists the reasons, `halt` the halt it belongs to or 0."""

    camera: str
    frame_id: int
    call: Call
    why: tuple[str, ...]
    halt: int = 0
    part: str = ""


@dataclass(frozen=True, slots=True)
class AnswerResume:
    halt: int
    who: str
    nonce: str
    accepted: bool
    why: str


@dataclass(frozen=True, slots=True)
class AnswerStop:
    """What became of a requested stop. `open`: the halt that keeps the line stopped, None where nothing was done."""

    who: str
    nonce: str
    why: str
    open: HaltReport | None


@dataclass(frozen=True, slots=True)
class GiveVerdict:
    part: str
    inspection: int
    verdict: Call
    cls: str
    score: float
    length_mm: float
    frames: int
    why: str


@dataclass(frozen=True, slots=True)
class CountLoss:
    """Frames the camera numbered but nobody saw. Loss is an event, not a log line."""

    camera: str
    frames: int


@dataclass(frozen=True, slots=True)
class StateChanged:
    old: State
    new: State
    why: str


@dataclass(frozen=True, slots=True)
class EyeChanged:
    """An optional camera became blind, or sees again. The permit does not say so, so people must be told."""

    camera: str
    sees: bool
    why: str


Action = SetPermit | RaiseHalt | Keep | AnswerResume | AnswerStop | GiveVerdict | CountLoss | StateChanged | EyeChanged
