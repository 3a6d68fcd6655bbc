"""One part under the cameras: what was seen of it, and the one verdict that follows."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from inspection.events import GiveVerdict, PartArrived
from inspection.policy import ClassPolicy, FrameCall, Policy
from inspection.types import Call


@dataclass(slots=True)
class Inspection:
    """An open part. Every call comes with the camera that saw it."""

    trigger: PartArrived
    seen: list[tuple[str, FrameCall]] = field(default_factory=list)

    @property
    def deadline_ns(self) -> int:
        return self.trigger.now_ns + self.trigger.deadline_ms * 1_000_000

    @property
    def seen_by(self) -> set[str]:
        return {camera for camera, _ in self.seen}

    def shows(self, captured_ns: int) -> bool:
        """Frames exposed before the trigger show the part before; triggers overtake frames that wait."""
        return captured_ns >= self.trigger.now_ns

    def is_complete(self, needed: Set[str]) -> bool:
        return len(self.seen) >= self.trigger.frames and needed <= self.seen_by

    def verdict(self, policy: Policy) -> GiveVerdict:
        """Enough cameras for a defect: DEFECT. Anything but clear passes otherwise: UNCERTAIN, never a pass."""
        cameras = self.seen_by
        for rule in policy.classes:
            votes = sum(self._votes(rule, camera) for camera in cameras)
            if votes and votes >= min(policy.vote, len(cameras)):
                hits = sum(rule.cls in call.defects for _, call in self.seen)
                return self._give(Call.DEFECT, f"{hits} of {len(self.seen)} frames", rule.cls)
        if any(call.call is not Call.PASS for _, call in self.seen):
            return self._give(Call.UNCERTAIN, "some frames were not clear passes")
        return self._give(Call.PASS, f"all {len(self.seen)} frames")

    def fault(self, why: str) -> GiveVerdict:
        return self._give(Call.FAULT, why)

    def _votes(self, rule: ClassPolicy, camera: str) -> bool:
        """Whether this camera's frames of the part make a defect. Fewer frames than the rule asks for must not make
        one impossible: then all of them are enough."""
        calls = [call for name, call in self.seen if name == camera]
        hits = sum(rule.cls in call.defects for call in calls)
        if rule.cusum is None:
            return hits >= min(rule.k, len(calls))
        test = rule.evidence()
        complete = False
        for call in calls:
            hit, small = rule.cls in call.defects, rule.cls in call.small
            complete |= test.add(0, call.scores[rule.cls], hit=hit, small=small)
        return complete or hits == len(calls)

    def _give(self, verdict: Call, why: str, cls: str = "") -> GiveVerdict:
        found = [call.defects[cls] for _, call in self.seen if cls in call.defects]
        longest = max((f.length_mm for f in found if f), default=0.0)
        score = max((call.scores.get(cls, 0.0) for _, call in self.seen), default=0.0)
        t = self.trigger
        return GiveVerdict(t.part, t.inspection, verdict, cls, score, longest, len(self.seen), why)
