"""The frame path, the product on one screen: halts go out before anything touches disk.

One thread owns the guard. Cameras, MQTT and the ticker only put into the inbox.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import assert_never

import structlog

from edge.inbox import Arrival, frame_of
from edge.ports import LineControl, Model, Moment, Ready, Recorder, Serve
from edge.preparation import look
from inspection.decision import LineGuard
from inspection.errors import ModelError
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
    StopAsked,
    Tick,
)
from inspection.fitness import Fitness
from inspection.types import Code, Frame, Prediction, Stages

log = structlog.get_logger()


def run(
    inbox: Iterable[Arrival],
    model: Model,
    guard: LineGuard,
    line: LineControl,
    recorders: Sequence[Recorder],
    fitness: dict[str, Fitness] | None = None,
) -> None:
    """Until the inbox is closed: judge what arrives, tell the line, then keep the evidence."""
    fitness = fitness or {}
    policy, policy_id = guard.policy, guard.policy.id
    failing: dict[str, str] = {}
    for arrival in inbox:
        taken_ns = time.monotonic_ns()
        if isinstance(arrival, Serve):
            model = arrival.model
        event, prediction = observe(arrival, model, fitness)
        inferred_ns = time.monotonic_ns()
        actions = guard.handle(event)
        decided_ns = time.monotonic_ns()
        if guard.policy is not policy:  # its id is a hash, too dear to take for every frame
            policy, policy_id = guard.policy, guard.policy.id
        frame = frame_of(arrival) if isinstance(arrival, Frame | Ready) else None
        captured_ns = frame.captured_ns if frame else taken_ns
        stages = Stages(captured_ns, taken_ns, inferred_ns, decided_ns)
        moment = Moment(event, frame, prediction, stages, model.bundle_id, policy_id, model.label_book)
        for action in actions:
            line.carry_out(action, moment)
        for recorder in recorders:
            recorder.offer(moment, actions)
        _say_failing(event, failing)


def _say_failing(event: Event, failing: dict[str, str]) -> None:
    """Why a camera's frames cannot be judged by the model, once for each reason: it may last for days."""
    if isinstance(event, Judged):
        failing.pop(event.camera, None)
    elif isinstance(event, CannotJudge) and event.code is Code.MODEL and failing.get(event.camera) != event.why:
        failing[event.camera] = event.why
        log.warning("inference failed", camera=event.camera, frame_id=event.frame_id, error=event.why)


def observe(arrival: Arrival, model: Model, fitness: dict[str, Fitness]) -> tuple[Event, Prediction | None]:
    """What arrived, as an event for the guard; a frame nobody has looked at is looked at, then judged by the model."""
    match arrival:
        case Frame():
            return _judge(look(arrival, fitness.setdefault(arrival.camera, Fitness())), model)
        case Ready():
            return _judge(arrival, model)
        case Serve(_, policy):
            return PolicyChanged(time.monotonic_ns(), policy), None
        case PartArrived(now_ns):
            model.begin_part(now_ns)
            return arrival, None
        case Tick() | ResumeAsked() | StopAsked() | FaultFound() | FaultOver() | MaintenanceOrdered():
            return arrival, None
        case _:
            assert_never(arrival)


def _judge(ready: Ready, model: Model) -> tuple[Event, Prediction | None]:
    frame = ready.frame
    if ready.unfit:
        return CannotJudge(frame.camera, frame.frame_id, time.monotonic_ns(), Code.CAMERA, ready.unfit), None
    if ready.pending:  # judged by nobody: if it lasts, the guard notices the silence
        return Tick(time.monotonic_ns(), frame.camera, frame.frame_id), None
    try:
        # Fitted for a model that no longer serves: this one fits it anew.
        prediction = model.infer(frame, ready.fitted if ready.model is model else None)
    except ModelError as e:
        return CannotJudge(frame.camera, frame.frame_id, time.monotonic_ns(), Code.MODEL, str(e)), None
    now_ns = time.monotonic_ns()
    seen = dict(prediction.scores), prediction.findings, prediction.novelty
    return Judged(frame.camera, frame.frame_id, now_ns, frame.captured_ns, *seen), prediction
