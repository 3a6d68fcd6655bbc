"""What people's outlines and the calendar say about agreement: the second page of Consistency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

import cv2
import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inspection.agreement import Agreement
from inspection.errors import StorageError
from inspection.label_book import LabelBook
from inspection.mask_agreement import Bits, OutlineAgreement, Outlines, compare, summarise
from review.consistency import FrameLabels, overall
from review.frames import FrameStore
from review.store import Label, Record

MOST = 200
"""So many frames with two outlines keep the page within seconds; the newest count."""
WEEKS = 26


@dataclass(frozen=True, slots=True)
class Week:
    """What people made of frames whose last label is of this week, under one version of the book."""

    start_ms: int
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class View:
    """`unreadable`: masks that are lost; they are counted, never guessed."""

    overall: OutlineAgreement | None
    pairs: Mapping[tuple[str, str], OutlineAgreement]
    weeks: tuple[Week, ...]
    unreadable: int


def view(session: Session, frames: FrameStore, book: LabelBook, cls: str, of_class: Sequence[FrameLabels]) -> View:
    found, unreadable = outlines(session, frames, book, cls, of_class)
    by_pair: dict[tuple[str, str], list[Outlines]] = defaultdict(list)
    for o in found:
        by_pair[o.people].append(o)
    pairs = {people: summarise(own) for people, own in sorted(by_pair.items())}
    return View(summarise(found) if found else None, pairs, weeks(session, book, of_class), unreadable)


def outlines(
    session: Session, frames: FrameStore, book: LabelBook, cls: str, of_class: Sequence[FrameLabels]
) -> tuple[list[Outlines], int]:
    """Every two people's outlines of the class on the newest `MOST` frames that two painted."""
    value, parts = book.classes.index(cls) + 1, {f.record.id: f.part for f in of_class}
    rows = session.execute(
        select(Record, Label)
        .join(Label, Label.record_id == Record.id)
        .where(Label.label_book == book.id, Label.superseded_ms.is_(None), Label.mask.is_not(None))
        .order_by(Record.ts_ms.desc(), Record.id, Label.person)
    )
    painted: dict[int, list[tuple[Record, Label]]] = defaultdict(list)
    for record, label in rows:
        if cls in label.classes and record.id in parts:
            painted[record.id].append((record, label))
    found: list[Outlines] = []
    lost = 0
    for of_record in [p for p in painted.values() if len(p) >= 2][:MOST]:
        masks: dict[str, Bits] = {}
        for _record, label in of_record:
            mask = _mask(frames, str(label.mask), value)
            lost += mask is None
            if mask is not None and mask.any():
                masks[label.person] = mask
        record = of_record[0][0]
        for a, b in combinations(sorted(masks), 2):
            if masks[a].shape == masks[b].shape:
                found.append(compare(parts[record.id], (a, b), masks[a], masks[b], record.px_per_mm))
    return found, lost


def weeks(session: Session, book: LabelBook, of_class: Sequence[FrameLabels]) -> tuple[Week, ...]:
    """Agreement by the week in which a frame got its last label, newest first."""
    rows = session.execute(
        select(Label.record_id, func.max(Label.created_ms)).where(Label.label_book == book.id).group_by(Label.record_id)
    )
    last: dict[int, int] = {row[0]: row[1] for row in rows}
    by_week: dict[int, list[FrameLabels]] = defaultdict(list)
    for f in of_class:
        if len(f.answers) >= 2 and f.record.id in last:
            by_week[_monday_ms(last[f.record.id])].append(f)
    return tuple(Week(start, overall(by_week[start])) for start in sorted(by_week, reverse=True)[:WEEKS])


def _mask(frames: FrameStore, sha: str, value: int) -> Bits | None:
    try:
        found = cv2.imdecode(np.frombuffer(frames.read(sha), np.uint8), cv2.IMREAD_GRAYSCALE)
    except StorageError:
        return None
    return None if found is None else np.asarray(found == value)


def _monday_ms(at_ms: int) -> int:
    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    monday = at.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None) - timedelta(days=at.weekday())
    return int(monday.timestamp() * 1000)
