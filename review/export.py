"""Labels -> a labelled folder (`inspection.samples`) that `haltline dataset import` reads.

Only what people agree on leaves: a frame two of them label differently is counted and named as work to adjudicate,
never averaged into a training label. Frames of one part or one event share a `group`, so that no later split puts
a part into training and its twin into the test set.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from inspection.bundle import sha256
from inspection.errors import ConfigError, DatasetError, InputError, StorageError
from inspection.label_book import BOOKS, LabelBook
from inspection.samples import BOOK_FILE, HEADER_FILE, SAMPLES_FILE, LabelledHeader, Sample
from review import suspects
from review.adjudication import MANY, in_force
from review.exchange import Wanted, convert
from review.frames import FolderFrames, FrameStore
from review.frames.folder import LEFT_OVER_S
from review.label_books import newest
from review.labelling import (
    NEED,
    Consensus,
    Mark,
    Vote,
    consensus,
    decode_mask,
    encode_mask,
    merge_annotations,
    merge_masks,
)
from review.settings import Settings
from review.store import Adjudication, Label, Record, Station, Store

ARRIVING = "haltline-export-"
"""In the system's folder for such: what is packed for a browser."""
EVENT_GAP_MS = 2_000
"""Frames of one camera closer than this show the same event."""
EVENT_SPAN_MS = 60_000
"""An event ends here even when frames keep coming: a camera that is unsure for an hour would else be one group."""


def settle() -> None:
    """At a hub's start: what one that was killed was packing goes."""
    too_old_s = time.time() - LEFT_OVER_S
    for path in Path(tempfile.gettempdir()).glob(f"{ARRIVING}*"):
        with suppress(OSError):
            found = path.lstat()
            # A younger one may be another hub's, that still packs it.
            if found.st_uid == os.geteuid() and found.st_mtime < too_old_s:
                shutil.rmtree(path, ignore_errors=True)


@dataclass(slots=True)
class Summary:
    """What was exported and what was not, and why; the lists hold record uids."""

    task: str
    agreed: int = 0
    majority: int = 0
    single: int = 0
    adjudicated: int = 0
    weighed: int = 0
    too_few: int = 0
    ambiguous: int = 0
    disputed: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    no_word: int = 0
    """Frames that the wanted form has no word for."""

    @property
    def exported(self) -> int:
        return self.agreed + self.majority + self.single + self.adjudicated + self.weighed

    def count(self, found: Consensus, sample: Sample) -> None:
        self.agreed += found.state == "agreed"
        self.majority += found.state == "majority"
        self.single += found.state == "single"
        self.adjudicated += found.state == "adjudicated"
        self.weighed += found.state == "weighed"
        self.groups.add(sample.group)

    def line(self) -> str:
        """One line for a person or a header."""
        return (
            f"{self.task}: {self.exported} frames in {len(self.groups)} groups ({self.agreed} agreed, "
            f"{self.majority} by majority, {self.single} by one label, {self.adjudicated} adjudicated"
            f"{f', {self.weighed} weighed' if self.weighed else ''}); "
            f"{f'{self.ambiguous} ambiguous and left out, ' if self.ambiguous else ''}"
            f"{len(self.disputed)} to adjudicate, {self.too_few} with too few labels, {len(self.unreadable)} unreadable"
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where a record was made; `place` is station and camera."""

    uid: str
    place: str
    ts_ms: int
    part: str
    halt: int


def groups_of(moments: Iterable[Moment]) -> dict[str, str]:
    """Record uid -> group: the part where there is one, else the event. `moments` must be all records of a place, so
    that a group keeps its name however many of them are labelled by now."""
    groups: dict[str, str] = {}
    for place, of_place in groupby(sorted(moments, key=lambda m: (m.place, m.ts_ms, m.uid)), key=lambda m: m.place):
        by_halt: dict[int, str] = {}
        first_ms, last_ms = -EVENT_SPAN_MS, -EVENT_GAP_MS
        for moment in of_place:
            if moment.part:
                groups[moment.uid] = f"{place}/part/{moment.part}"
                continue
            if moment.ts_ms - last_ms >= EVENT_GAP_MS or moment.ts_ms - first_ms >= EVENT_SPAN_MS:
                first_ms = moment.ts_ms
            last_ms = moment.ts_ms
            event = f"{place}/event/{first_ms}"
            # Frames kept for one halt belong together even where the line stood still between them.
            groups[moment.uid] = by_halt.setdefault(moment.halt, event) if moment.halt else event
    return groups


def export_folder(
    store: Store, frames: FrameStore, out: Path, task: str | None = None, *, allow_single: bool = False,
    soft: bool = False, need: int = NEED, form: Wanted = "labelled",
) -> Summary:  # fmt: skip
    """Write the labelled folder `out`, or the form that is wanted of it; it must not exist yet or be empty, and appears
    whole or not at all.

    `soft`: labels come with the chance that they are right, everybody's weighed by how reliable they are, and frames
    people differ on leave too. `need`: how many labels a frame must have, the hub's `labels_per_frame`.

    DatasetError when `out` is taken, the task is unknown, there is nothing to export or the form has no word for it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(out, "exists and is not empty", "name a new folder")
    with store.reading() as session:
        book = _book(session, task)
        decisions = in_force(session, book.name)
        work = _with_decided(session, list(_labelled(session, book)), decisions)
        groups = groups_of(moments(session))
        left_out = suspects.ambiguous(session)
        weights = _weights(session, book) if soft else {}
    with _part(out.absolute()) as part:
        staging = part / "labels"
        staging.mkdir()
        summary = Summary(book.task)
        _Writer(staging, book, frames, allow_single, need, summary, decisions, weights, left_out).write(work, groups)
        if not summary.exported:
            people = "1 person labels a frame" if need == 1 else f"{need} people label the same frames"
            raise DatasetError("labels", f"nothing to export: {summary.line()}", people)
        converted = convert(staging, form)
        summary.no_word = len(converted.left_out) if converted else 0
        staging.replace(out)
    return summary


@contextmanager
def _part(out: Path) -> Iterator[Path]:
    """A folder beside `out` to make it in. What an export that was killed had made there goes; one that still writes
    has it locked."""
    part = out.with_name(f".{out.name}.export.part")
    part.mkdir(parents=True, exist_ok=True)
    lock = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise DatasetError(out, "is being written by another export", "wait for it, or name another folder") from e
        except OSError:
            pass  # a file system that knows no locks
        for left in part.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
    finally:
        os.close(lock)


def _weights(session: Session, book: LabelBook) -> Mapping[int, dict[str, float]]:
    from review.consensus import soft_labels  # which reads groups from here

    found = soft_labels(session, book)
    if not found:
        raise DatasetError(
            "labels",
            "are too few to weigh people by",
            "20 frames with two labels, from 3 people or with 10 adjudicated",
        )
    return found


def export_labels(
    settings: Settings, out: Path, task: str | None = None, *, allow_single: bool = False, soft: bool = False,
    form: Wanted = "labelled",
) -> Summary:  # fmt: skip
    """`export_folder` from a hub's data folder, also while the hub runs: it only reads. A frame must have
    `settings.labels_per_frame` labels."""
    if settings.database_url is None and not (settings.data_dir / "hub.db").is_file():
        raise ConfigError("--data", f"{settings.data_dir} holds no hub.db", "name the hub's data folder")
    store = Store(settings.database)
    try:
        frames, need = FolderFrames(settings.frames_dir), settings.labels_per_frame
        return export_folder(store, frames, out, task, allow_single=allow_single, soft=soft, need=need, form=form)
    except SQLAlchemyError as e:
        raise StorageError(f"{store.name} cannot be read: {e}") from e
    finally:
        store.close()


def export_zip(
    store: Store, frames: FrameStore, folder: Path, task: str | None = None, *, allow_single: bool = False,
    soft: bool = False, form: Wanted = "labelled", need: int = NEED,
) -> tuple[Path, Summary]:  # fmt: skip
    """The labels in the form that is wanted, as one zip file inside `folder` with a folder's name around its files."""
    out = folder / "labels"
    summary = export_folder(store, frames, out, task, allow_single=allow_single, soft=soft, need=need, form=form)
    path = folder / f"haltline-labels-{summary.task}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for file in sorted(out.rglob("*")):
            if file.is_file():
                archive.write(file, f"{path.stem}/{file.relative_to(out).as_posix()}")
    return path, summary


def _book(session: Session, task: str | None) -> LabelBook:
    """The label book of the task; without a task, of the one task that has labels or decisions."""
    ids = {*session.scalars(select(Label.label_book).distinct())}
    ids |= {*session.scalars(select(Adjudication.label_book).distinct())}
    used = {book_id.partition("@")[0] for book_id in ids}
    found = [b for b in BOOKS.values() if b.name in used and task in (None, b.task)]
    if len(found) == 1:
        return newest(session, found[0].name) or found[0]
    if not found:
        raise DatasetError("labels", f"no frame{f' of task {task!r}' if task else ''} is labelled yet", "see /label")
    raise DatasetError("task", f"there are labels of {[b.task for b in found]}", "name one of them: --task")


def _labelled(session: Session, book: LabelBook) -> Iterator[tuple[Record, list[Label]]]:
    """Each record with its current labels under any version of the book, oldest record first."""
    rows = session.execute(
        select(Record, Label)
        .join(Label, Label.record_id == Record.id)
        .where(Label.superseded_ms.is_(None), Label.label_book.startswith(f"{book.name}@", autoescape=True))
        .where(Record.image.is_not(None))
        .order_by(Record.ts_ms, Record.id, Label.id)
    )
    for _, pairs in groupby(rows, key=lambda row: row[0].id):
        of_record = list(pairs)
        yield of_record[0][0], [label for _, label in of_record]


def _with_decided(
    session: Session, labelled: list[tuple[Record, list[Label]]], decisions: Mapping[int, Adjudication]
) -> list[tuple[Record, list[Label]]]:
    """And each record without labels that somebody decided all the same, oldest first as before."""
    without = sorted(decisions.keys() - {record.id for record, _labels in labelled})
    found = list(labelled)
    for at in range(0, len(without), MANY):
        some = (Record.id.in_(without[at : at + MANY]), Record.image.is_not(None))
        found += [(record, []) for record in session.scalars(select(Record).where(*some))]
    return sorted(found, key=lambda work: (work[0].ts_ms, work[0].id))


def moments(session: Session) -> list[Moment]:
    """What the groups of labelled and decided frames follow from, by column: a hub has many more records than labels.

    A frame of a part has its group by itself. An event is told by what was recorded before and after it, labelled or
    not, but only at that station and outside of parts.
    """
    told = select(Record.uid, Record.station_id, Record.camera, Record.ts_ms, Record.part, Record.halt)
    labelled = Record.id.in_(select(Label.record_id).union(select(Adjudication.record_id)))
    streams = set(session.scalars(select(Record.station_id).where(labelled, Record.part == "").distinct()))
    # Two queries: databases read every record for one with an "or".
    rows = [*session.execute(told.where(Record.image.is_not(None), labelled, Record.part != ""))]
    rows += session.execute(told.where(Record.image.is_not(None), Record.station_id.in_(streams), Record.part == ""))
    places = {station.id: station.key for station in session.scalars(select(Station))}
    return [Moment(uid, f"{places[at]}/{camera}", ts_ms, part, halt) for uid, at, camera, ts_ms, part, halt in rows]


@dataclass(slots=True)
class _Writer:
    """Writes decided records into `folder` and counts every one of them in `summary`."""

    folder: Path
    book: LabelBook
    frames: FrameStore
    allow_single: bool
    need: int
    summary: Summary
    decisions: Mapping[int, Adjudication]
    weights: Mapping[int, dict[str, float]]
    left_out: Container[int]

    def write(self, work: Iterable[tuple[Record, list[Label]]], groups: dict[str, str]) -> None:
        for name in ("images", "masks"):
            (self.folder / name).mkdir()
        with (self.folder / SAMPLES_FILE).open("w", encoding="utf-8") as lines:
            for record, labels in work:
                if record.id in self.left_out and record.id not in self.decisions:
                    self.summary.ambiguous += 1
                    continue
                try:
                    decided = self._decide(record, labels)
                    sample = self._sample(record, groups[record.uid], decided) if decided else None
                except (StorageError, InputError):
                    # One lost picture must not keep a thousand labels back; it is counted and named.
                    self.summary.unreadable.append(record.uid)
                    continue
                if sample is not None and decided is not None:
                    lines.write(sample.model_dump_json() + "\n")
                    self.summary.count(decided, sample)
        header = LabelledHeader(
            task=self.book.task, classes=self.book.classes, label_book=self.book.id, made_by="haltline review export"
        )
        (self.folder / HEADER_FILE).write_text(header.model_dump_json(indent=2) + "\n", encoding="utf-8")
        # The rules themselves: whoever trains on another machine does not know what was published on this hub.
        (self.folder / BOOK_FILE).write_text(self.book.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def _decide(self, record: Record, labels: list[Label]) -> Consensus | None:
        if decision := self.decisions.get(record.id):  # outranks whatever the labels add up to
            vote = self._vote(decision, record)
            return Consensus("adjudicated", vote.classes, (vote,))
        found = consensus([self._vote(label, record) for label in labels], self.need, self.allow_single)
        if found.votes:
            return found
        if found.state == "disputed" and (chances := self.weights.get(record.id)):
            return self._weighed(record, labels, chances)
        if found.state == "disputed":
            self.summary.disputed.append(record.uid)
        else:
            self.summary.too_few += 1
        return None

    def _weighed(self, record: Record, labels: list[Label], chances: Mapping[str, float]) -> Consensus:
        """The likelier answer; its outline is from whoever named one of its classes."""
        classes = tuple(c for c in self.book.classes if chances[c] >= 0.5)
        current = [self._vote(label, record) for label in labels if label.label_book == self.book.id]
        carry = [v for v in current if set(classes) & set(v.classes)] if classes else current
        return Consensus("weighed", classes, tuple(carry or current))

    def _soft(self, record: Record, found: Consensus) -> dict[str, float] | None:
        """None where nothing is in doubt, and for what was adjudicated: it outranks every estimate."""
        chances = self.weights.get(record.id, {})
        doubtful = any(0 < chance < 1 for chance in chances.values())
        return dict(chances) if doubtful and found.state != "adjudicated" else None

    def _vote(self, label: Label | Adjudication, record: Record) -> Vote:
        mask = None
        if label.mask is not None:
            png = self.frames.read(label.mask)
            mask = decode_mask(png, record.width_px, record.height_px, len(self.book.rules))
        marks = tuple(Mark.model_validate(m).annotation() for m in label.annotations)
        unsure = isinstance(label, Label) and label.unsure
        return Vote(label.person, label.label_book, tuple(label.classes), unsure, marks, mask)

    def _sample(self, record: Record, group: str, found: Consensus) -> Sample:
        assert record.image is not None
        image, mask_name = f"images/{record.uid}.png", f"masks/{record.uid}.png"
        mask = merge_masks(found.votes, found.classes, self.book.classes, (record.height_px, record.width_px))
        soft = self._soft(record, found)
        if soft and any(chance and cls not in found.classes for cls, chance in soft.items()):
            mask = None  # an outline that calls the place of a possible defect sound would teach that it is
        mask_png = None if mask is None else encode_mask(mask)
        (self.folder / image).write_bytes(self.frames.read(record.image))
        if mask_png is not None:
            (self.folder / mask_name).write_bytes(mask_png)
        return Sample(
            image=image,
            image_sha256=record.image,
            width_px=record.width_px,
            height_px=record.height_px,
            mask=mask_name if mask_png is not None else None,
            mask_sha256=sha256(mask_png) if mask_png is not None else None,
            px_per_mm=record.px_per_mm,
            labels=found.classes,
            annotations=merge_annotations(found.votes, found.classes),
            group=group,
            label_book=found.votes[0].book,
            labelled_by=tuple(sorted(v.person for v in found.votes)),
            soft_labels=soft,
            source=f"hub:record={record.uid}",
            part=record.part,
            model=record.model,
        )
