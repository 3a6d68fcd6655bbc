"""What the guard knows of a station's cameras: which of them see, since when, and why not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inspection.events import Action, CountLoss, EyeChanged
from inspection.policy import Policy
from inspection.types import Code


@dataclass(slots=True)
class Eye:
    """One camera. Every camera but the optional ones must see before the line may run."""

    judged_ns: int
    owed_ns: int | None = None
    """Since when a part that was triggered waits for a frame of this camera; mode "part" only."""
    fresh: int = 0
    last_id: int | None = None
    fault: tuple[Code, str] | None = None
    told_blind: bool = False

    def judge(self, captured_ns: int) -> None:
        """A frame exposed then was judged. It pays for every part triggered before it."""
        self.judged_ns, self.fresh, self.fault = max(self.judged_ns, captured_ns), self.fresh + 1, None
        if self.owed_ns is not None and captured_ns >= self.owed_ns:
            self.owed_ns = None

    def count_loss(self, camera: str, frame_id: int) -> list[Action]:
        last, self.last_id = self.last_id, frame_id
        return [] if last is None or frame_id <= last + 1 else [CountLoss(camera, frame_id - last - 1)]


class Eyes:
    """`asked_ns`: when the open part was triggered; None between parts. Only mode "part" looks at it, and at what a
    camera still owes: a part may end, or the next one come, before its silence is long enough to be called one.
    """

    def __init__(self, cameras: Iterable[str], now_ns: int) -> None:
        self.by_name = {camera: Eye(now_ns) for camera in cameras}
        self.asked_ns: int | None = None

    def ask(self, now_ns: int) -> None:
        """A part was triggered: every camera owes a frame, since the oldest part it has not shown."""
        for eye in self.by_name.values():
            eye.owed_ns = now_ns if eye.owed_ns is None else eye.owed_ns

    def of(self, camera: str, now_ns: int) -> Eye:
        return self.by_name.setdefault(camera, Eye(now_ns))

    def required(self, policy: Policy) -> list[Eye]:
        """Never none: a policy that would make all cameras optional makes none so."""
        found = [eye for camera, eye in self.by_name.items() if camera not in policy.optional]
        return found or list(self.by_name.values())

    def to_ask(self, policy: Policy) -> set[str]:
        """The cameras a part is shown to: all but the optional ones that cannot see it."""
        return {name for name, eye in self.by_name.items() if name not in policy.optional or eye.fault is None}

    def seeing(self, policy: Policy, now_ns: int) -> set[str]:
        return {
            name for name, eye in self.by_name.items() if eye.fault is None and not self.is_silent(eye, policy, now_ns)
        }

    def see(self, policy: Policy, now_ns: int) -> bool:
        """Whether every required camera has judged enough frames in a row, and lately."""
        enough = policy.fresh_frames
        return all(
            eye.fault is None and eye.fresh >= enough and not self.is_silent(eye, policy, now_ns)
            for eye in self.required(policy)
        )

    def fault(self, policy: Policy) -> tuple[Code, str] | None:
        return next((eye.fault for eye in self.required(policy) if eye.fault), None)

    def is_silent(self, eye: Eye, policy: Policy, now_ns: int) -> bool:
        """A camera that delivers only when it is triggered owes a frame only to a part."""
        since_ns = eye.owed_ns if policy.mode == "part" else eye.judged_ns
        return since_ns is not None and now_ns - since_ns > policy.max_silence_ms * 1_000_000

    def notice_silence(self, policy: Policy, now_ns: int) -> None:
        for camera, eye in self.by_name.items():
            if self.is_silent(eye, policy, now_ns):
                eye.fresh = 0
                # A frame that came and could not be judged is the better reason: it stays.
                eye.fault = eye.fault or (Code.CAMERA, f"{camera}: no frame for {policy.max_silence_ms} ms")

    def changes(self, policy: Policy) -> list[Action]:
        """What people must be told of the optional cameras, since the permit does not say it."""
        told: list[Action] = []
        for camera, eye in self.by_name.items():
            blind = eye.fault is not None
            if camera in policy.optional and blind is not eye.told_blind:
                eye.told_blind = blind
                told.append(EyeChanged(camera, not blind, eye.fault[1] if eye.fault else "sees again"))
        return told

    def forget(self) -> None:
        """What was seen before no longer counts: as many fresh frames are needed as at a start. Nor what was owed."""
        for eye in self.by_name.values():
            eye.fresh, eye.owed_ns = 0, None

    def judged_ns(self, policy: Policy, now_ns: int) -> int:
        """When the stalest required camera last judged what it owed; between parts nothing is owed."""
        return min(self._owed_or_judged(eye, policy, now_ns) for eye in self.required(policy))

    def _owed_or_judged(self, eye: Eye, policy: Policy, now_ns: int) -> int:
        if policy.mode != "part":
            return eye.judged_ns
        if eye.owed_ns is not None:
            return eye.owed_ns
        return now_ns if self.asked_ns is None else eye.judged_ns
