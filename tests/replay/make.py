"""`python tests/replay/make.py`: makes the reference recordings anew, from stories told by a fixed seed.

A change in the guard's behaviour shows as a difference in these files. Remake them only in a commit that says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inspection.bundle import ClassLimits
from inspection.decision import LineGuard
from inspection.events import (
    CannotJudge,
    Event,
    FaultFound,
    FaultOver,
    Judged,
    MaintenanceOrdered,
    PartArrived,
    PolicyChanged,
    ResumeAsked,
    Tick,
)
from inspection.evidence import Cusum
from inspection.policy import ClassPolicy, Policy
from inspection.recording import Head, head_line, step_line
from inspection.types import Code, Finding

HERE = Path(__file__).parent
MS = 1_000_000
FRAME_MS = 50
LIMITS = (ClassLimits(cls="porosity", lo=0.3, hi=0.7, limit_mm=1.0), ClassLimits(cls="scratch", lo=0.2, hi=0.8))
CLASSES = tuple(ClassPolicy(m.cls, m.lo, m.hi, m.limit_mm, k=2, n=3) for m in LIMITS)


@dataclass
class Story:
    """A station and what happens to it. Good frames have scores around 5 %; `sees` makes one frame of each camera."""

    policy: Policy
    cameras: tuple[str, ...] = ("cam1",)
    seed: int = 1
    ms: int = 0
    frame_id: int = 0
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        head = Head(3, self.cameras, self.policy, 0, None, "story-1.0.0", LIMITS)
        self.lines.append(head_line(head))
        self.guard: LineGuard = head.guard()

    def tell(self, event: Event) -> None:
        self.lines.append(step_line(event, self.guard.handle(event)))

    def score(self, evidence: float) -> float:
        """A calibrated score whose log-odds lie around this."""
        return round(1 / (1 + math.exp(-self.rng.normal(evidence, 0.7))), 4)

    def sees(self, evidence: float = -3.0, cls: str = "porosity", mm: float = 3.0, only: str = "") -> None:
        self.ms += FRAME_MS
        self.frame_id += 1
        for camera in self.cameras:
            here = evidence if only in ("", camera) else -3.0
            scores = {c.cls: self.score(here if c.cls == cls else -3.0) for c in self.policy.classes}
            found = (Finding(cls, scores[cls], (10, 10, 20, 20), mm, 2.0),) if here > -3 else ()
            at_ns = (self.ms + 9) * MS
            self.tell(Judged(camera, self.frame_id, at_ns, self.ms * MS, scores, found))
        self.tell(Tick((self.ms + 20) * MS))

    def runs(self, frames: int, evidence: float = -3.0, **how: float) -> None:
        for _ in range(frames):
            self.sees(evidence, **how)  # type: ignore[arg-type]

    def quiet(self, ms: int) -> None:
        for _ in range(ms // FRAME_MS):
            self.ms += FRAME_MS
            self.tell(Tick(self.ms * MS))

    def resumes(self) -> None:
        halt = self.guard.halt.halt if self.guard.halt else 0
        self.tell(ResumeAsked((self.ms + 30) * MS, halt, "ann", f"nonce-{len(self.lines)}", 3, 100, 103))

    def part(self, number: int, frames: int = 2, deadline_ms: int = 300) -> None:
        self.tell(PartArrived((self.ms + 30) * MS, f"part-{number}", number, deadline_ms, frames))


def seam() -> Story:
    """A seam under one camera: a pore, spots under the limit, an unsure stretch, a covered lens, an engineer."""
    s = Story(Policy(CLASSES, audit_share=0.05, unstable_flips=3))
    s.runs(20)
    s.runs(4, 2.5)
    s.runs(6)
    s.resumes()
    s.runs(10)
    s.runs(4, 2.5, mm=0.4)
    s.runs(5)
    for k in range(8):
        s.sees(0.8 if k % 2 else -0.8, cls="scratch")
    s.frame_id += 3
    for _ in range(3):
        s.ms += FRAME_MS
        s.frame_id += 1
        s.tell(CannotJudge("cam1", s.frame_id, s.ms * MS, Code.CAMERA, "covered"))
    s.runs(5)
    s.quiet(500)
    s.resumes()
    s.runs(5)
    s.runs(3, 2.5)
    s.resumes()
    s.tell(FaultFound(s.ms * MS, Code.STORAGE, "disk full"))
    s.runs(2)
    s.tell(FaultOver(s.ms * MS, Code.STORAGE))
    s.tell(MaintenanceOrdered(s.ms * MS, (s.ms + 400) * MS, "eve"))
    s.runs(6, 3.0)
    s.runs(8)
    s.tell(PolicyChanged(s.ms * MS, Policy(tuple(ClassPolicy(c.cls, c.lo, 0.95) for c in CLASSES))))
    s.runs(5, 2.5)
    s.runs(3, 5.0)
    return s


def slow_scratch() -> Story:
    """A scratch that no single frame is sure of, under a sequential test at one false halt in 8 h."""
    test = Cusum(h=13.67, clip=4, thin=1)
    s = Story(Policy(tuple(ClassPolicy(c.cls, c.lo, c.hi, cusum=test, release=0.15) for c in CLASSES)), seed=2)
    s.runs(30)
    s.runs(3, 1.0, cls="scratch")
    s.runs(20)
    s.runs(40, 0.8, cls="scratch")
    s.resumes()
    s.runs(10)
    s.runs(6, 6.0, cls="scratch")
    s.runs(4)
    s.resumes()
    s.runs(5)
    return s


def parts() -> Story:
    """Triggered parts before two cameras, both of which must agree; the controller rejects, the line runs on."""
    policy = Policy(CLASSES, mode="part", halt_on_defect=False, vote=2, audit_part_share=0.3)
    s = Story(policy, ("left", "right"), seed=3)
    s.part(0, frames=6, deadline_ms=1000)
    s.runs(3)
    for number, (evidence, only) in enumerate(
        [(-3.0, ""), (3.0, ""), (3.0, "left"), (0.0, ""), (-3.0, ""), (3.0, ""), (-3.0, "")], 1
    ):
        s.quiet(400)
        s.part(number, frames=4)
        for _ in range(2):
            s.sees(evidence, only=only)
    s.quiet(1000)
    s.part(8, deadline_ms=600)
    s.quiet(800)
    s.part(9, frames=8, deadline_ms=1000)
    s.runs(4)
    s.part(10, frames=4)
    s.sees()
    s.part(11, frames=4)
    s.runs(2)
    return s


STORIES = {"seam": seam, "slow_scratch": slow_scratch, "parts": parts}


def made() -> Iterator[tuple[Path, str]]:
    for name, story in STORIES.items():
        yield HERE / f"{name}.jsonl", "\n".join(story().lines) + "\n"


if __name__ == "__main__":
    for path, text in made():
        path.write_text(text, encoding="utf-8")
        print(path, f"{len(text) / 1024:.0f} KiB")
