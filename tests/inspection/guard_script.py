"""The script language of the guard's tests: each step is an event and what the guard does because of it.

`RUN` and `stop(code, halt)` are the permit; times are in ms since the edge started.
"""

from __future__ import annotations

from dataclasses import replace

from inspection.decision import LineGuard
from inspection.events import (
    Action,
    AnswerResume,
    AnswerStop,
    CannotJudge,
    CountLoss,
    Event,
    EyeChanged,
    GiveVerdict,
    Judged,
    Keep,
    MaintenanceOrdered,
    PartArrived,
    RaiseHalt,
    ResumeAsked,
    SetPermit,
    State,
    StateChanged,
    StopAsked,
    Tick,
)
from inspection.policy import ClassPolicy, Policy
from inspection.types import Call, Code, Finding

MS = 1_000_000
BOOT = 7
HALT_1, HALT_2 = 70_001, 70_002
SCRATCH = ClassPolicy("scratch", lo=0.3, hi=0.7, limit_mm=1.5, size_tolerance_mm=0.3)
POLICY = Policy((SCRATCH,))
TWO_OF_THREE = Policy((replace(SCRATCH, k=2, n=3),))
GOOD, UNSURE, BAD = 0.1, 0.5, 0.9

# ── the script language ─────────────────────────────────────────────────────────────────────────────────────────

Said = tuple[object, ...]
RUN: Said = ("run",)


def stop(code: Code, halt: int = 0) -> Said:
    return "stop", code, halt


def now(state: State) -> Said:
    return "now", state


def halt(number: int) -> Said:
    return "halt", number


def keep(frame_id: int, *why: str) -> Said:
    return "keep", frame_id, *why


def lost(frames: int, camera: str = "cam") -> Said:
    return "lost", camera, frames


def verdict(part: str, call: Call) -> Said:
    return "verdict", part, call


def eye(camera: str, *, sees: bool) -> Said:
    return "eye", camera, sees


ACCEPTED: Said = ("resume", "")


def answered(halt: int, why: str = "") -> Said:
    """What became of a requested stop: the halt that is open now, 0 for none."""
    return "asked", halt, why


TOO_OLD = "the request was based on a permit too old"


def refused(why: str) -> Said:
    return "resume", why


def said(action: Action) -> Said:
    """An action in the words of the scripts."""
    match action:
        case SetPermit(run=True):
            return RUN
        case SetPermit():
            return stop(action.code, action.halt)
        case StateChanged():
            return now(action.new)
        case RaiseHalt(report):
            return halt(report.halt)
        case Keep():
            return keep(action.frame_id, *action.why)
        case AnswerResume():
            assert action.accepted == (action.why == "")
            return "resume", action.why
        case AnswerStop():
            return answered(action.open.halt if action.open else 0, action.why)
        case GiveVerdict():
            return verdict(action.part, action.verdict)
        case CountLoss():
            return lost(action.frames, action.camera)
        case EyeChanged():
            return eye(action.camera, sees=action.sees)


def play(guard: LineGuard, *steps: tuple[Event | Said, ...]) -> None:
    """Feed each step's event; the guard must do exactly what stands behind it, in that order."""
    for number, (event, *expected) in enumerate(steps, 1):
        actions = guard.handle(event)  # type: ignore[arg-type]
        assert isinstance(actions[0], SetPermit), "the permit goes first"
        assert [said(a) for a in actions] == expected, f"step {number}: {event}"


def seen(
    ms: int,
    frame_id: int,
    score: float = GOOD,
    *,
    mm: float | None = 5.0,
    camera: str = "cam",
    captured: int | None = None,
) -> Judged:
    """A judged frame, exposed and judged at `ms` unless `captured` says earlier; `mm` None = no place found."""
    found = () if mm is None else (Finding("scratch", score, (0, 0, 9, 9), mm, 1.0),)
    return Judged(camera, frame_id, ms * MS, (ms if captured is None else captured) * MS, {"scratch": score}, found)


def unfit(ms: int, frame_id: int, code: Code = Code.MODEL, why: str = "inference failed") -> CannotJudge:
    return CannotJudge("cam", frame_id, ms * MS, code, why)


def tick(ms: int) -> Tick:
    return Tick(ms * MS)


def resume(ms: int, number: int = HALT_1, *, nonce: str = "n1", boot: int = BOOT, seq: int = 100) -> ResumeAsked:
    """A person has read permit `seq`; the newest one is 100."""
    return ResumeAsked(ms * MS, number, "ann", nonce, boot, seq, 100)


def stop_asked(ms: int, nonce: str = "s1", who: str = "ann", why: str = "") -> StopAsked:
    return StopAsked(ms * MS, nonce, who, why)


def part(ms: int, name: str, *, frames: int = 2, deadline: int = 200, inspection: int = 1) -> PartArrived:
    return PartArrived(ms * MS, name, inspection, deadline, frames)


def maintenance(ms: int, until: int, who: str = "eve") -> MaintenanceOrdered:
    return MaintenanceOrdered(ms * MS, until * MS, who)


def started(policy: Policy = POLICY) -> LineGuard:
    """A guard that has seen frames 1 to 3 and lets the line run since 30 ms."""
    guard = LineGuard(policy, ["cam"], BOOT, 0)
    for k in (1, 2, 3):
        guard.handle(seen(10 * k, k))
    assert guard.state is State.RUNNING
    return guard


def halted(policy: Policy = POLICY) -> LineGuard:
    """Halted by frame 4 at 40 ms, and frame 5 at 50 ms judged since."""
    guard = started(policy)
    guard.handle(seen(40, 4, BAD))
    guard.handle(seen(50, 5))
    assert guard.state is State.HALTED
    return guard
