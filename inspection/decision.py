"""The guard: events in, actions out. Everything that decides whether the line may run lives here.

The states and what leads from one to the other: `states.py`.

No clock: time arrives inside events. No I/O: what must be done leaves as actions, in the order in which it must be
done, the permit first. One thread owns a guard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from inspection.events import (
    Action,
    AnswerResume,
    AnswerStop,
    CannotJudge,
    Event,
    FaultFound,
    FaultOver,
    Judged,
    Keep,
    MaintenanceOrdered,
    PartArrived,
    PolicyChanged,
    RaiseHalt,
    ResumeAsked,
    SetPermit,
    State,
    StateChanged,
    StopAsked,
    Tick,
)
from inspection.evidence import Evidence, Level
from inspection.eyes import Eyes
from inspection.parts import Inspection
from inspection.policy import ClassPolicy, FrameCall, Policy, judge
from inspection.selection import Selector
from inspection.states import TRANSITIONS, Cause
from inspection.stop import stop_reason
from inspection.types import Call, Code, HaltReport

HALTS_PER_BOOT = 10_000
"""Halt ids are boot * 10,000 + n, so that no id is ever used again. The 10,000th halt of a boot stays open until the
edge restarts."""

COPY_NS = 5_000_000_000
"""A trigger expires on the broker after 2 s (docs/line-contract.md); a controller takes longer to restart."""

BOOTS = 429_496
"""A halt id is a u32 on the wire, which holds the ids of so many starts; then they begin anew."""


class LineGuard:
    """Decides, from what the model said and what it did not say, whether the line may run.

    `cameras`: the station's cameras, all of which must see but the policy's optional ones. `boot` is the persisted
    start count; `open_halt` is a halt that was open when the edge last stopped: a restart must not end it.
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
        self._eyes = Eyes(cameras, now_ns)
        if not set(self._eyes.by_name) - set(policy.optional):
            raise ValueError("a guard without a camera would say that it sees")
        self.boot = boot
        self.state = State.HALTED if open_halt else State.STARTING
        self.halt = open_halt
        self._halts = 0
        self._faults: dict[Code, str] = {}
        self._evidence: dict[tuple[str, str], Evidence] = {}
        self._selector = Selector(boot)
        self._nonces: deque[str] = deque(maxlen=256)
        self._stops: deque[str] = deque(maxlen=256)
        self.passed = 0
        """Frames called a pass that an audit could have drawn: what its finds are a share of."""
        self._maintenance: MaintenanceOrdered | None = None
        self._shut = False  # since maintenance nobody has seen: a site that runs blind must not either
        self._part: Inspection | None = None
        self._triggers: deque[tuple[str, int, int]] = deque(maxlen=256)
        self._level: tuple[bool, Code, int] | None = None

    def levels(self, camera: str) -> dict[str, Level]:
        """How much evidence there is at this camera, by class."""
        found = ((rule.cls, self._evidence.get((camera, rule.cls))) for rule in self.policy.classes)
        return {cls: evidence.level for cls, evidence in found if evidence}

    def handle(self, event: Event) -> list[Action]:
        """What must be done because of `event`, in order. Never raises for an event of the right type."""
        match event:
            case Judged():
                return self._on_judged(event)
            case CannotJudge():
                return self._on_cannot_judge(event)
            case Tick():
                return self._on_tick(event)
            case ResumeAsked():
                return self._on_resume(event)
            case StopAsked():
                return self._on_stop(event)
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
                    self._part = Inspection(self._part.trigger)  # judged anew, under one policy
                return self._with_permit(now_ns, [])
            case MaintenanceOrdered():
                return self._on_maintenance(event)
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
        eye = self._eyes.of(event.camera, captured_ns)
        lost = eye.count_loss(event.camera, event.frame_id)
        eye.judge(captured_ns)
        part = self._part_of(event)
        was = self.state
        actions = self._weigh(event, call, part)
        halted_now = was is not State.HALTED and self.state is State.HALTED
        # A frame that completes a halt has not shown that the line may run.
        if self.state is not State.HALTED:
            actions += self._try_to_see(event.at_ns)
        actions += self._keep(event, call, part, halted_now=halted_now)
        actions += self._on_part_frame(event, call)
        return self._with_permit(event.at_ns, actions + lost)

    def _on_cannot_judge(self, event: CannotJudge) -> list[Action]:
        eye = self._eyes.of(event.camera, event.at_ns)
        lost = eye.count_loss(event.camera, event.frame_id)
        first = eye.fault is None
        eye.fresh, eye.fault = 0, (event.code, event.why)
        required = event.camera not in self.policy.optional
        actions = self._move(Cause.BLIND, event.why) if required else []
        if first:  # the first frame of a blind spell shows why; the thousandth shows nothing more
            actions.append(Keep(event.camera, event.frame_id, Call.FAULT, ("fault",)))
        return self._with_permit(event.at_ns, actions + lost)

    def _weigh(self, event: Judged, call: FrameCall, part: str) -> list[Action]:
        """Evidence adds up per camera and class. A frame that shows no part, where there are parts, shows nothing."""
        if self._maintenance or (self.policy.mode == "part" and not part):
            return []
        complete: ClassPolicy | None = None
        for rule in self.policy.classes:
            evidence = self._evidence.get((event.camera, rule.cls))
            if evidence is None:
                evidence = self._evidence[event.camera, rule.cls] = rule.evidence()
            hit, small = rule.cls in call.defects, rule.cls in call.small
            if evidence.add(event.frame_id, event.scores[rule.cls], hit=hit, small=small):
                complete = complete or (rule if self._agreed(rule, event) else None)
        if complete is None or self.state is State.HALTED or not self.policy.halt_on_defect:
            return []
        return self._halt(event, call, complete, part)

    def _agreed(self, rule: ClassPolicy, event: Judged) -> bool:
        """Whether enough cameras say so, of those that see: a blind one must not make a halt impossible. The one that
        speaks counts however late: a frame that waited for its inference still shows a defect."""
        seeing = self._eyes.seeing(self.policy, event.at_ns) | {event.camera}
        votes = sum(camera in seeing and e.stands for (camera, cls), e in self._evidence.items() if cls == rule.cls)
        return votes >= min(self.policy.vote, len(seeing))

    def _halt(self, event: Judged, call: FrameCall, rule: ClassPolicy, part: str) -> list[Action]:
        found = call.defects.get(rule.cls)
        evidence = self._evidence[event.camera, rule.cls]
        # Evidence may be complete with a frame that says little by itself: then its sum is the reason.
        reason = call.why if rule.cls in call.defects else f"{rule.cls}: {evidence.why}"
        self.halt = HaltReport(
            halt=self._next_id(),
            code=Code.DEFECT,
            reason=reason,
            cls=rule.cls,
            score=event.scores[rule.cls],
            limit=rule.hi,
            length_mm=found.length_mm if found else 0.0,
            limit_mm=rule.limit_mm,
            frame_id=event.frame_id,
            part=part,
            evidence=evidence.frames,
        )
        return [*self._move(Cause.DEFECT, reason), RaiseHalt(self.halt)]

    def _next_id(self) -> int:
        self._halts += 1
        return self.boot % BOOTS * HALTS_PER_BOOT + self._halts

    def _keep(self, event: Judged, call: FrameCall, part: str, *, halted_now: bool) -> list[Action]:
        """Which frames become evidence. While halted the camera stares at one scene: nothing new to keep."""
        idle = self._maintenance or (self.policy.mode == "part" and not part)
        novelty = None if idle or self.state is State.HALTED else event.novelty
        why = self._selector.reasons(self.policy, event.camera, event.frame_id, call, part, event.at_ns, novelty)
        if halted_now and self.halt:
            return [Keep(event.camera, event.frame_id, call.call, ("halt",), self.halt.halt, part)]
        if self.state is State.HALTED or idle:
            return []
        self.passed += call.call is Call.PASS
        if not why:
            return []
        return [Keep(event.camera, event.frame_id, call.call, why, 0, part)]

    # ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_part(self, event: PartArrived) -> list[Action]:
        if self._is_copy(event):
            return self._with_permit(event.now_ns, [])
        self._triggers.append((event.part, event.inspection, event.now_ns))
        actions = self._end_part("the next part came before this one was judged")
        self._open_part(event)
        if self.policy.mode == "part":
            self._evidence.clear()  # what was seen of another part says nothing about this one
        if self._maintenance:
            actions += self._end_part(_working(self._maintenance))
        else:
            self._eyes.ask(event.now_ns)
        return self._with_permit(event.now_ns, actions)

    def _is_copy(self, event: PartArrived) -> bool:
        """QoS 1 may deliver a trigger twice; a second verdict would belong to no part. Later than COPY_NS the same
        numbers are another part, of a controller that was restarted and counts anew: it must not go unseen."""
        since_ns = event.now_ns - COPY_NS
        return any(t[:2] == (event.part, event.inspection) and t[2] >= since_ns for t in self._triggers)

    def _part_of(self, event: Judged) -> str:
        """The open part, if this frame shows it."""
        part = self._part
        return part.trigger.part if part and part.shows(event.captured_ns) else ""

    def _on_part_frame(self, event: Judged, call: FrameCall) -> list[Action]:
        part = self._part
        if part is None:
            return []
        if event.at_ns >= part.deadline_ns:
            return self._end_part("no verdict by the deadline")
        if not part.shows(event.captured_ns):
            return []
        part.seen.append((event.camera, call))
        if not part.is_complete(self._eyes.to_ask(self.policy)):
            return []
        self._close_part()
        return [part.verdict(self.policy)]

    def _end_part(self, why: str) -> list[Action]:
        """Exactly one verdict leaves per part: what could not be judged is a fault, never a pass."""
        part = self._close_part()
        return [part.fault(why)] if part else []

    def _open_part(self, trigger: PartArrived) -> None:
        self._part, self._eyes.asked_ns = Inspection(trigger), trigger.now_ns

    def _close_part(self) -> Inspection | None:
        part, self._part, self._eyes.asked_ns = self._part, None, None
        return part

    # ── time, faults, people ────────────────────────────────────────────────────────────────────────────────────

    def _on_tick(self, event: Tick) -> list[Action]:
        late = self._part and event.now_ns >= self._part.deadline_ns
        actions = self._end_part("no verdict by the deadline") if late else []
        eye = self._eyes.by_name.get(event.camera)
        lost = eye.count_loss(event.camera, event.frame_id) if eye else []
        return self._with_permit(event.now_ns, actions + lost)

    def _on_maintenance(self, event: MaintenanceOrdered) -> list[Action]:
        if event.until_ns <= event.now_ns:
            self._end_maintenance()
            return self._with_permit(event.now_ns, [])
        self._maintenance, self._shut = event, True
        self._eyes.forget()
        return self._with_permit(event.now_ns, self._end_part(_working(event)))

    def _end_maintenance(self) -> None:
        """Whatever was in the station meanwhile is gone: evidence and sight begin anew."""
        if self._maintenance:
            self._maintenance = None
            self._evidence.clear()
            self._eyes.forget()

    def _on_resume(self, event: ResumeAsked) -> list[Action]:
        refused = self._why_not(event)
        self._nonces.append(event.nonce)
        answer = AnswerResume(event.halt, event.who, event.nonce, not refused, refused)
        if refused:
            return self._with_permit(event.now_ns, [answer])
        ended, self.halt = self.halt, None
        self._evidence.clear()
        actions = [*self._move(Cause.RESUME, f"resumed by {event.who}"), answer]
        if ended and ended.stop:  # whoever ended that halt has not ended this stop
            actions += self._stop(ended.stop)
        return self._with_permit(event.now_ns, actions)

    def _on_stop(self, event: StopAsked) -> list[Action]:
        """In doubt the line stops: whatever else holds, and however old the request is. Only a copy does nothing."""
        why, actions = "", []
        if event.nonce in self._stops:
            why = "this request came before"
        elif self.halt is None:
            actions = self._stop(stop_reason(event.who, event.why))
        elif self.halt.code is not Code.STOP:
            # A person who resumes the open halt may know nothing of this request: it waits for its own resume.
            self.halt = replace(self.halt, stop=self.halt.stop or stop_reason(event.who, event.why))
            why = f"halt {self.halt.halt} is open; this stop follows it"
        else:
            why = f"stopped by halt {self.halt.halt} already"
        self._stops.append(event.nonce)
        return self._with_permit(event.now_ns, [*actions, AnswerStop(event.who, event.nonce, why, self.halt)])

    def _stop(self, reason: str) -> list[Action]:
        self.halt = HaltReport(self._next_id(), Code.STOP, reason)
        return [*self._move(Cause.STOP, reason), RaiseHalt(self.halt)]

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
        if not self._sees(event.now_ns):
            return f"cannot judge: fewer than {self.policy.fresh_frames} fresh frames"
        return ""

    def _notice_silence(self, now_ns: int) -> list[Action]:
        """With every event, not with ticks alone: the first frame after inference hung would renew the permit."""
        if self._maintenance and now_ns >= self._maintenance.until_ns:
            self._end_maintenance()
        self._eyes.notice_silence(self.policy, now_ns)
        trouble = self._trouble()
        blind = self._move(Cause.BLIND, trouble[1]) if trouble else []
        return blind + self._eyes.changes(self.policy)

    def _trouble(self) -> tuple[Code, str] | None:
        """The first reason why the station cannot judge."""
        if self._maintenance:
            return Code.MAINTENANCE, _working(self._maintenance)
        return next(iter(self._faults.items()), None) or self._eyes.fault(self.policy)

    def _sees(self, now_ns: int) -> bool:
        return not self._trouble() and self._eyes.see(self.policy, now_ns)

    def _try_to_see(self, now_ns: int) -> list[Action]:
        if not self._sees(now_ns):
            return []
        return self._move(Cause.SEES, f"{self.policy.fresh_frames} frames judged in a row")

    def _move(self, cause: Cause, why: str) -> list[Action]:
        new = TRANSITIONS.get((self.state, cause))
        if new is None or new is self.state:
            return []
        old, self.state = self.state, new
        self._shut &= new is not State.RUNNING
        return [StateChanged(old, new, why)]

    # ── the permit ──────────────────────────────────────────────────────────────────────────────────────────────

    def _with_permit(self, now_ns: int, actions: list[Action]) -> list[Action]:
        """The permit goes first, with every event, so that its lease is renewed only by a guard that lives."""
        actions = actions + self._notice_silence(now_ns)
        # To run blind is to do without sight. INTERNAL is no loss of sight: another edge has this one's name, or this
        # one is not to be trusted, and nobody knows whose word the controller hears.
        runs_blind = self.policy.blind_runs and not self._shut and Code.INTERNAL not in self._faults
        run = self.state is State.RUNNING or (self.state is State.BLIND and runs_blind)
        level = (run, self._code(), self.halt.halt if self.halt else 0)
        changed, self._level = level != self._level, level
        until = now_ns + self.policy.lease_ms * 1_000_000
        oldest = self._eyes.judged_ns(self.policy, now_ns)
        return [SetPermit(*level, oldest, until, changed), *actions]

    def _code(self) -> Code:
        if self.state is State.HALTED and self.halt:
            return self.halt.code
        if self._maintenance:
            return Code.MAINTENANCE
        if self.state is State.BLIND:
            return (self._trouble() or (Code.CAMERA, ""))[0]
        if self.state is State.STARTING:
            # Without sight yet by its nature; a fault that was named will not pass by itself.
            return next(iter(self._faults), Code.STARTING)
        return Code.OK


def _working(order: MaintenanceOrdered) -> str:
    return f"maintenance by {order.who}"
