"""What a site wants: the limits that turn scores and sizes into calls, and how much silence it bears."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from inspection.bundle import Manifest
from inspection.evidence import Cusum, Either, Evidence, KOfN, Sum
from inspection.types import Call, Finding


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """Limits of one class. Score below `lo`: pass; from `hi` on: defect; between: uncertain.

    Regions that together are clearly shorter than `limit_mm` (by more than `size_tolerance_mm`, what the measurement
    is off by) are not a reason to stop. `k` of the last `n` judged frames make a halt, or, if there is one, the
    sequential test `cusum`; with `beside` either of them is enough. `release`: once uncertain, the class stays so
    until its score falls below; such a spell gives one frame. None: every frame is looked at by itself.
    """

    cls: str
    lo: float
    hi: float
    limit_mm: float = 0.0
    size_tolerance_mm: float = 0.3
    k: int = 1
    n: int = 1
    cusum: Cusum | None = None
    beside: bool = False
    release: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lo <= self.hi <= 1:
            raise ValueError(f"class {self.cls}: need 0 <= lo <= hi <= 1, not lo {self.lo}, hi {self.hi}")
        if not 1 <= self.k <= self.n:
            raise ValueError(f"class {self.cls}: need 1 <= k <= n, not k {self.k}, n {self.n}")
        if not (math.isfinite(self.limit_mm) and math.isfinite(self.size_tolerance_mm)):
            sizes = f"limit_mm {self.limit_mm}, size_tolerance_mm {self.size_tolerance_mm}"
            raise ValueError(f"class {self.cls}: a size is a number of mm, or nothing would ever halt, not {sizes}")
        if self.release is not None and not 0 <= self.release <= self.lo:
            raise ValueError(f"class {self.cls}: need 0 <= release <= lo {self.lo}, not {self.release}")

    def evidence(self) -> Evidence:
        """The rule of this class, with nothing seen yet."""
        window = KOfN(self.k, self.n)
        if self.cusum is None:
            return window
        return Either(window, Sum(self.cusum)) if self.beside else Sum(self.cusum)


@dataclass(frozen=True, slots=True)
class Policy:
    """`max_silence_ms`: longest time without a judged frame before the guard is blind.
    `lease_ms`: how long a permit outlives the guard's last word. `fresh_frames`: judged in a row before the guard
    says that it sees. `resume_max_permits`: how many permits old a resume's view may be (4 a second).
    `blind_runs`: keep the permit while blind and report a fault only; off unless the site asks for it, and without
    effect unless its controller also accepts an older `age_ms`, which goes on growing. Never with a fault INTERNAL.
    `mode`: "stream", a camera over a moving seam, whose silence is blindness; or "part", a camera that delivers only
    when a trigger opens an inspection. `halt_on_defect`: False, in part mode only, leaves it to the controller to
    reject the part: the verdict says so, the permit stays. `vote`: so many cameras must agree on a defect, of those
    that see; `optional`: cameras whose blindness does not withdraw the permit.
    `uncertain_every_ms`: at most one uncertain frame of a camera in this time; `unstable_flips`: so many changes
    between above and below the band's middle within 8 frames make a frame worth keeping, 0 = off. `audit_share`:
    share of passes kept at random, `audit_part_share`: of parts, `audits_per_h`: at most so many frames. `novel_from`:
    a frame whose novelty is above is kept, None: none is; `novel_every_ms`: at most one of a camera in this time.

    A policy that would let the line run on nothing (no class, no fresh frame needed, nothing that ever says no) is
    refused with ValueError."""

    classes: tuple[ClassPolicy, ...]
    max_silence_ms: int = 300
    lease_ms: int = 400
    fresh_frames: int = 3
    resume_max_permits: int = 20
    blind_runs: bool = False
    mode: Literal["stream", "part"] = "stream"
    halt_on_defect: bool = True
    vote: int = 1
    optional: tuple[str, ...] = ()
    uncertain_every_ms: int = 1000
    unstable_flips: int = 0
    audit_share: float = 0.0
    audit_part_share: float = 0.0
    audits_per_h: float | None = None
    novel_from: float | None = None
    novel_every_ms: int = 60_000

    def __post_init__(self) -> None:
        names = [rule.cls for rule in self.classes]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a policy needs one or more classes, each once, not {names}")
        if self.max_silence_ms < 1 or self.lease_ms < 1 or self.fresh_frames < 1:
            raise ValueError("max_silence_ms, lease_ms and fresh_frames must be at least 1")
        if self.vote < 1 or self.unstable_flips < 0 or (self.audits_per_h is not None and not self.audits_per_h >= 0):
            raise ValueError("vote must be at least 1, unstable_flips and audits_per_h at least 0")
        if self.novel_every_ms < 0 or (self.novel_from is not None and not self.novel_from >= 0):
            raise ValueError("novel_from and novel_every_ms must be at least 0")
        if not self.halt_on_defect and self.mode != "part":
            raise ValueError("halt_on_defect: false needs mode part, or no defect would ever stop anything")
        if not (0 <= self.audit_share <= 1 and 0 <= self.audit_part_share <= 1):
            raise ValueError(f"a share is from 0 to 1, not {self.audit_share} and {self.audit_part_share}")

    @property
    def id(self) -> str:
        """Names this policy in every halt and record: the first 12 hex digits of its content's sha256."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class FrameCall:
    """The call on one frame. `defects`: each class that calls for a stop, with the finding behind it, if any.
    `small`: classes of which the frame shows something, but clearly under the limit."""

    call: Call
    why: str
    scores: Mapping[str, float] = field(default_factory=dict)
    defects: Mapping[str, Finding | None] = field(default_factory=dict)
    small: frozenset[str] = frozenset()


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
    small: set[str] = set()
    for rule in policy.classes:
        found = [f for f in findings if f.cls == rule.cls]
        longest = max(found, key=_length_mm, default=None)
        # All pieces count: a hairline's map comes in pieces, of which the longest alone may be far under the limit.
        length_mm = sum(_length_mm(f) for f in found) if found else None
        if length_mm is not None and length_mm < rule.limit_mm - rule.size_tolerance_mm:
            small.add(rule.cls)
        of_class, reason = _judge_class(rule, scores.get(rule.cls), length_mm, small=rule.cls in small)
        if of_class is Call.DEFECT:
            defects[rule.cls] = longest
        if _RANK[of_class] > _RANK[call]:
            call, why = of_class, reason
    return FrameCall(call, why, scores, defects, frozenset(small))


_RANK = {Call.PASS: 0, Call.UNCERTAIN: 1, Call.DEFECT: 2, Call.FAULT: 3}


def _length_mm(found: Finding) -> float:
    """A length that is not a number compares false with everything: it counts as the longest."""
    return math.inf if math.isnan(found.length_mm) else found.length_mm


def shown(score: float) -> float:
    """A score or a limit of scores with the two digits that people read: cut, since 0.995 rounded to 1.00 looks surer
    than it is, and one below its limit would look as if it were at it."""
    if math.isnan(score):
        return score
    return math.floor(score * 100 + 1e-9) / 100  # 0.29 is stored as a little less


def _judge_class(rule: ClassPolicy, score: float | None, length_mm: float | None, *, small: bool) -> tuple[Call, str]:
    if score is None or not 0 <= score <= 1:
        return Call.FAULT, f"the model's score for {rule.cls} is {score}"
    if score < rule.lo:
        return Call.PASS, ""
    said, hi = f"{shown(score):.2f}", f"{shown(rule.hi):.2f}"
    if score < rule.hi:
        return Call.UNCERTAIN, f"{rule.cls} {said} is between {shown(rule.lo):.2f} and {hi}"
    if length_mm is None:  # the model is sure but shows no place: in doubt the line stops
        return Call.DEFECT, f"{rule.cls} {said} >= {hi}, place unknown"
    if small:
        size = f"{length_mm:.1f} mm is under the limit of {rule.limit_mm:.1f} mm"
        return Call.UNCERTAIN, f"{rule.cls} {said} >= {hi}, but {size}"
    return Call.DEFECT, f"{rule.cls} {length_mm:.1f} mm, score {said} >= {hi}"
