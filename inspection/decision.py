"""The guard: events in, actions out. Everything that decides whether the line may run lives here.

    STARTING --sees--> RUNNING --defect--> HALTED --resume--> RUNNING
    STARTING --defect--> HALTED      RUNNING --blind--> BLIND --sees--> RUNNING
    BLIND --defect--> HALTED         HALTED stays HALTED whatever else happens

No clock: time arrives inside events. No I/O: what must be done leaves as actions, in the order in which it must be
done, the permit first. One thread owns a guard.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from inspection.events import (
    Action,
    AnswerResume,
    CannotJudge,
    CountLoss,
    Event,
    FaultFound,
    FaultOver,
    GiveVerdict,
    Judged,
    Keep,
    PartArrived,
    PolicyChanged,
    RaiseHalt,
    ResumeAsked,
    SetPermit,
    State,
    StateChanged,
    Tick,
)
from inspection.policy import ClassPolicy, FrameCall, Policy, judge
from inspection.types import Call, Code, HaltReport

# ── the state table ─────────────────────────────────────────────────────────────────────────────────────────────


class Cause(StrEnum):
    SEES = "sees"  # enough fresh frames judged in a row, and no fault
    BLIND = "blind"  # a frame nobody could judge, silence, or a fault
    DEFECT = "defect"  # the evidence for a defect is complete
    RESUME = "resume"  # a person ended the open halt


TRANSITIONS: dict[tuple[State, Cause], State] = {
    (State.STARTING, Cause.SEES): State.RUNNING,
    (State.STARTING, Cause.DEFECT): State.HALTED,
    (State.RUNNING, Cause.DEFECT): State.HALTED,
    (State.RUNNING, Cause.BLIND): State.BLIND,
    (State.BLIND, Cause.SEES): State.RUNNING,
    (State.BLIND, Cause.DEFECT): State.HALTED,
    (State.HALTED, Cause.RESUME): State.RUNNING,
}
"""A pair that is not listed changes nothing. Only RESUME leaves HALTED."""

HALTS_PER_BOOT = 10_000
"""Halt ids are boot * 10,000 + n, so that no id is ever used again. The 10,000th halt of a boot stays open until the
edge restarts."""

BOOTS = 429_496
"""A halt id is a u32 on the wire, which holds the ids of so many starts; then they begin anew."""


@dataclass(slots=True)
class _Eye:
    """One camera as the guard knows it. Every camera of a station must see before the line may run."""

    judged_ns: int
    fresh: int = 0
    last_id: int | None = None
    fault: tuple[Code, str] | None = None
    kept_ns: int | None = None


@dataclass(slots=True)
class _Inspection:
    """An open part: what has been seen of it so far."""

    trigger: PartArrived
    calls: list[FrameCall]
    seen_by: set[str]

    @property
    def deadline_ns(self) -> int:
        return self.trigger.now_ns + self.trigger.deadline_ms * 1_000_000


class LineGuard:
    """Decides, from what the model said and what it did not say, whether the line may run.

    `cameras`: the station's cameras, all of which must see. `boot` is the persisted start count; `open_halt` is a
    halt that was open when the edge last stopped: a restart must not end it.
    """

    def __init__(
        self,
        policy: Policy,
        cameras: Iterable[str],
        boot: int,
        now_ns: int,
        open_halt: HaltReport | None = None,
    ) -> None:
        self.policy = policy
        self._eyes = {camera: _Eye(now_ns) for camera in cameras}
        if not self._eyes:
            raise ValueError("a guard without a camera would say that it sees")
        self.boot = boot
        self.state = State.HALTED if open_halt else State.STARTING
        self.halt = open_halt
        self._halts = 0
        self._faults: dict[Code, str] = {}
        self._evidence: dict[tuple[str, str], deque[tuple[int, bool]]] = {}
        self._nonces: deque[str] = deque(maxlen=256)
        self._part: _Inspection | None = None
        self._triggers: deque[tuple[str, int]] = deque(maxlen=256)
        self._level: tuple[bool, Code, int] | None = None

    def handle(self, event: Event) -> list[Action]:
        """What must be done because of `event`, in order. Never raises for an event of the right type."""
        match event:
            case Judged():
                return self._on_judged(event)
            case CannotJudge():
                return self._on_cannot_judge(event)
            case Tick(now_ns):
                return self._on_tick(now_ns)
            case ResumeAsked():
                return self._on_resume(event)
            case PartArrived():
                return self._on_part(event)
            case FaultFound(now_ns, code, why):
                self._faults[code] = why
                return self._with_permit(now_ns, self._move(Cause.BLIND, why))
            case FaultOver(now_ns, code):
                self._faults.pop(code, None)
                return self._with_permit(now_ns, self._try_to_see(now_ns))
            case PolicyChanged(now_ns, policy):
                self.policy = policy
                self._evidence.clear()
                if self._part:
                    self._part = _Inspection(self._part.trigger, [], set())
                return self._with_permit(now_ns, [])
            case _:
                assert_never(event)

    # ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_judged(self, event: Judged) -> list[Action]:
        call = judge(event.scores, event.findings, self.policy)
        if call.call is Call.FAULT:
            fault = CannotJudge(event.camera, event.frame_id, event.at_ns, Code.MODEL, call.why)
            return self._on_cannot_judge(fault)
        # A capture time ahead of the clock would make this camera look fresh long after it died.
        captured_ns = min(event.captured_ns, event.at_ns)
        eye = self._eye(event.camera, captured_ns)
        lost = _count_loss(eye, event.camera, event.frame_id)
        eye.judged_ns, eye.fresh, eye.fault = max(eye.judged_ns, captured_ns), eye.fresh + 1, None
        was = self.state
        actions = self._weigh(event, call)
        # A frame that completes a halt has not shown that the line may run.
        if self.state is not State.HALTED:
            actions += self._try_to_see(event.at_ns)
        actions += self._keep(event, call, eye, halted_now=was is not State.HALTED and self.state is State.HALTED)
        actions += self._on_part_frame(event, call)
        return self._with_permit(event.at_ns, actions + lost)

    def _on_cannot_judge(self, event: CannotJudge) -> list[Action]:
        eye = self._eye(event.camera, event.at_ns)
        lost = _count_loss(eye, event.camera, event.frame_id)
        first = eye.fault is None
        eye.fresh, eye.fault = 0, (event.code, event.why)
        actions = self._move(Cause.BLIND, event.why)
        if first:  # the first frame of a blind spell shows why; the thousandth shows nothing more
            actions.append(Keep(event.camera, event.frame_id, Call.FAULT, ("fault",)))
        return self._with_permit(event.at_ns, actions + lost)

    def _weigh(self, event: Judged, call: FrameCall) -> list[Action]:
        """Evidence adds up per camera and class: k of the last n judged frames make a halt."""
        complete: ClassPolicy | None = None
        for rule in self.policy.classes:
            window = self._evidence.setdefault((event.camera, rule.cls), deque(maxlen=rule.n))
            window.append((event.frame_id, rule.cls in call.defects))
            if sum(hit for _, hit in window) >= rule.k and rule.cls in call.defects:
                complete = complete or rule
        if complete is None or self.state is State.HALTED:
            return []
        return self._halt(event, call, complete)

    def _halt(self, event: Judged, call: FrameCall, rule: ClassPolicy) -> list[Action]:
        self._halts += 1
        found = call.defects[rule.cls]
        window = self._evidence[event.camera, rule.cls]
        self.halt = HaltReport(
            halt=self.boot % BOOTS * HALTS_PER_BOOT + self._halts,
            code=Code.DEFECT,
            reason=call.why,
            cls=rule.cls,
            score=event.scores[rule.cls],
            limit=rule.hi,
            length_mm=found.length_mm if found else 0.0,
            limit_mm=rule.limit_mm,
            frame_id=event.frame_id,
            part=self._part_of(event),
            evidence=tuple(frame_id for frame_id, hit in window if hit),
        )
        return [*self._move(Cause.DEFECT, call.why), RaiseHalt(self.halt)]

    def _keep(self, event: Judged, call: FrameCall, eye: _Eye, *, halted_now: bool) -> list[Action]:
        """Which frames become evidence. While halted the camera stares at one scene: nothing new to keep."""
        why: list[str] = []
        if halted_now and self.halt:
            why.append("halt")
        elif self.state is not State.HALTED:
            if call.call is not Call.PASS and self._is_due(eye, event.at_ns):
                why.append(call.call.value)
            if call.call is Call.PASS and self._audited(event.frame_id):
                why.append("audit")
        if not why:
            return []
        halt = self.halt.halt if self.halt and halted_now else 0
        return [Keep(event.camera, event.frame_id, call.call, tuple(why), halt, self._part_of(event))]

    def _is_due(self, eye: _Eye, now_ns: int) -> bool:
        """One frame per event: at 30 fps a slow scratch would otherwise fill the spool with one scene."""
        if eye.kept_ns is not None and now_ns - eye.kept_ns < self.policy.uncertain_every_ms * 1_000_000:
            return False
        eye.kept_ns = now_ns
        return True

    def _audited(self, frame_id: int) -> bool:
        """A fixed share of passed frames, spread by a hash so that a replay chooses the same ones."""
        return zlib.crc32(f"{self.boot}:{frame_id}".encode()) < self.policy.audit_share * 2**32

    # ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_part(self, event: PartArrived) -> list[Action]:
        if (event.part, event.inspection) in self._triggers:
            # QoS 1 may deliver a trigger twice; a second verdict would belong to no part.
            return self._with_permit(event.now_ns, [])
        self._triggers.append((event.part, event.inspection))
        actions: list[Action] = []
        if self._part:
            actions.append(self._verdict(Call.FAULT, "the next part came before this one was judged"))
        self._part = _Inspection(event, [], set())
        return self._with_permit(event.now_ns, actions)

    def _part_of(self, event: Judged) -> str:
        """The open part, if this frame shows it: triggers overtake frames that wait to be judged."""
        trigger = self._part.trigger if self._part else None
        return trigger.part if trigger and event.captured_ns >= trigger.now_ns else ""

    def _on_part_frame(self, event: Judged, call: FrameCall) -> list[Action]:
        part = self._part
        if part is None:
            return []
        if event.at_ns >= part.deadline_ns:
            return [self._verdict(Call.FAULT, "no verdict by the deadline")]
        if event.captured_ns < part.trigger.now_ns:
            return []
        part.calls.append(call)
        part.seen_by.add(event.camera)
        if len(part.calls) < part.trigger.frames or part.seen_by < self._eyes.keys():
            return []
        hits = {cls: sum(cls in c.defects for c in part.calls) for c in part.calls for cls in c.defects}
        for rule in self.policy.classes:
            if hits.get(rule.cls, 0) >= min(rule.k, max(1, part.trigger.frames)):
                return [self._verdict(Call.DEFECT, f"{hits[rule.cls]} of {len(part.calls)} frames", rule.cls)]
        if any(c.call is not Call.PASS for c in part.calls):
            return [self._verdict(Call.UNCERTAIN, "some frames were not clear passes")]
        return [self._verdict(Call.PASS, f"all {len(part.calls)} frames")]

    def _verdict(self, verdict: Call, why: str, cls: str = "") -> Action:
        assert self._part is not None
        trigger, calls = self._part.trigger, self._part.calls
        self._part = None
        found = [c.defects[cls] for c in calls if cls in c.defects]
        longest = max((f.length_mm for f in found if f), default=0.0)
        score = max((c.scores.get(cls, 0.0) for c in calls), default=0.0)
        return GiveVerdict(trigger.part, trigger.inspection, verdict, cls, score, longest, len(calls), why)

    # ── time, faults, people ────────────────────────────────────────────────────────────────────────────────────

    def _on_tick(self, now_ns: int) -> list[Action]:
        actions: list[Action] = []
        if self._part and now_ns >= self._part.deadline_ns:
            actions.append(self._verdict(Call.FAULT, "no verdict by the deadline"))
        return self._with_permit(now_ns, actions)

    def _on_resume(self, event: ResumeAsked) -> list[Action]:
        refused = self._why_not(event)
        self._nonces.append(event.nonce)
        answer = AnswerResume(event.halt, event.who, event.nonce, not refused, refused)
        if refused:
            return self._with_permit(event.now_ns, [answer])
        self.halt = None
        self._evidence.clear()
        return self._with_permit(event.now_ns, [*self._move(Cause.RESUME, f"resumed by {event.who}"), answer])

    def _why_not(self, event: ResumeAsked) -> str:
        """Why this resume does nothing; empty when it may go ahead."""
        if self.halt is None:
            return "no halt is open"
        if event.halt != self.halt.halt:
            return f"halt {event.halt} is not the open one, {self.halt.halt}"
        if self._halts >= HALTS_PER_BOOT:
            return "this start's halt ids are used up: restart the edge"
        if event.nonce in self._nonces:
            return "this request came before"
        age = event.seq_now - event.seq
        if event.boot != self.boot or not 0 <= age <= self.policy.resume_max_permits:
            return "the request was based on a permit too old"
        if trouble := self._trouble():
            return f"cannot judge: {trouble[1]}"
        fresh = self.policy.fresh_frames
        if any(self._silent(eye, event.now_ns) or eye.fresh < fresh for eye in self._eyes.values()):
            return f"cannot judge: fewer than {fresh} fresh frames"
        return ""

    def _eye(self, camera: str, now_ns: int) -> _Eye:
        return self._eyes.setdefault(camera, _Eye(now_ns))

    def _notice_silence(self, now_ns: int) -> list[Action]:
        """With every event, not with ticks alone: the first frame after inference hung would renew the permit."""
        for camera, eye in self._eyes.items():
            if self._silent(eye, now_ns):
                eye.fresh = 0
                # A frame that came and could not be judged is the better reason: it stays.
                eye.fault = eye.fault or (Code.CAMERA, f"{camera}: no frame for {self.policy.max_silence_ms} ms")
        trouble = self._trouble()
        return self._move(Cause.BLIND, trouble[1]) if trouble else []

    def _silent(self, eye: _Eye, now_ns: int) -> bool:
        return now_ns - eye.judged_ns > self.policy.max_silence_ms * 1_000_000

    def _trouble(self) -> tuple[Code, str] | None:
        """The first reason why the station cannot judge."""
        eyes = (eye.fault for eye in self._eyes.values() if eye.fault)
        return next(iter(self._faults.items()), None) or next(eyes, None)

    def _try_to_see(self, now_ns: int) -> list[Action]:
        if self._trouble() or any(
            eye.fresh < self.policy.fresh_frames or self._silent(eye, now_ns) for eye in self._eyes.values()
        ):
            return []
        return self._move(Cause.SEES, f"{self.policy.fresh_frames} frames judged in a row")

    def _move(self, cause: Cause, why: str) -> list[Action]:
        new = TRANSITIONS.get((self.state, cause))
        if new is None or new is self.state:
            return []
        old, self.state = self.state, new
        return [StateChanged(old, new, why)]

    # ── the permit ──────────────────────────────────────────────────────────────────────────────────────────────

    def _with_permit(self, now_ns: int, actions: list[Action]) -> list[Action]:
        """The permit goes first, with every event, so that its lease is renewed only by a guard that lives."""
        actions = actions + self._notice_silence(now_ns)
        run = self.state is State.RUNNING or (self.state is State.BLIND and self.policy.blind_runs)
        level = (run, self._code(), self.halt.halt if self.halt else 0)
        changed, self._level = level != self._level, level
        until = now_ns + self.policy.lease_ms * 1_000_000
        oldest = min((eye.judged_ns for eye in self._eyes.values()), default=now_ns)
        return [SetPermit(*level, oldest, until, changed), *actions]

    def _code(self) -> Code:
        if self.state is State.HALTED and self.halt:
            return self.halt.code
        if self.state is State.BLIND:
            return (self._trouble() or (Code.CAMERA, ""))[0]
        return Code.STARTING if self.state is State.STARTING else Code.OK


def _count_loss(eye: _Eye, camera: str, frame_id: int) -> list[Action]:
    last, eye.last_id = eye.last_id, frame_id
    return [] if last is None or frame_id <= last + 1 else [CountLoss(camera, frame_id - last - 1)]
