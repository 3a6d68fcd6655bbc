"""What people's outlines and the calendar say about agreement: the second page of Consistency."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

import cv2
import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from inspection.agreement import Agreement
from inspection.errors import StorageError
from inspection.label_book import LabelBook
from inspection.mask_agreement import Bits, OutlineAgreement, Outlines, compare, summarise
from review.consistency import FrameLabels, overall
from review.frames import FrameStore
from review.store import Label

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
    return View(summarise(found) if found else None, pairs, weeks(of_class), unreadable)


def outlines(
    session: Session, frames: FrameStore, book: LabelBook, cls: str, of_class: Sequence[FrameLabels]
) -> tuple[list[Outlines], int]:
    """Every two people's outlines of the class on the newest `MOST` frames that two painted."""
    value, of_record = book.classes.index(cls) + 1, {f.record.id: f for f in of_class}
    # By columns and of these frames only: a whole label holds annotations, and a hub holds labels of years.
    rows = session.execute(
        select(Label.record_id, Label.person, Label.classes, Label.mask)
        .where(Label.label_book == book.id, Label.superseded_ms.is_(None), Label.mask.is_not(None))
        .where(Label.record_id.in_(of_record))
        .order_by(Label.person)
    )
    painted: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for record_id, person, classes, mask in rows:
        if cls in classes:
            painted[record_id].append((person, mask))
    double = sorted(
        (of_record[r] for r, p in painted.items() if len(p) >= 2), key=lambda f: (-f.record.ts_ms, f.record.id)
    )
    found: list[Outlines] = []
    lost = 0
    for f in double[:MOST]:
        masks: dict[str, Bits] = {}
        for person, sha in painted[f.record.id]:
            mask = _mask(frames, sha, value)
            lost += mask is None
            if mask is not None and mask.any():
                masks[person] = mask
        for a, b in combinations(sorted(masks), 2):
            if masks[a].shape == masks[b].shape:
                found.append(compare(f.part, (a, b), masks[a], masks[b], f.record.px_per_mm))
    return found, lost


def weeks(of_class: Sequence[FrameLabels]) -> tuple[Week, ...]:
    """Agreement by the week in which a frame got its last label, newest first."""
    found: list[Week] = []
    newest_first = sorted((f for f in of_class if len(f.answers) >= 2), key=_newness)
    while newest_first and len(found) < WEEKS:
        start = _monday_ms(newest_first[0].labelled_ms)
        own = newest_first[: bisect_right(newest_first, -start, key=_newness)]
        found.append(Week(start, overall(own)))
        newest_first = newest_first[len(own) :]
    return tuple(found)


def _newness(f: FrameLabels) -> int:
    return -f.labelled_ms


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
