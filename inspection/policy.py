"""What a site wants: the limits that turn scores and sizes into calls, and how much silence it bears."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from inspection.bundle import Manifest
from inspection.types import Call, Finding


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """Limits of one class. Score below `lo`: pass; from `hi` on: defect; between: uncertain.

    Regions that together are clearly shorter than `limit_mm` (by more than `size_tolerance_mm`, what the measurement
    is off by) are not a reason to stop. `k` of the last `n` judged frames make a halt.
    """

    cls: str
    lo: float
    hi: float
    limit_mm: float = 0.0
    size_tolerance_mm: float = 0.3
    k: int = 1
    n: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.lo <= self.hi <= 1:
            raise ValueError(f"class {self.cls}: need 0 <= lo <= hi <= 1, not lo {self.lo}, hi {self.hi}")
        if not 1 <= self.k <= self.n:
            raise ValueError(f"class {self.cls}: need 1 <= k <= n, not k {self.k}, n {self.n}")


@dataclass(frozen=True, slots=True)
class Policy:
    """`max_silence_ms`: longest time without a judged frame before the guard is blind.
    `lease_ms`: how long a permit outlives the guard's last word. `fresh_frames`: judged in a row before the guard
    says that it sees. `resume_max_permits`: how many permits old a resume's view may be (4 a second).
    `blind_runs`: keep the permit while blind and report a fault only; off unless the site asks for it, and without
    effect unless its controller also accepts an older `age_ms`, which goes on growing.
    `uncertain_every_ms`: at most one uncertain frame in this time; `audit_share`: share of passes kept at random.

    A policy that would let the line run on nothing (no class, no fresh frame needed) is refused with ValueError."""

    classes: tuple[ClassPolicy, ...]
    max_silence_ms: int = 300
    lease_ms: int = 400
    fresh_frames: int = 3
    resume_max_permits: int = 20
    blind_runs: bool = False
    uncertain_every_ms: int = 1000
    audit_share: float = 0.0

    def __post_init__(self) -> None:
        names = [rule.cls for rule in self.classes]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a policy needs one or more classes, each once, not {names}")
        if self.max_silence_ms < 1 or self.lease_ms < 1 or self.fresh_frames < 1:
            raise ValueError("max_silence_ms, lease_ms and fresh_frames must be at least 1")
        if not 0 <= self.audit_share <= 1:
            raise ValueError(f"audit_share is a share from 0 to 1, not {self.audit_share}")

    @property
    def id(self) -> str:
        """Names this policy in every halt and record: the first 12 hex digits of its content's sha256."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class FrameCall:
    """The call on one frame. `defects`: each class that calls for a stop, with the finding behind it, if any."""

    call: Call
    why: str
    scores: Mapping[str, float] = field(default_factory=dict)
    defects: Mapping[str, Finding | None] = field(default_factory=dict)


def policy_of(manifest: Manifest, k: int = 1, n: int = 1) -> tuple[ClassPolicy, ...]:
    """The limits a bundle was released with."""
    return tuple(ClassPolicy(m.cls, m.lo, m.hi, m.limit_mm, k=k, n=n) for m in manifest.limits)


def judge(scores: Mapping[str, float], findings: tuple[Finding, ...], policy: Policy) -> FrameCall:
    """Scores and findings of one frame -> its call.

    A class whose score is missing or no probability makes it a FAULT: nobody judged that frame, and calling it
    uncertain would let the line run on a model that does not know the class at all.
    """
    call, why = Call.PASS, "every score is below its limit"
    defects: dict[str, Finding | None] = {}
    for rule in policy.classes:
        found = [f for f in findings if f.cls == rule.cls]
        longest = max(found, key=_length_mm, default=None)
        of_class, reason = _judge_class(rule, scores.get(rule.cls), found)
        if of_class is Call.DEFECT:
            defects[rule.cls] = longest
        if _RANK[of_class] > _RANK[call]:
            call, why = of_class, reason
    return FrameCall(call, why, scores, defects)


_RANK = {Call.PASS: 0, Call.UNCERTAIN: 1, Call.DEFECT: 2, Call.FAULT: 3}


def _length_mm(found: Finding) -> float:
    """A length that is not a number compares false with everything: it counts as the longest."""
    return math.inf if math.isnan(found.length_mm) else found.length_mm


def _judge_class(rule: ClassPolicy, score: float | None, found: list[Finding]) -> tuple[Call, str]:
    if score is None or not 0 <= score <= 1:
        return Call.FAULT, f"the model's score for {rule.cls} is {score}"
    if score < rule.lo:
        return Call.PASS, ""
    if score < rule.hi:
        return Call.UNCERTAIN, f"{rule.cls} {score:.2f} is between {rule.lo:.2f} and {rule.hi:.2f}"
    if not found:  # the model is sure but shows no place: in doubt the line stops
        return Call.DEFECT, f"{rule.cls} {score:.2f} >= {rule.hi:.2f}, place unknown"
    # All pieces count: a hairline's map comes in pieces, of which the longest alone may be far under the limit.
    length_mm = sum(_length_mm(f) for f in found)
    if length_mm < rule.limit_mm - rule.size_tolerance_mm:
        size = f"{length_mm:.1f} mm is under the limit of {rule.limit_mm:.1f} mm"
        return Call.UNCERTAIN, f"{rule.cls} {score:.2f} >= {rule.hi:.2f}, but {size}"
    return Call.DEFECT, f"{rule.cls} {length_mm:.1f} mm, score {score:.2f} >= {rule.hi:.2f}"
