"""One rule on the frames themselves: what people said, what a limit says of the sizes they measured, what they say now.

*Before* are the labels under the version that is looked at. *By the limit* is what the rule in force since, or else the
proposed one, makes of each person's own measurement (where they made none, of the mean of the others'): two people who
measure 1.4 and 1.6 mm go on differing at 1.5. *Again* are labels the same people made under the newest version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from inspection.agreement import Agreement, Unit, agreement
from review.consistency import DEFECT, DRAWS, GOOD, FrameLabels
from review.pictures import Rect, crop_around
from review.store import Label, Record

LEAST_MM = 6.0
"""A picture shows at least so much: a short scratch fills a good part of it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One measured frame that two people labelled; person -> answer in each."""

    frame: FrameLabels
    size_mm: float
    by_limit: dict[str, str]
    again: dict[str, str]

    @property
    def turned(self) -> int:
        """Labels the limit turns over."""
        return sum(self.by_limit[person] != answer for person, answer in self.frame.answers.items())

    @property
    def matters(self) -> bool:
        """People differed, or would be told otherwise."""
        return self.frame.differs or self.turned > 0

    @property
    def still_differs(self) -> bool:
        return len(set(self.by_limit.values())) > 1


@dataclass(frozen=True, slots=True)
class Compared:
    """`before` and `by_limit`: agreement on the same frames; `relabelled` and `again`: of those that two people
    labelled under both versions, before and after. `unmeasured`: double labels that nobody measured: no limit judges
    them.
    """

    limit_mm: float
    turns: tuple[Turn, ...]
    unmeasured: int
    before: Agreement
    by_limit: Agreement
    relabelled: Agreement
    again: Agreement

    @property
    def labels(self) -> int:
        return sum(len(t.frame.answers) for t in self.turns)

    @property
    def turned(self) -> int:
        return sum(t.turned for t in self.turns)

    @property
    def differed(self) -> int:
        return sum(t.frame.differs for t in self.turns)

    @property
    def still_differ(self) -> int:
        return sum(t.still_differs for t in self.turns)

    @property
    def relabelled_differ(self) -> tuple[int, int]:
        """Frames people differed on, and differ on now, of those labelled again."""
        both = [t for t in self.turns if len(t.again) >= 2]
        return sum(t.frame.differs for t in both), sum(len(set(t.again.values())) > 1 for t in both)

    def nearest(self, most: int) -> list[Turn]:
        """Of the frames that matter those nearest to the limit, by size."""
        near = sorted((t for t in self.turns if t.matters), key=lambda t: abs(math.log(t.size_mm / self.limit_mm)))
        return sorted(near[:most], key=lambda t: t.size_mm)


def compare(frames: Sequence[FrameLabels], limit_mm: float, later: Sequence[FrameLabels] = ()) -> Compared:
    """`frames` under one version, `later` the same class under a newer one; raises nothing, also of no frames."""
    double = [f for f in frames if len(f.answers) >= 2]
    again = {f.record.id: f.answers for f in later}
    turns = tuple(
        Turn(f, size, by_limit(f, limit_mm), dict(again.get(f.record.id, {}))) for f in double if (size := f.size_mm)
    )
    both = [t for t in turns if len(t.again) >= 2]
    return Compared(
        limit_mm=limit_mm,
        turns=turns,
        unmeasured=len(double) - len(turns),
        before=_agreement([(t, t.frame.answers) for t in turns]),
        by_limit=_agreement([(t, t.by_limit) for t in turns]),
        relabelled=_agreement([(t, t.frame.answers) for t in both]),
        again=_agreement([(t, t.again) for t in both]),
    )


def by_limit(frame: FrameLabels, limit_mm: float) -> dict[str, str]:
    """What the limit says of each person's own measurement. Without any measurement their answers stay."""
    mean = frame.size_mm
    if mean is None:
        return dict(frame.answers)
    sizes = {person: frame.sizes_mm.get(person, mean) for person in frame.answers}
    return {person: DEFECT if size >= limit_mm else GOOD for person, size in sizes.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """What is shown of a frame, px, and what was marked in it."""

    rect: Rect
    box_px: tuple[float, float, float, float] | None = field(default=None)


def places(session: Session, records: Sequence[Record], cls: str) -> Mapping[int, Place]:
    """Record id -> where to look: the largest mark of the class, else the model's finding, else the whole frame."""
    boxes: dict[int, tuple[float, float, float, float]] = {}
    labels = session.scalars(select(Label).where(Label.record_id.in_([r.id for r in records])))
    for label in labels:
        for mark in label.annotations:
            if mark["cls"] == cls and mark.get("box_px"):
                x, y, w, h = mark["box_px"]
                if label.record_id not in boxes or w * h > math.prod(boxes[label.record_id][2:]):
                    boxes[label.record_id] = (x, y, w, h)
    for r in records:
        found = next((f["box_px"] for f in r.findings if f.get("cls") == cls and f.get("box_px")), None)
        if found and r.id not in boxes:
            x, y, w, h = found
            boxes[r.id] = (x, y, w, h)
    return {
        r.id: Place(
            crop_around(boxes.get(r.id), r.width_px, r.height_px, r.px_per_mm, least_mm=LEAST_MM), boxes.get(r.id)
        )
        for r in records
    }


def _agreement(of: Sequence[tuple[Turn, Mapping[str, str]]]) -> Agreement:
    return agreement([Unit(t.frame.part, answers, t.frame.record.uid) for t, answers in of], DRAWS)
