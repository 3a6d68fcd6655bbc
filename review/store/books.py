"""Tables of the label book's versions, the frames that explain its rules, and what adjudicators decided."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from review.store.models import Base, Record


class BookRow(Base):
    """One version of a label book (`inspection.label_book.LabelBook`); a draft until `published_ms` is set."""

    __tablename__ = "label_books"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(48))
    version: Mapped[int]
    task: Mapped[str] = mapped_column(String(48))
    rules: Mapped[list[Any]]
    author: Mapped[str] = mapped_column(String(64), default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    created_ms: Mapped[int] = mapped_column(BigInteger)
    published_by: Mapped[str] = mapped_column(String(64), default="")
    published_ms: Mapped[int | None] = mapped_column(BigInteger)


class BookFrame(Base):
    """A frame shown beside a rule: `kind` is example, counterexample or borderline. Fixed once its book is out."""

    __tablename__ = "label_book_frames"
    __table_args__ = (UniqueConstraint("book_id", "cls", "record_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("label_books.id"))
    cls: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(16))
    record_id: Mapped[int] = mapped_column(ForeignKey("records.id"))
    note: Mapped[str] = mapped_column(Text, default="")
    added_by: Mapped[str] = mapped_column(String(64))
    added_ms: Mapped[int] = mapped_column(BigInteger)

    record: Mapped[Record] = relationship(lazy="joined")


class Adjudication(Base):
    """What one person decided where labels differ. A later one supersedes it; both stay.

    `took`: whose label was right ("" when neither was: then `classes` and `annotations` are the adjudicator's own).
    """

    __tablename__ = "adjudications"
    __table_args__ = (Index(None, "record_id", "superseded_ms"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    record_id: Mapped[int] = mapped_column(ForeignKey("records.id"))
    person: Mapped[str] = mapped_column(String(64))
    label_book: Mapped[str] = mapped_column(String(64))
    took: Mapped[str] = mapped_column(String(64), default="")
    classes: Mapped[list[Any]]
    mask: Mapped[str | None] = mapped_column(String(64))
    annotations: Mapped[list[Any]]
    reason: Mapped[str] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    superseded_ms: Mapped[int | None] = mapped_column(BigInteger)
