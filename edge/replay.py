"""`haltline edge replay`: what would this policy, or this model, have done with what was recorded?

Without either, the recorded policy must give the recorded actions, to the last one. With another one the line would
have stood still at other times, which no recording can show: a halt that only the replay has is resumed by a simulated
person after a while, and what the recorded line showed while it stood is judged as it was shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.ports import Model
from edge.tape import picture_path
from inspection.decision import LineGuard
from inspection.errors import InputError, ModelError
from inspection.events import CannotJudge, Event, Judged, PartArrived, PolicyChanged, ResumeAsked
from inspection.evidence import Cusum
from inspection.policy import Policy
from inspection.recording import Recording, Said, Step, at_ns, parse, spoken
from inspection.thinning import inflation, prior_of
from inspection.types import Code, Frame

SAME_HALT_NS = 2 * 10**9
"""Two halts for one class within this time are one event."""
RESUME_AFTER_NS = 5 * 10**9
"""So long the simulated person looks at a halt that the recorded line did not have."""

Judge = Callable[[Step], Event | None]
"""The event a step would have been; None when nobody can tell."""


def read(path: Path) -> Recording:
    """The whole recording. InputError names the file and line."""
    try:
        with path.open(encoding="utf-8") as file:
            return parse(file, str(path))
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(path, str(e), "name a file made by `haltline edge run --record FILE`") from e


# ── exactly ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Departure:
    """One event that is answered otherwise than it was."""

    line: int
    event: Event
    was: tuple[Said, ...]
    now: tuple[Said, ...]


def departures(recording: Recording) -> list[Departure]:
    """Where today's guard, under the recorded policy, departs from the recorded one."""
    guard = recording.head.guard()
    found = []
    for number, step in enumerate(recording.steps, 2):
        now = tuple(spoken(guard.handle(step.event)))
        if now != step.said:
            found.append(Departure(number, step.event, step.said, now))
    return found


# ── otherwise ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Halt:
    """`at_s` since the recording began."""

    at_s: float
    cls: str
    frame_id: int
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a recording, under one policy."""

    halts: tuple[Halt, ...]
    verdicts: dict[str, tuple[str, str, float]]
    """Part and inspection -> verdict, class, score."""
    kept: Counter[str]
    permit_s: float
    """For so long the line had a permit."""


def outcome(recording: Recording, steps: Iterable[tuple[Event, Iterable[Said]]]) -> Outcome:
    start_ns = last_ns = recording.head.now_ns
    halts: list[Halt] = []
    verdicts: dict[str, tuple[str, str, float]] = {}
    kept: Counter[str] = Counter()
    runs, permit_ns = False, 0
    for event, said in steps:
        now_ns = at_ns(event)
        permit_ns += (now_ns - last_ns) * runs
        last_ns = now_ns
        for action in said:
            ((name, f),) = action.items()
            if name == "SetPermit":
                runs = f["run"]
            elif name == "RaiseHalt":
                r = f["report"]
                at_s = (now_ns - start_ns) / 1e9
                halts.append(Halt(at_s, r["cls"], r["frame_id"], r["score"], r["reason"]))
            elif name == "GiveVerdict":
                verdicts[f"{f['part']}/{f['inspection']}"] = (f["verdict"], f["cls"], f["score"])
            elif name == "Keep":
                kept.update(f["why"])
    return Outcome(tuple(halts), verdicts, kept, permit_ns / 1e9)


def recorded(recording: Recording) -> Outcome:
    return outcome(recording, ((step.event, step.said) for step in recording.steps))


@dataclass(frozen=True, slots=True)
class Replayed:
    outcome: Outcome
    without_picture: int
    """Frames another model could not judge again, because no picture was kept: left out."""


def replay(recording: Recording, policy: Policy, judge: Judge | None = None) -> Replayed:
    """The recorded events under another policy, and with `judge` under another model."""
    guard = recording.head.guard(policy)
    person = _Person(guard)
    steps: list[tuple[Event, list[Said]]] = []
    missing = 0
    for step in recording.steps:
        event = judge(step) if judge else step.event
        missing += event is None
        # The recorded station changed its policy; this one holds the policy it is asked about.
        if event is None or isinstance(event, PolicyChanged):
            continue
        now_ns = at_ns(event)
        steps += ((asked, spoken(guard.handle(asked))) for asked in person.asks(now_ns))
        meant = person.means(event, step.said)
        if meant:
            steps.append((meant, spoken(guard.handle(meant))))
        person.saw(step.said, now_ns)
    return Replayed(outcome(recording, steps), missing)


class _Person:
    """Resumes in the replay: where somebody did, and after a while where nobody had to."""

    def __init__(self, guard: LineGuard) -> None:
        self._guard = guard
        self._recorded_halt = guard.halt is not None
        self._since_ns: int | None = None
        self._asked = 0

    def asks(self, now_ns: int) -> list[ResumeAsked]:
        halt = self._guard.halt
        if halt is None or self._recorded_halt:
            self._since_ns = None
            return []
        self._since_ns = self._since_ns or now_ns
        if now_ns - self._since_ns < RESUME_AFTER_NS:
            return []
        self._asked += 1
        return [ResumeAsked(now_ns, halt.halt, "replay", f"replay-{self._asked}", self._guard.boot, 0, 0)]

    def means(self, event: Event, said: Iterable[Said]) -> Event | None:
        """A resume that was accepted means the halt that is open here, whatever its number; others go as they are."""
        if not isinstance(event, ResumeAsked):
            return event
        if not any("AnswerResume" in action and action["AnswerResume"]["accepted"] for action in said):
            return None
        return replace(event, halt=self._guard.halt.halt) if self._guard.halt else None

    def saw(self, said: Iterable[Said], now_ns: int) -> None:
        for action in said:
            if "RaiseHalt" in action:
                self._recorded_halt = True
            elif "AnswerResume" in action and action["AnswerResume"]["accepted"]:
                self._recorded_halt = False


def judge_again(model: Model, frames: Path) -> Judge:
    """Every recorded frame whose picture was kept goes through `model`; what was blind for the camera stays so."""

    def judge(step: Step) -> Event | None:
        event = step.event
        if isinstance(event, PartArrived):
            model.begin_part(event.now_ns)
        if not isinstance(event, Judged | CannotJudge) or (
            isinstance(event, CannotJudge) and event.code is not Code.MODEL
        ):
            return event
        path = picture_path(frames, event.camera, event.frame_id)
        data = np.frombuffer(path.read_bytes(), np.uint8) if step.shot and path.is_file() else None
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data is not None and data.size else None
        if image is None or step.shot is None:
            return None
        captured_ns = event.captured_ns if isinstance(event, Judged) else event.at_ns
        pixels = image.astype(np.uint8, copy=False)
        frame = Frame(event.camera, event.frame_id, captured_ns, step.shot.wall_ms, pixels, step.shot.px_per_mm)
        try:
            seen = model.infer(frame)
        except ModelError as e:
            return CannotJudge(event.camera, event.frame_id, event.at_ns, Code.MODEL, str(e))
        said = dict(seen.scores), seen.findings, seen.novelty
        return Judged(event.camera, event.frame_id, event.at_ns, captured_ns, *said)

    return judge


# ── what is different ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Difference:
    gone: tuple[Halt, ...]
    """Halts of the recording that would not have happened."""
    new: tuple[Halt, ...]
    same: tuple[tuple[Halt, Halt], ...]
    verdicts: dict[str, tuple[str, str]]
    """Part and inspection -> verdict as it was and as it would have been; "none" where there was none."""
    kept: dict[str, tuple[int, int]]
    permit_s: tuple[float, float]
    without_picture: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        told = [f"halts: {len(self.same)} the same, {len(self.gone)} would not have happened, {len(self.new)} new"]
        told += [f"  not:   {_tell(halt)}" for halt in self.gone]
        told += [f"  new:   {_tell(halt)}" for halt in self.new]
        for was, now in self.same:
            later = now.at_s - was.at_s
            told += (
                [f"  moved: {_tell(now)}, {abs(later):.2f} s {'later' if later > 0 else 'earlier'}"] if later else []
            )
        told.append(f"verdicts changed: {len(self.verdicts)}")
        told += [f"  part {name}: {was} -> {now}" for name, (was, now) in self.verdicts.items()]
        told += [f"frames kept as {why}: {was} -> {now}" for why, (was, now) in self.kept.items() if was != now]
        told.append(f"with a permit: {self.permit_s[0]:.1f} s -> {self.permit_s[1]:.1f} s")
        if self.without_picture:
            told.append(f"left out: {self.without_picture} frames without a picture")
        return told


def difference(was: Outcome, replayed: Replayed) -> Difference:
    now = replayed.outcome
    same = _pairs(was.halts, now.halts)
    gone = tuple(halt for halt in was.halts if halt not in [old for old, _ in same])
    new = tuple(halt for halt in now.halts if halt not in [new for _, new in same])
    verdicts = {}
    for name in sorted(was.verdicts.keys() | now.verdicts.keys()):
        before, after = (side.verdicts.get(name, ("none", "", 0.0))[0] for side in (was, now))
        if before != after:
            verdicts[name] = (before, after)
    kept = {why: (was.kept[why], now.kept[why]) for why in sorted(was.kept.keys() | now.kept.keys())}
    permit_s = (was.permit_s, now.permit_s)
    return Difference(gone, new, same, verdicts, kept, permit_s, replayed.without_picture)


def _pairs(was: tuple[Halt, ...], now: tuple[Halt, ...]) -> tuple[tuple[Halt, Halt], ...]:
    """Halts that are one event, the nearest ones first, in the order of the recording."""
    near = [(abs(a.at_s - b.at_s), a, b) for a in was for b in now if a.cls == b.cls]
    found: list[tuple[Halt, Halt]] = []
    for apart_s, a, b in sorted(near, key=lambda pair: pair[0]):
        taken = any(a is old or b is new for old, new in found)
        if apart_s * 1e9 <= SAME_HALT_NS and not taken:
            found.append((a, b))
    return tuple(sorted(found, key=lambda pair: pair[0].at_s))


def _tell(halt: Halt) -> str:
    return f"{halt.at_s:.2f} s, frame {halt.frame_id}, {halt.cls} {halt.score:.2f} ({halt.reason})"


# ── what a sequential test should assume ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Estimate:
    camera: str
    cls: str
    frames: int
    prior: float
    thin: float
    note: str = ""


def estimate(recording: Recording) -> list[Estimate]:
    """`prior` and `thin` for each camera and class, from frames that are good: those not within 5 s of a halt."""
    halts_ns = [at_ns(s.event) for s in recording.steps if any("RaiseHalt" in action for action in s.said)]
    scores: dict[tuple[str, str], list[float]] = {}
    for step in recording.steps:
        event = step.event
        if isinstance(event, Judged) and all(abs(event.at_ns - at) > RESUME_AFTER_NS for at in halts_ns):
            for cls, score in event.scores.items():
                scores.setdefault((event.camera, cls), []).append(score)
    found = []
    for (camera, cls), seen in sorted(scores.items()):
        prior = round(prior_of(seen, Cusum(h=1).clip) + 5e-5, 4)
        try:
            test = Cusum(h=1, prior=min(0.999, prior))
            swing = inflation([test.nats(score) for score in seen])
            note = f"blocks of {swing.block_frames} frames"
            found.append(Estimate(camera, cls, len(seen), prior, round(swing.upper, 2), note))
        except ValueError as e:
            found.append(Estimate(camera, cls, len(seen), prior, float("nan"), str(e)))
    return found
