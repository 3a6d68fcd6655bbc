"""What becomes of a moment after the line was told: evidence to the spool, the open halt to disk, numbers.

Nothing here waits for a disk: frames are encoded on the spool's thread, the open halt is written by the state's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from edge import png
from edge.line.mqtt import halt_event
from edge.ports import Moment
from edge.spool import RANK_AUDIT, RANK_CONTEXT, RANK_HALT, RANK_UNCERTAIN, Item, Spool
from edge.state import EdgeState
from inspection.bundle import sha256
from inspection.events import (
    Action,
    AnswerResume,
    AnswerStop,
    CannotJudge,
    CountLoss,
    EyeChanged,
    FaultFound,
    FaultOver,
    Judged,
    Keep,
    RaiseHalt,
    SetPermit,
    State,
    StateChanged,
)
from inspection.messages import FindingMsg, HaltEvent, RecordEvent, Topics, record_uid
from inspection.near import dhash, distance
from inspection.selection import Budget
from inspection.types import Call, Code, Frame, HaltReport, Prediction

log = structlog.get_logger()


CONTEXT_BYTES = 32 * 2**20
"""The frames that wait for a halt may hold so much memory, whatever the camera's resolution."""


THINNED = frozenset({"uncertain", "unstable", "disagreement", "novel"})


class Evidence:
    """Implements `ports.Recorder`: kept frames and halts become items of the spool, encoded on the spool's thread.

    `context_frames`: so many frames before a halt are kept with it. `thin_bits`: an uncertain frame whose dHash, and
    whose heat map's, differ in at most so many of 64 bits from the one kept before it is not kept; 0 = off. `budget`:
    how many frames an hour may be sent for which reason, asked after the thinning. `call_of` says what the policy
    calls a frame of the context, which nobody asked for when it came."""

    def __init__(
        self,
        spool: Spool,
        topics: Topics,
        boot: int,
        *,
        context_frames: int = 0,
        thin_bits: int = 0,
        budget: Budget | None = None,
        call_of: Callable[[Judged], Call] | None = None,
    ) -> None:
        self._spool, self._topics, self._boot = spool, topics, boot
        self._context_frames, self._call_of = context_frames, call_of
        self._context: dict[str, deque[Moment]] = {}
        self._thin = Thinner(thin_bits)
        self._budget = budget

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        halt: HaltReport | None = None
        for action in actions:
            match action:
                case Keep():
                    self.keep(action, moment)
                case RaiseHalt(report):
                    halt = report
                    self._spool.offer(self._halt(report, moment), RANK_HALT)
                case _:
                    pass
        if halt:  # one that no frame made, a requested stop, concerns every camera
            for camera in (moment.frame.camera,) if moment.frame else tuple(self._context):
                self._keep_context(halt, camera)
        if moment.frame:
            self._remember(moment, moment.frame)

    def keep(self, keep: Keep, moment: Moment) -> None:
        """From any thread: the frame of this moment is evidence."""
        frame = moment.frame
        if frame is None:
            return
        rank = RANK_HALT if keep.halt else RANK_AUDIT if keep.why == ("audit",) else RANK_UNCERTAIN
        # Only what the model was unsure of is thinned: an audit sample that leaves frames out is none.
        thin = self._thin if set(keep.why) <= THINNED else None
        self._spool.offer(self._record(keep, moment, frame, rank, thin), rank, frame.image.nbytes)

    def _keep_context(self, halt: HaltReport, camera: str) -> None:
        for before in self._context.pop(camera, ()):
            assert before.frame
            call = Call.FAULT
            if isinstance(before.event, Judged):
                call = self._call_of(before.event) if self._call_of else Call.PASS
            keep = Keep(camera, before.frame.frame_id, call, ("context",), halt.halt, halt.part)
            make = self._record(keep, before, before.frame, RANK_CONTEXT, None)
            self._spool.offer(make, RANK_CONTEXT, before.frame.image.nbytes)

    def _remember(self, moment: Moment, frame: Frame) -> None:
        fits = max(1, CONTEXT_BYTES // max(1, frame.image.nbytes))
        ring = self._context.setdefault(frame.camera, deque())
        ring.append(moment)
        while len(ring) > min(self._context_frames, fits):
            ring.popleft()

    def _halt(self, report: HaltReport, moment: Moment) -> Callable[[], Item]:
        # Sent at once on evt/halt as well; this one makes sure that it arrives.
        def make() -> Item:
            event = halt_event(report, self._topics, self._boot, moment, 0)
            return Item(event.uid, self._topics.of(HaltEvent), event.encode(), RANK_HALT)

        return make

    def _record(
        self, keep: Keep, moment: Moment, frame: Frame, rank: int, thin: Thinner | None
    ) -> Callable[[], Item | None]:
        def make() -> Item | None:
            look = thin.look(moment) if thin else None
            if thin and look and thin.is_near(frame.camera, look):
                return None
            if self._budget and not self._budget.allows(keep.why, moment.stages.decided_ns):
                return None
            image = png.encode(frame.image)
            cls, heat = _heat(moment.prediction)
            files = (image, heat) if heat else (image,)
            shas = tuple(sha256(data) for data in files)
            record = self._event(keep, moment, frame, shas[0], shas[1] if heat else None, cls)
            # Only what is on disk may stand for those that are thinned because of it.
            then = (lambda: thin.kept(frame.camera, look)) if thin and look else None
            return Item(record.uid, self._topics.of(RecordEvent), record.encode(), rank, files, then, shas)

        return make

    def _event(
        self, keep: Keep, moment: Moment, frame: Frame, image: str, heat: str | None, heat_cls: str
    ) -> RecordEvent:
        seen = moment.prediction
        return RecordEvent(
            uid=record_uid(self._topics.base, self._boot, keep.camera, keep.frame_id),
            why=keep.why,
            camera=keep.camera,
            frame_id=keep.frame_id,
            ts_ms=frame.wall_ms,
            call=keep.call.value,
            scores=dict(seen.scores) if seen else {},
            findings=_findings(seen),
            image=image,
            heat=heat,
            heat_cls=heat_cls,
            heat_to_frame=tuple(seen.heat_to_frame.ravel().tolist()) if seen else (),
            px_per_mm=frame.px_per_mm,
            width_px=frame.image.shape[1],
            height_px=frame.image.shape[0],
            halt=keep.halt,
            part=keep.part,
            model=moment.model,
            policy=moment.policy,
            label_book=moment.label_book,
            stages_ms=moment.stages.ms(),
        )


@dataclass(frozen=True, slots=True)
class Look:
    """What two near-duplicates share: the class the model thought of, and how picture and heat map look."""

    cls: str
    image: int
    heat: int


class Thinner:
    """Of uncertain frames that look alike one is enough: the next labeler learns nothing from the others.

    Compared with the frame kept last, not with the one seen last, so that a slow drift is kept step by step. The heat
    map is compared as well, since a hash of 72 mean values is blind to a small scratch on the same metal."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._kept: dict[str, Look] = {}

    def look(self, moment: Moment) -> Look | None:
        if not self._bits or moment.frame is None or moment.prediction is None:
            return None
        best = _best(moment.prediction)
        return Look(moment.prediction.classes[best], dhash(moment.frame.image), dhash(moment.prediction.heat[best]))

    def is_near(self, camera: str, look: Look) -> bool:
        kept = self._kept.get(camera)
        if kept is None or kept.cls != look.cls:
            return False
        return distance(kept.image, look.image) <= self._bits and distance(kept.heat, look.heat) <= self._bits

    def kept(self, camera: str, look: Look) -> None:
        self._kept[camera] = look


class HaltMemory:
    """Implements `ports.Recorder`: keeps the open halt over a restart, so that only a person ends it."""

    def __init__(self, state: EdgeState) -> None:
        self._state = state

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case RaiseHalt(report):
                    self._state.set_halt(report)
                case AnswerStop(open=report) if report and report.stop:
                    self._state.set_halt(report)  # a stop that waits for this halt's end must outlive a restart too
                case AnswerResume(accepted=True):
                    self._state.set_halt(None)
                case _:
                    pass


class Numbers:
    """Implements `ports.Recorder`: counts for health and metrics. Read from other threads; single writes only."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.lost_frames = 0
        self.halts = 0
        self.state = "starting"
        self.why = ""
        self.code = Code.OK
        """The permit's, when the guard said `why`: with another code it is the reason of something else."""
        self.blind: dict[str, str] = {}
        """Cameras (or regions) that show nothing that can be judged, and why, in the words of their newest frame."""
        self.permit: SetPermit | None = None
        self.inference_ms = 0.0
        self.last: Moment | None = None
        self.last_of: dict[str, Moment] = {}
        """The newest moment of each eye."""

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SetPermit():
                    self.permit = action
                case RaiseHalt():
                    self.halts += 1
                case CountLoss(frames=frames):
                    self.lost_frames += frames
                case StateChanged(new=new, why=why):
                    self.state, self.why = new.value, why
                    self.code = self.permit.code if self.permit else Code.OK  # the permit is an event's first action
                case EyeChanged(camera, sees, why):
                    # The permit does not show it, so this is where people learn of it.
                    log.warning("optional camera", camera=camera, sees=sees, why=why)
                    self._see(camera, "" if sees else why)
                case _:
                    pass
        match moment.event:
            case CannotJudge(camera=camera, why=why):
                self._see(camera, why)
            case Judged(camera=camera):
                self._see(camera)
            case FaultFound(code=code, why=why) if self.state == State.STARTING.value:
                self.why, self.code = why, code  # it stays in this state, and nothing else says why
            case FaultOver() if self.state == State.STARTING.value:
                self.why, self.code = "", Code.STARTING
            case _:
                pass
        if moment.frame:
            self.last = self.last_of[moment.frame.camera] = moment
            self.calls["judged" if moment.prediction else "fault"] += 1
            self.inference_ms = moment.stages.ms().get("inference", 0.0)

    def _see(self, camera: str, why_not: str = "") -> None:
        if why_not:
            self.blind = {**self.blind, camera: why_not}
        elif camera in self.blind:
            self.blind = {name: text for name, text in self.blind.items() if name != camera}


def _findings(prediction: Prediction | None) -> tuple[FindingMsg, ...]:
    if prediction is None:
        return ()
    found = prediction.findings[:50]  # a frame full of specks must not outgrow a message
    return tuple(
        FindingMsg(cls=f.cls, score=f.score, box_px=f.box_px, length_mm=f.length_mm, area_mm2=f.area_mm2) for f in found
    )


def _heat(prediction: Prediction | None) -> tuple[str, bytes | None]:
    """The map of the class with the highest score, as a one-channel PNG."""
    if prediction is None:
        return "", None
    best = _best(prediction)
    return prediction.classes[best], png.encode(prediction.heat[best])


def _best(prediction: Prediction) -> int:
    return max(range(len(prediction.classes)), key=lambda i: prediction.scores[prediction.classes[i]])
