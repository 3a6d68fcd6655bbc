"""What becomes of a moment after the line was told: evidence to the spool, the open halt to disk, numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import cv2
import numpy as np
import structlog

from edge.line.mqtt import halt_event
from edge.ports import Moment
from edge.spool import RANK_AUDIT, RANK_HALT, RANK_UNCERTAIN, Item, Spool
from edge.state import EdgeState
from inspection.bundle import sha256
from inspection.decision import Action, AnswerResume, CountLoss, Keep, RaiseHalt, SetPermit, StateChanged
from inspection.messages import FindingMsg, HaltEvent, RecordEvent, Topics, record_uid
from inspection.types import Frame, HaltReport, Prediction, Stages

log = structlog.get_logger()


class Evidence:
    """Implements `ports.Recorder`: kept frames and halts become items of the spool, encoded on the spool's thread."""

    def __init__(self, spool: Spool, topics: Topics, boot: int) -> None:
        self._spool, self._topics, self._boot = spool, topics, boot

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Keep():
                    if moment.frame:
                        self._spool.offer(self._record(action, moment, moment.frame))
                case RaiseHalt(report):
                    self._spool.offer(self._halt(report, moment))
                case _:
                    pass

    def _halt(self, report: HaltReport, moment: Moment) -> Callable[[], Item]:
        # Sent at once on evt/halt as well; this one makes sure that it arrives.
        def make() -> Item:
            event = halt_event(report, self._topics, self._boot, moment, 0)
            return Item(event.uid, self._topics.of(HaltEvent), event.encode(), RANK_HALT)

        return make

    def _record(self, keep: Keep, moment: Moment, frame: Frame) -> Callable[[], Item]:
        def make() -> Item:
            image = _png(frame.image)
            cls, heat = _heat(moment.prediction)
            record = RecordEvent(
                uid=record_uid(self._topics.base, self._boot, keep.camera, keep.frame_id),
                why=keep.why,
                camera=keep.camera,
                frame_id=keep.frame_id,
                ts_ms=frame.wall_ms,
                call=keep.call.value,
                scores=dict(moment.prediction.scores) if moment.prediction else {},
                findings=_findings(moment.prediction),
                image=sha256(image),
                heat=sha256(heat) if heat else None,
                heat_cls=cls,
                heat_to_frame=tuple(moment.prediction.heat_to_frame.ravel().tolist()) if moment.prediction else (),
                px_per_mm=frame.px_per_mm,
                width_px=frame.image.shape[1],
                height_px=frame.image.shape[0],
                halt=keep.halt,
                part=keep.part,
                model=moment.model,
                policy=moment.policy,
                label_book=moment.label_book,
                stages_ms=_stages(moment).ms(),
            )
            rank = RANK_HALT if keep.halt else RANK_AUDIT if keep.why == ("audit",) else RANK_UNCERTAIN
            files = (image, heat) if heat else (image,)
            return Item(record.uid, self._topics.of(RecordEvent), record.encode(), rank, files)

        return make


class HaltMemory:
    """Implements `ports.Recorder`: keeps the open halt over a restart, so that only a person ends it."""

    def __init__(self, state: EdgeState) -> None:
        self._state = state

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case RaiseHalt(report):
                    self._state.set_halt(report)
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
        self.permit: SetPermit | None = None
        self.inference_ms = 0.0
        self.last: Moment | None = None

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
                case _:
                    pass
        if moment.frame:
            self.last = moment
            self.calls["judged" if moment.prediction else "fault"] += 1
            self.inference_ms = moment.stages.ms().get("inference", 0.0)


def _stages(moment: Moment) -> Stages:
    return moment.stages


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
    best = max(range(len(prediction.classes)), key=lambda i: prediction.scores[prediction.classes[i]])
    return prediction.classes[best], _png(prediction.heat[best])


def _png(image: np.ndarray) -> bytes:
    # Level 1: three times faster than the default for a tenth more bytes; this shares two cores with inference.
    ok, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise OSError("a frame could not be encoded as PNG")
    return bytes(data)
