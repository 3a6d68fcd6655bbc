"""What a guard was told and what it answered, as lines of JSON: the black box of a station, and the input of a replay.

The first line is the head. Each line after it is one event with its actions; a permit that did not change is left out,
since a guard gives one with every event. Pure: text in, text out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from inspection.bundle import ClassLimits
from inspection.decision import LineGuard
from inspection.errors import InputError
from inspection.events import (
    Action,
    AnswerResume,
    AnswerStop,
    CannotJudge,
    Event,
    FaultFound,
    FaultOver,
    Judged,
    MaintenanceOrdered,
    PartArrived,
    PolicyChanged,
    RaiseHalt,
    ResumeAsked,
    SetPermit,
    StopAsked,
    Tick,
)
from inspection.evidence import Cusum
from inspection.policy import ClassPolicy, Policy
from inspection.types import Code, Finding, HaltReport

FORMAT = 1
EVENTS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Judged,
        CannotJudge,
        Tick,
        ResumeAsked,
        StopAsked,
        PartArrived,
        FaultFound,
        FaultOver,
        PolicyChanged,
        MaintenanceOrdered,
    )
}
Said = dict[str, Any]
"""An action as it stands in a recording: its name and its fields."""


@dataclass(frozen=True, slots=True)
class Shot:
    """What a recorded frame needs beside its picture to be judged again."""

    wall_ms: int
    px_per_mm: float


@dataclass(frozen=True, slots=True)
class Step:
    event: Event
    said: tuple[Said, ...]
    shot: Shot | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """What a guard is made of. `limits`: those of the bundle, so that another policy can be made without it."""

    boot: int
    cameras: tuple[str, ...]
    policy: Policy
    now_ns: int
    open_halt: HaltReport | None = None
    bundle: str = ""
    limits: tuple[ClassLimits, ...] = ()

    def guard(self, policy: Policy | None = None) -> LineGuard:
        return LineGuard(policy or self.policy, self.cameras, self.boot, self.now_ns, self.open_halt)

    def after(self, event: Event, actions: Iterable[Action]) -> Head:
        """The head a recording would have that began here."""
        head = replace(self, policy=event.policy) if isinstance(event, PolicyChanged) else self
        for action in actions:
            if isinstance(action, RaiseHalt):
                head = replace(head, open_halt=action.report)
            elif isinstance(action, AnswerStop):
                head = replace(head, open_halt=action.open)
            elif isinstance(action, AnswerResume) and action.accepted:
                head = replace(head, open_halt=None)
        return head


@dataclass(frozen=True, slots=True)
class Recording:
    head: Head
    steps: tuple[Step, ...] = field(repr=False)
    lost: int = 0
    """Events the recorder had no room for; a replay of such a recording is not exact."""


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def head_line(head: Head) -> str:
    known = {"recording": FORMAT, **asdict(replace(head, limits=()))}
    known["limits"] = [limit.model_dump() for limit in head.limits]
    return _dumps(known)


def step_line(event: Event, actions: Iterable[Action], shot: Shot | None = None) -> str:
    told = asdict(event)
    if isinstance(event, Judged) and event.novelty is None:  # of most models: not worth a word in every line
        del told["novelty"]
    if isinstance(event, Tick) and not event.camera:
        told = {"now_ns": event.now_ns}
    line: dict[str, Any] = {type(event).__name__: told}
    if said := spoken(actions):
        line["said"] = said
    if shot:
        line["shot"] = asdict(shot)
    return _dumps(line)


def lost_line(events: int) -> str:
    return _dumps({"lost": events})


def spoken(actions: Iterable[Action]) -> list[Said]:
    """Actions as a recording has them, through JSON, so that both sides of a comparison are alike."""
    told = [a for a in actions if not (isinstance(a, SetPermit) and not a.changed)]
    found: list[Said] = json.loads(_dumps([{type(action).__name__: asdict(action)} for action in told]))
    for action in found:
        if "RaiseHalt" in action and not action["RaiseHalt"]["report"]["stop"]:  # of nearly every halt
            del action["RaiseHalt"]["report"]["stop"]
    return found


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    assert isinstance(value, Enum)
    return value.value


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────


def parse(lines: Iterable[str], where: str) -> Recording:
    """InputError names the line that is none. A last line cut off by a power failure is dropped."""
    numbered = enumerate(lines, 1)
    head = _read(where, *next(numbered, (1, "")), _head)
    steps, lost = [], 0
    for number, line in numbered:
        if not line.endswith("\n"):
            break
        step = _read(where, number, line, _step)
        if isinstance(step, int):
            lost += step
        else:
            steps.append(step)
    return Recording(head, tuple(steps), lost)


def _read(where: str, number: int, line: str, make: Any) -> Any:
    try:
        return make(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration) as e:
        fix = "a recording is made by `haltline edge run --record FILE`"
        raise InputError(f"{where}:{number}", f"is no line of a recording: {type(e).__name__}: {e}", fix) from e


def _head(known: dict[str, Any]) -> Head:
    if known.pop("recording") != FORMAT:
        raise ValueError("another format")
    halt = known["open_halt"]
    return Head(
        boot=known["boot"],
        cameras=tuple(known["cameras"]),
        policy=_policy(known["policy"]),
        now_ns=known["now_ns"],
        open_halt=HaltReport(**{**halt, "code": Code(halt["code"]), "evidence": tuple(halt["evidence"])})
        if halt
        else None,
        bundle=known["bundle"],
        limits=tuple(ClassLimits.model_validate(limit) for limit in known["limits"]),
    )


def _step(known: dict[str, Any]) -> Step | int:
    if "lost" in known:
        return int(known["lost"])
    said, shot = known.pop("said", []), known.pop("shot", None)
    (name, fields), *stray = known.items()
    if stray:
        raise ValueError(f"what is {stray[0][0]!r}?")
    return Step(_event(name, fields), tuple(said), Shot(**shot) if shot else None)


def _event(name: str, fields: dict[str, Any]) -> Event:
    if "code" in fields:
        fields["code"] = Code(fields["code"])
    if "findings" in fields:
        fields["findings"] = tuple(Finding(**{**f, "box_px": tuple(f["box_px"])}) for f in fields["findings"])
    if "policy" in fields:
        fields["policy"] = _policy(fields["policy"])
    event: Event = EVENTS[name](**fields)
    return event


def _policy(known: dict[str, Any]) -> Policy:
    classes = tuple(
        ClassPolicy(**{**rule, "cusum": Cusum(**rule["cusum"]) if rule.get("cusum") else None})
        for rule in known["classes"]
    )
    return Policy(**{**known, "classes": classes, "optional": tuple(known["optional"])})


def at_ns(event: Event) -> int:
    return event.at_ns if isinstance(event, Judged | CannotJudge) else event.now_ns
