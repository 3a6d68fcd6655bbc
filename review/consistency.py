"""What people's labels say about people: the numbers of the Consistency page and of its report.

A frame is answered per class: a defect when the label names the class, good when it does not, nothing when the person
was unsure. Labels are compared under one version of the label book only. A label replaced soon after is a correction;
one made again much later, or of a hidden repeat, is a second blind trial of the same person.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select, true
from sqlalchemy.orm import Session

from inspection.agreement import Agreement, Unit, agreement, each_pair
from inspection.attribute_study import Study, Trial, study
from inspection.dawid_skene import Judged, TooLittle, Weighed, weigh
from inspection.escape import Share, clopper_pearson
from inspection.label_book import LabelBook
from inspection.size_band import Call, NotEnough, SizeBand, size_band
from review import label_books as books
from review.export import groups_of, moments
from review.measured import longest_mm
from review.remembered import remembered
from review.store import Adjudication, BookFrame, BookRow, Label, Record, Showing

DEFECT, GOOD = "defect", "good"
MODEL = "model"
REPEAT_MS = 7 * 24 * 3600 * 1000
"""A second label of one person counts as a blind repeat when the first is at least so old: a memory of it is gone."""
DRAWS = 500
MOST = 3000
"""So many frames are enough for any of these numbers, and keep the page within seconds beside a running line."""


@dataclass(slots=True)
class FrameLabels:
    """One frame under one version of the book: who answered what about one class, oldest trial first."""

    record: Record
    part: str
    trials: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    """Everybody's last word on the frame itself; what somebody said when tested only where they said nothing else."""
    sizes_mm: dict[str, float] = field(default_factory=dict)
    reference: str = ""
    gold: dict[str, list[str]] = field(default_factory=dict)
    """What people said when the frame tested them."""
    labelled_ms: int = 0
    """When it got its last label under this version."""

    @property
    def differs(self) -> bool:
        return len(set(self.answers.values())) > 1

    @property
    def size_mm(self) -> float | None:
        """The mean of what people measured; a size of one's own would hide that people measure differently."""
        return sum(self.sizes_mm.values()) / len(self.sizes_mm) if self.sizes_mm else None


@dataclass(frozen=True, slots=True)
class PersonLine:
    """One person: frames shared with others, how often alone against all others, agreement, agreement with oneself,
    and hidden tests (`gold`) with how many were answered as decided."""

    person: str
    shared: int
    alone: int
    agreement: Agreement
    repeats: int
    repeats_alike: int
    gold: int
    gold_right: int


@dataclass(frozen=True, slots=True)
class ClassView:
    """Everything the page shows of one class under one version of the book."""

    cls: str
    frames: tuple[FrameLabels, ...]
    overall: Agreement
    people: tuple[PersonLine, ...]
    pairs: dict[tuple[str, str], Agreement]
    model: dict[tuple[str, str], Agreement]
    band: SizeBand | NotEnough
    weighed: Weighed | TooLittle

    @property
    def differing(self) -> tuple[FrameLabels, ...]:
        return tuple(f for f in self.frames if f.differs)


def used_versions(session: Session, name: str) -> list[str]:
    """Ids of the versions labels were made under, newest first."""
    found = session.scalars(
        select(Label.label_book).where(Label.label_book.startswith(f"{name}@", autoescape=True)).distinct()
    )
    return sorted(found, key=lambda b: -int(b.rpartition("@")[2]))


def parts_of(session: Session) -> dict[str, str]:
    """Record uid -> part or event. It reads every record, so a page asks once."""
    return groups_of(moments(session))


def frames(
    session: Session, book_id: str, cls: str, parts: Mapping[str, str], most: int | None = MOST
) -> list[FrameLabels]:
    """The newest `most` frames (None: all) labelled under this version, with everybody's answers about the class,
    oldest first; `parts` as `parts_of`."""
    newest = (
        select(Label.record_id)
        .join(Record, Record.id == Label.record_id)
        .where(Label.label_book == book_id)
        .group_by(Label.record_id, Record.ts_ms)
        .order_by(Record.ts_ms.desc(), Label.record_id.desc())
        .limit(most)
    )
    which = session.scalars(newest).all() if most else newest
    truth = _references(session, book_id, cls)
    # Two queries: a join would read and decode each record once for each of its labels.
    found = {
        r.id: FrameLabels(r, parts.get(r.uid, r.uid), reference=truth.get(r.id, ""))
        for r in session.scalars(select(Record).where(Record.id.in_(which)).order_by(Record.ts_ms, Record.id))
    }
    labels = select(Label).where(Label.label_book == book_id, Label.record_id.in_(which) if most else true())
    made: dict[tuple[int, str], list[Label]] = defaultdict(list)
    for label in session.scalars(labels.order_by(Label.created_ms, Label.id)):
        if label.record_id not in found:  # saved since the query before
            continue
        made[label.record_id, label.person].append(label)
        found[label.record_id].labelled_ms = label.created_ms
    tests = set(session.scalars(select(Showing.id).where(Showing.kind == "gold")))
    for (record_id, person), own in made.items():
        _add(found[record_id], person, own, cls, tests)
    return list(found.values())


def shown_frames(session: Session, book_id: str, cls: str) -> list[FrameLabels]:
    """`frames` for pages, remembered until somebody labels or decides; nobody may change them."""
    return remembered(session, ("frames", book_id, cls), lambda: frames(session, book_id, cls, parts_of(session)))


def shown_view(session: Session, book_id: str, cls: str) -> ClassView:
    return remembered(session, ("view", book_id, cls), lambda: class_view(shown_frames(session, book_id, cls), cls))


def shown_overall(session: Session, book_id: str, cls: str) -> Agreement:
    return remembered(session, ("overall", book_id, cls), lambda: overall(shown_frames(session, book_id, cls)))


def overall(of_class: Sequence[FrameLabels]) -> Agreement:
    return agreement([_unit(f) for f in of_class], DRAWS)


def class_view(of_class: Sequence[FrameLabels], cls: str) -> ClassView:
    units = [_unit(f) for f in of_class]
    double = [f for f in of_class if len(f.answers) >= 2]
    people = sorted({p for f in of_class for p in f.answers})
    return ClassView(
        cls=cls,
        frames=tuple(double),
        overall=overall(of_class),
        people=tuple(_person(p, of_class) for p in people),
        pairs=each_pair(units, DRAWS),
        model=_beside_the_model(of_class, cls),
        band=size_band(calls(of_class), draws=DRAWS),
        weighed=weigh(judged(of_class)),
    )


def judged(of_class: Iterable[FrameLabels]) -> list[Judged]:
    """Everybody's answer to the frame itself. Repeats are left out: one person twice is no second opinion."""
    return [
        Judged(
            f.record.uid,
            f.part,
            {person: answer == DEFECT for person, answer in f.answers.items()},
            f.reference == DEFECT if f.reference else None,
        )
        for f in of_class
    ]


def calls(of_class: Iterable[FrameLabels]) -> list[Call]:
    """Decisions about defects that somebody measured. Frames of one part are one part to the bootstrap."""
    return [
        Call(person, f.part, f.size_mm, answer == DEFECT)
        for f in of_class
        if f.size_mm
        for person, said in f.trials.items()
        for answer in said
    ]


def self_agreement(of_class: Sequence[FrameLabels]) -> dict[str, Share]:
    """Person -> share of the frames they judged twice or more that they always called the same, with its exact
    interval; also frames whose answer nobody knows, for which it takes none."""
    said: dict[str, list[bool]] = defaultdict(list)
    for f in of_class:
        for person, trials in f.trials.items():
            if len(trials) >= 2:
                said[person].append(len(set(trials)) == 1)
    return {person: clopper_pearson(sum(same), len(same)) for person, same in sorted(said.items())}


def attribute_study(of_class: Sequence[FrameLabels]) -> Study:
    """Against adjudicated frames and the label book's own examples; frames without a reference are left out.

    Here a *frame* is what the manual calls a part: it is what people are shown.
    """
    trials = [
        Trial(person, f.record.uid, answer == DEFECT)
        for f in of_class
        for person, said in f.trials.items()
        for answer in said
    ]
    return study(trials, {f.record.uid: f.reference == DEFECT for f in of_class if f.reference})


def proposed_limit(band: SizeBand) -> float:
    """As it is drafted: to the twentieth of a millimetre."""
    return round(round(band.proposed_mm.value * 20) / 20, 2)


def propose(session: Session, book: LabelBook, cls: str, band: SizeBand, person: str, now_ms: int) -> BookRow:
    """Draft the next version with the proposed limit and the band; a draft there is keeps its reason and author."""
    limit = proposed_limit(band)
    low, high = round(min(band.low_mm.value, limit), 2), round(max(band.high_mm.value, limit), 2)
    rule = book.rule(cls)
    reason = (
        f"{rule.title}: {len(band.people)} people on {band.parts} parts differ from {low:g} to {high:g} mm; "
        f"{limit:g} mm (95 % interval {band.proposed_mm.low:.2f} to {band.proposed_mm.high:.2f}) turns the fewest over"
    )
    row = books.draft(session, book.name, person, reason, now_ms)
    words = f"{rule.title}: {limit:g} mm or longer, measured along its longest extent. (Before: {rule.rule})"
    changed = words if limit != rule.limit_mm else rule.rule
    books.set_rule(session, row, cls, limit_mm=limit, ambiguous_mm=(low, high), rule=changed)
    books.add_reason(session, row, reason)
    return row


def _add(frame: FrameLabels, person: str, labels: Sequence[Label], cls: str, tests: Container[int]) -> None:
    """One person's labels of the frame under this version, oldest first; `tests` are the showings of gold frames."""
    own = [label for label in labels if label.showing_id is None]
    following = [*own[1:], None]
    kept = [a for a, b in zip(own, following, strict=False) if b is None or b.created_ms - a.created_ms >= REPEAT_MS]
    # Of each check the last label: the ones before it are corrections.
    kept += {label.showing_id: label for label in labels if label.showing_id is not None}.values()
    if size := longest_mm((own or labels)[-1], cls):
        frame.sizes_mm[person] = size
    said = [(label, _answer(label, cls)) for label in sorted(kept, key=lambda k: k.created_ms) if not label.unsure]
    if said:
        frame.trials[person] = [answer for _, answer in said]
        of_frame = [answer for label, answer in said if label.showing_id is None]
        frame.answers[person] = (of_frame or frame.trials[person])[-1]
    if tested := [answer for label, answer in said if label.showing_id in tests]:
        frame.gold[person] = tested


def _answer(label: Label, cls: str) -> str:
    return DEFECT if cls in label.classes else GOOD


def _unit(frame: FrameLabels) -> Unit:
    return Unit(frame.part, frame.answers, frame.record.uid)


def _person(person: str, of_class: Sequence[FrameLabels]) -> PersonLine:
    shared = [f for f in of_class if person in f.answers and len(f.answers) >= 2]
    alone = [f for f in shared if f.answers[person] not in [a for p, a in f.answers.items() if p != person]]
    again = [f.trials[person] for f in of_class if len(f.trials.get(person, ())) >= 2]
    return PersonLine(
        person,
        len(shared),
        len(alone),
        agreement([u for f in shared for u in _against_each(f, person)], DRAWS),
        len(again),
        sum(len(set(said)) == 1 for said in again),
        sum(len(f.gold.get(person, ())) for f in of_class if f.reference),
        sum(f.gold.get(person, []).count(f.reference) for f in of_class if f.reference),
    )


def _against_each(frame: FrameLabels, person: str) -> list[Unit]:
    """This person beside each other one who labelled the frame, so that what the others make of each other is out."""
    others = [answer for p, answer in frame.answers.items() if p != person]
    return [Unit(frame.part, {"this": frame.answers[person], "that": answer}) for answer in others]


def _beside_the_model(of_class: Sequence[FrameLabels], cls: str) -> dict[tuple[str, str], Agreement]:
    """Each person and the model, on frames where the model made up its mind."""
    by_person: dict[str, list[Unit]] = defaultdict(list)
    for f in of_class:
        said = model_answer(f.record, cls)
        for person, answer in f.answers.items() if said else ():
            by_person[person].append(Unit(f.part, {person: answer, MODEL: said}, f.record.uid))
    return {(person, MODEL): agreement(units, DRAWS) for person, units in sorted(by_person.items())}


def model_answer(record: Record, cls: str) -> str:
    """What the model called, "" where it was unsure or could not see."""
    if record.call not in ("defect", "pass"):
        return ""
    return DEFECT if record.call == "defect" and any(f.get("cls") == cls for f in record.findings) else GOOD


def _references(session: Session, book_id: str, cls: str) -> dict[int, str]:
    """Record id -> the truth: what was adjudicated, else what the label book itself shows the frame as."""
    name, _, version = book_id.partition("@")
    shown = (
        select(BookFrame)
        .join(BookRow, BookRow.id == BookFrame.book_id)
        .where(BookRow.name == name, BookRow.version == int(version), BookFrame.cls == cls)
    )
    kinds = {"example": DEFECT, "counterexample": GOOD}
    found = {f.record_id: kinds[f.kind] for f in session.scalars(shown) if f.kind in kinds}
    decided = select(Adjudication).where(Adjudication.superseded_ms.is_(None), Adjudication.label_book == book_id)
    for a in session.scalars(decided):
        found[a.record_id] = DEFECT if cls in a.classes else GOOD
    return found
