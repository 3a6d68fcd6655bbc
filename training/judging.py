"""Runs a bundle over labelled pictures, or over a moving seam, behind the edge's own LineGuard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection import model_io
from inspection.decision import LineGuard
from inspection.events import GiveVerdict, Judged, PartArrived, RaiseHalt, ResumeAsked
from inspection.label_book import LabelBook
from inspection.policy import Policy, policy_of
from inspection.samples import Sample
from inspection.types import Call, Finding, Prediction
from training.dataset.clip_source import place_of
from training.dataset.crops import cut_of, parent_of, pictures_of
from training.dataset.item import Mask, decode, decode_mask, read_bytes
from training.dataset.rule import longest_px
from training.dataset.snapshot import BOXES_SUFFIX
from training.served import Served

Floats = NDArray[np.float64]
FRAME_NS = 33_000_000
SEVERITY = (Call.PASS, Call.UNCERTAIN, Call.DEFECT, Call.FAULT)


@dataclass(frozen=True, slots=True)
class JudgedPicture:
    """One picture, its label and what model and guard made of it.

    `target` and `scores` (C,). `cells` (C, h, w) says where each class lies at the heat map's stride; None where no
    outline is known. `region_mm` (C,): longest region of the mask; `found_mm` (C,): longest finding, 0 without one.
    """

    sample: Sample
    target: NDArray[np.bool_]
    scores: Floats
    heat: NDArray[np.uint8]
    cells: NDArray[np.bool_] | None
    region_mm: Floats
    found_mm: Floats
    verdict: Call
    ms: float


def judge_pictures(served: Served, folder: Path, samples: Iterable[Sample], book: LabelBook) -> Iterator[JudgedPicture]:
    """Each picture is one part with one frame: the guard gives exactly one verdict."""
    guard = LineGuard(Policy(policy_of(served.manifest)), ["pictures"], boot=1, now_ns=0)
    bundle, clip = served, ""
    for number, sample in enumerate(in_order(samples) if bundle.manifest.state else samples, 1):
        if (place := place_of(sample.source)) is None or place.clip != clip:
            clip, served = place.clip if place else "", bundle.in_order()
        path = folder / sample.image
        image, scale = decode(read_bytes(path), path), sample.px_per_mm or 1.0
        served.check_scale(image, scale, path)
        prediction, ms = served.predict(image, scale)
        verdict = verdict_of(guard, prediction, number)
        mask = decode_mask(read_bytes(folder / sample.mask), folder / sample.mask) if sample.mask else None
        outlined = mask is not None and not (sample.mask or "").endswith(BOXES_SUFFIX)
        classes = len(book.classes)
        yield JudgedPicture(
            sample=sample,
            target=np.array([c in sample.labels for c in book.classes]),
            scores=np.array([prediction.scores[c] for c in book.classes]),
            heat=prediction.heat,
            cells=heat_cells(mask, served, classes) if mask is not None and outlined else None,
            region_mm=np.array(longest_px(mask, classes)) / scale if mask is not None else np.zeros(classes),
            found_mm=longest_mm(prediction.findings, book.classes),
            verdict=verdict,
            ms=ms,
        )


def whole_pictures(crops: Sequence[JudgedPicture]) -> list[JudgedPicture]:
    """Crops of one picture as one: per class the highest score, of the calls the most severe; what is no crop stays.

    Where a defect lies is for the crops' own figures. One that no crop shows above the limit, since a border cuts it,
    does not count: crops do not know it.
    """
    return [_as_one([crops[n] for n in parts]) for parts in pictures_of(crop.sample for crop in crops)]


def _as_one(parts: list[JudgedPicture]) -> JudgedPicture:
    seen = {label: None for p in parts for label in p.sample.labels}
    known: dict[str, object] = {"labels": tuple(seen)}
    if cuts := [cut for p in parts if (cut := cut_of(p.sample.source))]:
        known |= {
            "source": parent_of(parts[0].sample.source).rpartition("#")[0],
            "width_px": max(x + width for x, _, width, _ in cuts),
            "height_px": max(y + height for _, y, _, height in cuts),
        }
    return replace(
        parts[0],
        sample=parts[0].sample.model_copy(update=known),
        target=np.any([p.target for p in parts], 0),
        scores=np.max([p.scores for p in parts], 0),
        cells=None,
        region_mm=np.max([p.region_mm for p in parts], 0),
        found_mm=np.max([p.found_mm for p in parts], 0),
        verdict=max((p.verdict for p in parts), key=SEVERITY.index),
        ms=sum(p.ms for p in parts),
    )


def in_order(samples: Iterable[Sample]) -> list[Sample]:
    """Clip by clip, frame by frame: a model with a memory is judged as it is used."""
    return sorted(samples, key=lambda s: place_of(s.source) or ("", 0.0, 0))


def longest_mm(findings: tuple[Finding, ...], classes: tuple[str, ...]) -> Floats:
    return np.array([max((f.length_mm for f in findings if f.cls == c), default=0.0) for c in classes])


def heat_cells(mask: Mask, served: Served, classes: int) -> NDArray[np.bool_]:
    """(H, W) mask of a frame -> (C, h, w): the cells of the heat map each class touches."""
    spec, s = served.manifest.input, served.manifest.outputs.heat_stride
    fitted = model_io.mask_to_input(mask, spec)
    cells = fitted.reshape(spec.height_px // s, s, spec.width_px // s, s)
    return np.stack([(cells == k).any((1, 3)) for k in range(1, classes + 1)])


def verdict_of(guard: LineGuard, prediction: Prediction, number: int) -> Call:
    """What the guard says of the `number`-th part, seen in one frame."""
    now = number * FRAME_NS
    guard.handle(PartArrived(now, f"picture-{number}", number, deadline_ms=1000, frames=1))
    seen = Judged("pictures", number, now + 1, now, dict(prediction.scores), prediction.findings)
    return next(a.verdict for a in guard.handle(seen) if isinstance(a, GiveVerdict))


# ── a moving seam ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """One frame of a stream: `visible` names the defects (ids) under the camera that count under the label book.

    `edge_of_one`: a defect only peeks in. It need not be caught in this frame, and a halt for it is not false.
    """

    image: NDArray[np.uint8]
    px_per_mm: float
    visible: frozenset[str]
    edge_of_one: bool = False


@dataclass(frozen=True, slots=True)
class StreamResult:
    frames: int
    defects: int
    caught: int
    false_halts: int
    missed: tuple[str, ...]

    def false_halts_per_hour(self, fps: float) -> float:
        return self.false_halts / (self.frames / fps / 3600)

    def __add__(self, other: StreamResult) -> StreamResult:
        return StreamResult(
            self.frames + other.frames,
            self.defects + other.defects,
            self.caught + other.caught,
            self.false_halts + other.false_halts,
            self.missed + other.missed,
        )


def judge_stream(served: Served, frames: Iterable[StreamFrame], k: int, n: int, gap_frames: int = 15) -> StreamResult:
    """Run a stream behind the guard: k of n frames halt, a person resumes at once, the strip moves on.

    Halts less than `gap_frames` apart are one event, since one thing in view halts again after each resume. An event
    is a false halt when no defect was in view in any of its halts. A defect is caught when a halt fell while it was
    in view.
    """
    guard = LineGuard(Policy(policy_of(served.manifest, k, n)), ["stream"], boot=1, now_ns=0)
    served = served.in_order()
    seen: set[str] = set()
    caught: set[str] = set()
    events: list[tuple[int, bool]] = []  # last frame of the event, whether a defect was in view
    count = 0
    for count, frame in enumerate(frames, 1):
        seen |= frame.visible
        prediction, _ = served.predict(frame.image, frame.px_per_mm)
        if not _halts(guard, prediction, count):
            continue
        caught |= frame.visible
        real = bool(frame.visible) or frame.edge_of_one
        if events and count - events[-1][0] < gap_frames:
            events[-1] = (count, events[-1][1] or real)
        else:
            events.append((count, real))
    false_halts = sum(not was_real for _, was_real in events)
    return StreamResult(count, len(seen), len(caught), false_halts, tuple(sorted(seen - caught)))


def _halts(guard: LineGuard, prediction: Prediction, number: int) -> bool:
    """Whether the guard halts at this frame. An open halt is resumed as soon as the guard lets anybody resume it."""
    now = number * FRAME_NS
    actions = guard.handle(Judged("stream", number, now + 1, now, dict(prediction.scores), prediction.findings))
    halted = any(isinstance(a, RaiseHalt) for a in actions)
    if guard.halt is not None:
        guard.handle(ResumeAsked(now + 2, guard.halt.halt, "evaluation", f"{number}", boot=1, seq=0, seq_now=0))
    return halted


def overlay(frame: NDArray[np.uint8], picture: JudgedPicture) -> NDArray[np.uint8]:
    """The frame with its heat in red beside the frame as it is, what was said of it written on top."""
    hot = cv2.resize(picture.heat.max(0), (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_LINEAR)
    shown = frame.copy()
    shown[..., 2] = np.maximum(shown[..., 2], hot)
    both = np.hstack([frame, shown])
    scores = " ".join(f"{s:.2f}" for s in picture.scores)
    said = f"{'+'.join(picture.sample.labels) or 'good'}: {picture.verdict}, {scores}"
    cv2.putText(both, said, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 255, 255), 2)
    return both


def worst_first(pictures: list[JudgedPicture]) -> list[JudgedPicture]:
    """By how far the score is on the wrong side: what to look at when a figure disappoints."""

    def wrong(p: JudgedPicture) -> float:
        return float(np.max(np.where(p.target, 1 - p.scores, p.scores)))

    return sorted(pictures, key=wrong, reverse=True)
