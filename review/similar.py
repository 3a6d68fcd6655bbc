"""What a person compares a halt with: a good frame of the same camera, and the week's halts that look like it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, String, cast, exists, func, or_, select
from sqlalchemy.orm import Session

from review.alarms import Verdict
from review.store import Adjudication, Halt, Label, Record

WEEK_MS = 7 * 24 * 3_600_000
SHOWN = 4
LOOKED_AT = 100
"""So many of the newest are compared by place and size; all are counted."""
NEAR_MM = 5.0
"""Two findings of one camera are in one place when their middles are no further apart, or than the longer is long."""
SAME_SIZE = 1.5
"""... and of one size when neither is longer than this many times the other."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Similar:
    """Another halt; `same_place`: its finding lies where this one does and is about as large."""

    halt: Halt
    record: Record | None
    box_px: Box | None
    same_place: bool


@dataclass(frozen=True, slots=True)
class Week:
    """Halts of the same class at the same station in the week before. `verdicts` counts those that were judged."""

    total: int
    verdicts: Counter[str]
    shown: tuple[Similar, ...]
    same_place: int
    """Of the newest LOOKED_AT."""


def box_of(record: Record, cls: str) -> Box | None:
    """The finding that stopped the line: of the halt's class, and the longest of those."""
    findings = [f for f in record.findings if not cls or f["cls"] == cls] or record.findings
    longest = max(findings, key=lambda f: float(f["length_mm"]), default=None)
    if longest is None:
        return None
    x, y, w, h = (float(v) for v in longest["box_px"])
    return x, y, w, h


def week_before(session: Session, halt: Halt, main: Record | None) -> Week:
    """Nearest first: same place and size, then the newest."""
    alike = (
        Halt.station_id == halt.station_id,
        Halt.cls == halt.cls,
        Halt.code == halt.code,
        Halt.id != halt.id,
        Halt.at_ms.between(halt.at_ms - WEEK_MS, halt.at_ms),
    )
    counted = session.execute(select(Halt.verdict, func.count()).where(*alike).group_by(Halt.verdict)).all()
    newest = session.scalars(select(Halt).where(*alike).order_by(Halt.at_ms.desc()).limit(LOOKED_AT)).all()
    records = _main_records(session, newest)
    found = [_compare(other, records.get(other.id), halt, main) for other in newest]
    found.sort(key=lambda s: not s.same_place)  # stable: within each kind the newest first
    verdicts = Counter({str(verdict): n for verdict, n in counted if verdict})
    return Week(sum(n for _, n in counted), verdicts, tuple(found[:SHOWN]), sum(s.same_place for s in found))


def good_reference(session: Session, halt: Halt, main: Record) -> Record | None:
    """The newest good frame of this camera before the halt: one that passed and belongs to no halt, or the frame of a
    halt that a person called false. When there is none, the first that passed after it. Never one that people called
    a defect since."""
    here = (Record.station_id == halt.station_id, Record.camera == main.camera, Record.image.is_not(None))
    same = (Record.width_px == main.width_px, Record.height_px == main.height_px, ~_called_defect())
    # Frames just before a halt passed too, but may show the very defect that the next ones were halted for.
    passed = (*here, *same, Record.call == "pass", Record.halt == 0)
    before = select(Record).where(*passed, Record.ts_ms <= halt.at_ms).order_by(Record.id.desc()).limit(1)
    called_false = (
        Halt.station_id == halt.station_id,
        Halt.verdict == Verdict.FALSE_CALL,
        Halt.id != halt.id,
        Halt.at_ms.between(halt.at_ms - WEEK_MS, halt.at_ms),
    )
    false_halt = session.scalar(select(Halt).where(*called_false).order_by(Halt.at_ms.desc()).limit(1))
    of_false = None
    if false_halt is not None:
        of_false = session.scalar(
            select(Record).where(
                *here, *same, Record.halt == false_halt.halt, Record.frame_id == false_halt.frame_id
            )
        )  # fmt: skip
    found = [r for r in (session.scalar(before), of_false) if r is not None]
    if found:
        return max(found, key=lambda r: r.ts_ms)
    return session.scalar(select(Record).where(*passed).order_by(Record.id).limit(1))


def _called_defect() -> ColumnElement[bool]:
    """Somebody's label, or what was decided, names a class: an audit finds what the model let pass."""
    # The columns are JSON text on every database; "none" is written one way and needs no JSON operators, which differ.
    labelled = exists().where(
        Label.record_id == Record.id, Label.superseded_ms.is_(None), cast(Label.classes, String) != "[]"
    )
    decided = exists().where(
        Adjudication.record_id == Record.id,
        Adjudication.superseded_ms.is_(None),
        cast(Adjudication.classes, String) != "[]",
    )
    return or_(labelled, decided)


def _main_records(session: Session, found: Sequence[Halt]) -> dict[int, Record]:
    """halt.id -> the record of the frame that completed it."""
    if not found:
        return {}
    by_frame = {(h.halt, h.frame_id): h.id for h in found}
    rows = session.scalars(
        select(Record).where(
            Record.station_id == found[0].station_id,
            Record.halt.in_([h.halt for h in found]),
            or_(Record.call == "defect", Record.frame_id.in_([h.frame_id for h in found])),
            Record.image.is_not(None),
        )
    )
    return {by_frame[r.halt, r.frame_id]: r for r in rows if (r.halt, r.frame_id) in by_frame}


def _compare(other: Halt, record: Record | None, halt: Halt, main: Record | None) -> Similar:
    box = box_of(record, other.cls) if record else None
    here = box_of(main, halt.cls) if main else None
    if record is None or main is None or box is None or here is None or record.camera != main.camera:
        return Similar(other, record, box, same_place=False)
    apart_mm = math.dist(_middle(box), _middle(here)) / main.px_per_mm
    long, short = max(halt.length_mm, other.length_mm), min(halt.length_mm, other.length_mm)
    same = apart_mm <= max(NEAR_MM, long) and long <= SAME_SIZE * max(short, 0.1)
    return Similar(other, record, box, same_place=same)


def _middle(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2
