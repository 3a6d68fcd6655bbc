"""Versions of the label books: drafts, what a draft still lacks, what publishing it would touch, and publishing it.

`inspection.label_book.BOOKS` are the versions a hub starts with; everything newer is here. Publishing is the only
way a rule changes, and it says beforehand exactly which labels were made under a limit that no longer holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from inspection.errors import InputError
from inspection.label_book import BOOKS, ClassRule, CountLimit, LabelBook
from review import audit
from review.labelling import NEED
from review.language import _, ngettext, plain
from review.store import BookFrame, BookRow, Label, LabelAssignment, Person, Record

RELABEL = "relabel "
"""How `LabelAssignment.why` begins where publishing asked; the book's id follows."""
KINDS = ("example", "counterexample", "borderline")


class ChangedMeanwhile(InputError):
    """Somebody else was faster: what the page showed is no longer what an act of it would replace."""


@dataclass(frozen=True, slots=True)
class FramesNeeded:
    """How many frames of each kind every class must show before a version is published."""

    example: int = 4
    counterexample: int = 3
    borderline: int = 3


@dataclass(frozen=True, slots=True)
class Touched:
    """A label whose answer the new limits put in question. `size_mm` is None where nobody measured the defect."""

    label: Label
    record: Record
    cls: str
    size_mm: float | None
    why: str


# -- reading ----------------------------------------------------------------------------------------------------------


def versions(session: Session, name: str) -> list[LabelBook]:
    """Every published version, newest first; the one the hub was installed with last."""
    published = select(BookRow).where(BookRow.name == name, BookRow.published_ms.is_not(None))
    rows = [as_book(row) for row in session.scalars(published.order_by(BookRow.version.desc()))]
    return rows + [book for book in BOOKS.values() if book.name == name]


def newest(session: Session, name: str) -> LabelBook | None:
    """The version in force; None when the hub knows no book of this name."""
    return next(iter(versions(session, name)), None)


def by_id(session: Session, book_id: str) -> LabelBook | None:
    return next((b for b in versions(session, book_id.partition("@")[0]) if b.id == book_id), None)


def draft_of(session: Session, name: str) -> BookRow | None:
    """There is at most one draft of a book."""
    return session.scalar(select(BookRow).where(BookRow.name == name, BookRow.published_ms.is_(None)))


def as_book(row: BookRow) -> LabelBook:
    rules = tuple(ClassRule.model_validate(rule, strict=False) for rule in row.rules)
    return LabelBook(
        name=row.name, version=row.version, task=row.task, rules=rules, author=row.author, reason=row.reason
    )


def frames_of(session: Session, book: LabelBook) -> dict[str, dict[str, list[BookFrame]]]:
    """Class -> kind -> frames of this version, in the order they were added."""
    found: dict[str, dict[str, list[BookFrame]]] = {cls: {kind: [] for kind in KINDS} for cls in book.classes}
    of_book = (BookRow.name == book.name, BookRow.version == book.version)
    rows = select(BookFrame).join(BookRow, BookRow.id == BookFrame.book_id).where(*of_book).order_by(BookFrame.id)
    for frame in session.scalars(rows):
        if frame.cls in found and frame.kind in KINDS:
            found[frame.cls][frame.kind].append(frame)
    return found


def shown_beside(session: Session, book: LabelBook, record_id: int) -> dict[str, dict[str, list[BookFrame]]]:
    """`frames_of` for whoever labels this record: without the record itself, whose answer would stand beside it."""
    return {
        cls: {kind: [f for f in frames if f.record_id != record_id] for kind, frames in kinds.items()}
        for cls, kinds in frames_of(session, book).items()
    }


# -- drafting ---------------------------------------------------------------------------------------------------------


def draft(session: Session, name: str, person: str, reason: str, now_ms: int) -> BookRow:
    """A draft of the next version, with rules and frames of the one in force; the draft there is, when there is one."""
    if row := draft_of(session, name):
        return row
    book = newest(session, name)
    if book is None:
        choices = ", ".join(b.name for b in BOOKS.values())
        raise InputError(name, _("is no label book of this hub"), _("one of %(choices)s", choices=choices))
    row = BookRow(
        name=name, version=book.version + 1, task=book.task, rules=[r.model_dump(mode="json") for r in book.rules],
        author=person, reason=reason.strip(), created_ms=now_ms,
    )  # fmt: skip
    session.add(row)
    session.flush()
    for kinds in frames_of(session, book).values():
        for frame in (f for frames in kinds.values() for f in frames):
            session.add(_copied(frame, row))
    session.flush()
    return row


def set_rule(session: Session, row: BookRow, cls: str, **changes: Any) -> ClassRule:
    """Change the limit, band, title or words of one class of a draft; InputError for what is no rule."""
    _still_a_draft(row)
    rules = [ClassRule.model_validate(rule, strict=False) for rule in row.rules]
    for n, rule in enumerate(rules):
        if rule.cls == cls:
            try:
                rules[n] = ClassRule.model_validate(rule.model_dump() | changes)
            except ValueError as e:
                fix = _("a limit and a band (low, high) in mm, and words")
                raise InputError(f"{row.name} / {cls}", _first(e), fix) from e
            row.rules = [r.model_dump(mode="json") for r in rules]
            session.flush()
            return rules[n]
    choices = ", ".join(r.cls for r in rules)
    raise InputError(cls, _("is no class of %(book)s", book=row.name), _("one of %(choices)s", choices=choices))


def set_reason(session: Session, row: BookRow, person: str, reason: str) -> None:
    _still_a_draft(row)
    row.author, row.reason = person, reason.strip()
    session.flush()


def add_reason(session: Session, row: BookRow, reason: str) -> None:
    """Behind what somebody typed: a draft has one author and may have several reasons."""
    _still_a_draft(row)
    if reason not in row.reason:
        row.reason = f"{row.reason.rstrip('.;')}; {reason}" if row.reason else reason
    session.flush()


def show_frame(
    session: Session, row: BookRow, cls: str, kind: str, uid: str, note: str, person: str, now_ms: int
) -> BookFrame:
    """Put a frame beside a rule of a draft; one it already shows is moved to the kind."""
    _still_a_draft(row)
    record = session.scalar(select(Record).where(Record.uid == uid.strip(), Record.image.is_not(None)))
    if record is None:
        what = _("%(uid)s is no record with a picture", uid=repr(uid))
        raise InputError(_("frame"), what, _("its id stands on the Consistency page"))
    if kind not in KINDS or cls not in {rule["cls"] for rule in row.rules}:
        what = _("is no class and kind of this book")
        raise InputError(f"{cls} / {kind}", what, _("kinds are %(kinds)s", kinds=", ".join(KINDS)))
    shown = select(BookFrame).where(BookFrame.book_id == row.id, BookFrame.cls == cls, BookFrame.record_id == record.id)
    frame = session.scalar(shown)
    if frame is None:
        frame = BookFrame(book_id=row.id, cls=cls, record_id=record.id, added_by=person, added_ms=now_ms)
        session.add(frame)
    frame.kind, frame.note = kind, note.strip()
    session.flush()
    return frame


def hide_frame(session: Session, row: BookRow, frame_id: int) -> None:
    _still_a_draft(row)
    frame = session.get(BookFrame, frame_id)
    if frame is not None and frame.book_id == row.id:
        session.delete(frame)
        session.flush()


def missing(session: Session, row: BookRow, needed: FramesNeeded) -> list[str]:
    """What a draft lacks, one line each; empty when it may be published."""
    lacks = [] if row.reason else [_("the reason of this version")]
    shown = frames_of(session, as_book(row))
    for rule in as_book(row).rules:
        for kind in KINDS:
            have, want = len(shown[rule.cls][kind]), getattr(needed, kind)
            if have < want:
                facts = {"title": rule.title, "have": have, "want": want}
                lacks.append(_more(kind, want - have, **facts))
        lacks += contradicted(session, rule, shown[rule.cls])
    return lacks


def _more(kind: str, n: int, **facts: object) -> str:
    if kind == "example":
        return ngettext(
            "%(title)s: %(num)s more example (%(have)s of %(want)s)",
            "%(title)s: %(num)s more examples (%(have)s of %(want)s)",
            n,
            **facts,
        )
    if kind == "counterexample":
        return ngettext(
            "%(title)s: %(num)s more counterexample (%(have)s of %(want)s)",
            "%(title)s: %(num)s more counterexamples (%(have)s of %(want)s)",
            n,
            **facts,
        )
    return ngettext(
        "%(title)s: %(num)s more borderline case (%(have)s of %(want)s)",
        "%(title)s: %(num)s more borderline cases (%(have)s of %(want)s)",
        n,
        **facts,
    )


def contradicted(session: Session, rule: ClassRule, shown: Mapping[str, Sequence[BookFrame]]) -> list[str]:
    """Frames that show the opposite of a rule with a count, one line each, by what everybody marked on them.

    Nothing is said of a frame on which nobody marked places, nor of an example nobody measured, nor of a depth.
    """
    found: list[str] = []
    for kind in ("example", "counterexample") if rule.count else ():
        for frame in shown[kind]:
            assert rule.count is not None
            of_frame = (Label.record_id == frame.record_id, Label.superseded_ms.is_(None))
            labels = session.scalars(select(Label).where(*of_frame)).all()
            most = most_within(rule.count, rule.cls, labels, frame.record)
            sizes = [s for label in labels if (s := longest_mm(label, rule.cls)) is not None]
            many, small = most >= rule.count.regions, sizes and not any(map(rule.is_defect, sizes))
            facts = {"title": rule.title, "frame": frame.record.uid[-8:], "n": most, "mm": plain(rule.count.within_mm)}
            what = _("%(title)s: frame %(frame)s has %(n)s within %(mm)s mm", **facts)
            if kind == "example" and most and small and not many:
                found.append(_("%(what)s and is too short: no defect by this rule", what=what))
            elif kind == "counterexample" and many:
                found.append(_("%(what)s: a defect by this rule", what=what))
    return found


# -- publishing -------------------------------------------------------------------------------------------------------


def touched(session: Session, row: BookRow) -> list[Touched]:
    """Labels made under limits that the draft changes: the defect they were about lies between old limit and new.

    The size is the one this person measured, else the mean of what others measured on the frame. Where a class was
    called whose limit changes and nobody measured it, the size could lie there, so that label is touched too.
    """
    old = newest(session, row.name)
    assert old is not None
    found: list[Touched] = []
    changed = [(old.rule(rule.cls), rule) for rule in as_book(row).rules if rule != old.rule(rule.cls)]
    for record, labels in _labelled(session, row.name):
        for before, rule in changed:
            sizes = {label.id: longest_mm(label, rule.cls) for label in labels}
            others = [s for s in sizes.values() if s is not None]
            for label in labels:
                own = sizes[label.id]
                size = own if own is not None else sum(others) / len(others) if others else None
                if why := _why_touched(before, rule, label, record, size):
                    found.append(Touched(label, record, rule.cls, size, why))
    return found


def _why_touched(before: ClassRule, rule: ClassRule, label: Label, record: Record, size: float | None) -> str:
    """Empty where the label's answer is the same under both rules."""
    low, high = sorted((before.limit_mm, rule.limit_mm))
    if low != high and size is None and rule.cls in label.classes:
        return _("never measured")
    if size is not None and low <= size < high:
        return _("between %(low)s and %(high)s mm", low=plain(low), high=plain(high))
    marked = rule.cls in label.classes or any(a["cls"] == rule.cls for a in label.annotations)
    if before.depth != rule.depth and marked:
        return _("judged by another depth")
    if before.count != rule.count and _counted(before, label, record) != _counted(rule, label, record):
        return _("as many regions are judged otherwise")
    return ""


def _counted(rule: ClassRule, label: Label, record: Record) -> bool:
    return rule.count is not None and most_within(rule.count, rule.cls, [label], record) >= rule.count.regions


def fingerprint(session: Session, row: BookRow) -> str:
    """Of all that publishing a draft puts into force: rules, reason, and the frames beside them."""
    shown = session.scalars(select(BookFrame).where(BookFrame.book_id == row.id).order_by(BookFrame.id))
    frames = [[f.cls, f.kind, f.record_id, f.note] for f in shown]
    said = json.dumps([row.version, row.rules, row.reason, frames], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def publish(
    session: Session, row: BookRow, person: str, needed: FramesNeeded, now_ms: int, labels_per_frame: int = NEED,
    seen: str | None = None,
) -> list[Touched]:  # fmt: skip
    """Put a draft into force and ask again for what it touches; InputError names what is missing, ChangedMeanwhile
    says that its `fingerprint` is not the `seen` one, of what the page showed.

    Everybody who labelled a touched frame is asked again, and so is whoever labelled a frame that has fewer than
    `labels_per_frame`: labels are only ever compared under one version.
    """
    _still_a_draft(row)
    if lacks := missing(session, row, needed):
        what = _("cannot be published, it lacks %(lacks)s", lacks="; ".join(lacks))
        raise InputError(f"{row.name}@{row.version}", what, _("add them"))
    if seen is not None and seen != fingerprint(session, row):
        what = _("was changed since the page showed it")
        raise ChangedMeanwhile(f"{row.name}@{row.version}", what, _("read it below, then publish"))
    found = touched(session, row)
    again = {t.record.id for t in found}
    row.published_ms, row.published_by = now_ms, person
    why = f"{RELABEL}{row.name}@{row.version}"
    for record, labels in _labelled(session, row.name):
        people = {label.person for label in labels}
        if record.id in again or len(people) < labels_per_frame:
            _ask(session, record, people, why, now_ms)
    book = f"{row.name}@{row.version}"
    audit.note(session, person, "label_book_published", f"label book {book}", touched=len(found), reason=row.reason)
    session.flush()
    return found


def most_within(count: CountLimit, cls: str, labels: Iterable[Label], record: Record) -> int:
    """The most regions of a class that one of the labels shows as near together as the rule asks; 0 without a scale."""
    if record.px_per_mm <= 0:
        return 0
    middles = [
        [_middle_mm(a, record.px_per_mm) for a in label.annotations if a["cls"] == cls and _is_placed(a)]
        for label in labels
    ]
    return max((count.most(of_label) for of_label in middles), default=0)


def _is_placed(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("box_px") or annotation.get("points_px"))


def _middle_mm(annotation: Mapping[str, Any], px_per_mm: float) -> tuple[float, float]:
    if box := annotation.get("box_px"):
        x, y, w, h = box
        return (x + w / 2) / px_per_mm, (y + h / 2) / px_per_mm
    xs, ys = zip(*annotation["points_px"], strict=True)
    return (min(xs) + max(xs)) / 2 / px_per_mm, (min(ys) + max(ys)) / 2 / px_per_mm


def longest_mm(label: Label, cls: str) -> float | None:
    """The longest this person measured of a class."""
    lengths = [a["length_mm"] for a in label.annotations if a["cls"] == cls and a.get("length_mm") is not None]
    return max(lengths, default=None)


def asked(session: Session, name: str) -> list[tuple[str, str]]:
    """(person, record uid) of each label that publishing asked for and that somebody still here has not given yet."""
    rows = session.execute(
        select(LabelAssignment.person, Record.uid)
        .join(Record, Record.id == LabelAssignment.record_id)
        .where(LabelAssignment.why.startswith(f"{RELABEL}{name}@", autoescape=True), LabelAssignment.done_ms.is_(None))
        .where(LabelAssignment.person.not_in(_left()))
        .order_by(LabelAssignment.id)
    )
    return [(person, uid) for person, uid in rows]


def waiting_to_relabel(session: Session, name: str) -> int:
    """How many labels publishing asked for and nobody has given yet."""
    return len(asked(session, name))


def current_labels(session: Session, name: str) -> list[Label]:
    """Every label in force that was made under some version of the book."""
    return [label for _, labels in _labelled(session, name) for label in labels]


def _left() -> Select[str]:
    return select(Person.name).where(Person.left_ms.is_not(None))


def _ask(session: Session, record: Record, people: Iterable[str], why: str, now_ms: int) -> None:
    """Whoever left is not asked: their label would be waited for, for good."""
    for person in sorted(set(people) - set(session.scalars(_left()))):
        session.add(LabelAssignment(record_id=record.id, person=person, why=why[:32], created_ms=now_ms))


def _labelled(session: Session, name: str) -> Sequence[tuple[Record, list[Label]]]:
    rows = session.execute(
        select(Record, Label)
        .join(Label, Label.record_id == Record.id)
        .where(Label.superseded_ms.is_(None), Label.label_book.startswith(f"{name}@", autoescape=True))
        .order_by(Record.ts_ms, Record.id, Label.id)
    )
    found: dict[int, tuple[Record, list[Label]]] = {}
    for record, label in rows:
        found.setdefault(record.id, (record, []))[1].append(label)
    return list(found.values())


def _copied(frame: BookFrame, row: BookRow) -> BookFrame:
    return BookFrame(
        book_id=row.id, cls=frame.cls, kind=frame.kind, record_id=frame.record_id, note=frame.note,
        added_by=frame.added_by, added_ms=frame.added_ms,
    )  # fmt: skip


def _still_a_draft(row: BookRow) -> None:
    if row.published_ms is not None:
        what = _("is published and stays as it is")
        raise InputError(f"{row.name}@{row.version}", what, _("draft the next version"))


def _first(error: ValueError) -> str:
    """The field and what is wrong with it; in English where the language of rules says it, as all of `inspection`."""
    errors: Sequence[Mapping[str, Any]] = getattr(error, "errors", list)()
    if not errors:
        return str(error)
    where, kind, limits = ".".join(map(str, errors[0]["loc"])), errors[0]["type"], errors[0].get("ctx", {})
    what = str(errors[0]["msg"])
    if kind in ("missing", "string_too_short"):
        what = _("is missing")
    elif kind == "greater_than":
        what = _("must be more than %(n)s", n=plain(limits["gt"]))
    elif kind == "greater_than_equal":
        what = _("must be %(n)s or more", n=plain(limits["ge"]))
    return f"{where}: {what}"
