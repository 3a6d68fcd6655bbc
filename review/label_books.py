"""Versions of the label books: drafts, and what a draft still lacks. Putting one into force: `publishing.py`.

`inspection.label_book.BOOKS` are the versions a hub starts with; everything newer is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from inspection.errors import InputError
from inspection.label_book import BOOKS, ClassRule, LabelBook
from review.language import _, ngettext, plain
from review.measured import longest_mm, most_within
from review.store import BookFrame, BookRow, Label, Record

KINDS = ("example", "counterexample", "borderline")


class ChangedMeanwhile(InputError):
    """Somebody else was faster: what the page showed is no longer what an act of it would replace."""


@dataclass(frozen=True, slots=True)
class FramesNeeded:
    """How many frames of each kind every class must show before a version is published."""

    example: int = 4
    counterexample: int = 3
    borderline: int = 3


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
    still_a_draft(row)
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
    still_a_draft(row)
    row.author, row.reason = person, reason.strip()
    session.flush()


def add_reason(session: Session, row: BookRow, reason: str) -> None:
    """Behind what somebody typed: a draft has one author and may have several reasons."""
    still_a_draft(row)
    if reason not in row.reason:
        row.reason = f"{row.reason.rstrip('.;')}; {reason}" if row.reason else reason
    session.flush()


def show_frame(
    session: Session, row: BookRow, cls: str, kind: str, uid: str, note: str, person: str, now_ms: int
) -> BookFrame:
    """Put a frame beside a rule of a draft; one it already shows is moved to the kind."""
    still_a_draft(row)
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
    still_a_draft(row)
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


def _copied(frame: BookFrame, row: BookRow) -> BookFrame:
    return BookFrame(
        book_id=row.id, cls=frame.cls, kind=frame.kind, record_id=frame.record_id, note=frame.note,
        added_by=frame.added_by, added_ms=frame.added_ms,
    )  # fmt: skip


def still_a_draft(row: BookRow) -> None:
    """InputError for a version that is published: its labels were made under what it says."""
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
