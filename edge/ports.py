"""The doors of the frame path: one small protocol per device. Each has a real adapter and a shipped fake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from inspection.events import Action, Event
from inspection.policy import Policy
from inspection.types import Frame, Image, Prediction, Stages


class Camera(Protocol):
    """A source of frames. Opened by its constructor or first `read`."""

    name: str

    def read(self) -> Frame | None:
        """The next frame, blocking; None at the end of a finite source. CameraError when it cannot deliver."""

    def close(self) -> None:
        """Let go of the device. May be called twice, and from another thread to end a blocked `read`."""


class Model(Protocol):
    """A served bundle."""

    bundle_id: str
    label_book: str

    def fit(self, frame: Frame) -> Image | None:
        """The frame as the model takes it, made beforehand on any thread; None where `infer` has to do it."""

    def infer(self, frame: Frame, fitted: Image | None = None) -> Prediction:
        """Judge one frame. `fitted`: what `fit` made of it. ModelError when it could not."""

    def begin_part(self, now_ns: int) -> None:
        """A new part is here: what a model with a memory knows of the last one says nothing of what frames from
        `now_ns` on show."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything known when the guard has spoken: the event, its frame if it had one, and where the time went."""

    event: Event
    frame: Frame | None
    prediction: Prediction | None
    stages: Stages
    model: str
    policy: str
    label_book: str


@dataclass(frozen=True, slots=True)
class Serve:
    """Arrival: from the next frame on, this model with this policy."""

    model: Model
    policy: Policy


@dataclass(frozen=True, slots=True)
class Ready:
    """Arrival: a frame somebody has looked at. `unfit`: why it cannot be judged; `pending`: not fit, but not for long
    enough to be a fault. `fitted`: what `model` made of it."""

    frame: Frame
    unfit: str = ""
    pending: bool = False
    fitted: Image | None = None
    model: Model | None = None


class LineControl(Protocol):
    """The way to the line. `carry_out` never blocks and never raises: the permit's lease covers its failure."""

    def carry_out(self, action: Action, moment: Moment) -> None: ...


class Recorder(Protocol):
    """Evidence to disk, after the line was told. `offer` never blocks; what it cannot take it counts."""

    def offer(self, moment: Moment, actions: list[Action]) -> None: ...
