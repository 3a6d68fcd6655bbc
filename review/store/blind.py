"""Tables of blind checks: frames shown to somebody again, or as a test, without their knowing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from review.store.models import Base, Record


class Showing(Base):
    """A frame in one person's queue under an id of its own, so that nothing they are sent says which frame it is.

    `kind`: `repeat` (they labelled it long ago), `gold` (its answer is known) or `mirror` (an ordinary frame, mirrored
    only so that being mirrored gives no check away). `flip`: "h", "v" or "hv". `place_ms` is where it stands among the
    frames of the queue, which stand there by the time they were taken.
    """

    __tablename__ = "showings"
    __table_args__ = (Index(None, "person", "done_ms"), Index(None, "record_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    record_id: Mapped[int] = mapped_column(ForeignKey("records.id"))
    person: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(8))
    flip: Mapped[str] = mapped_column(String(2))
    place_ms: Mapped[int] = mapped_column(BigInteger)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    done_ms: Mapped[int | None] = mapped_column(BigInteger)

    record: Mapped[Record] = relationship(lazy="joined")


class GoldChoice(Base):
    """Somebody says whether a decided frame may test others; the newest row of a record holds. Without one it may."""

    __tablename__ = "gold_choices"
    __table_args__ = (Index(None, "record_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    record_id: Mapped[int] = mapped_column(ForeignKey("records.id"))
    use: Mapped[bool]
    person: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(BigInteger)


class Suspect(Base):
    """A label that the model, which never saw the frame, disagrees with; and what somebody made of it.

    `kind`: `image` (is the class there?) or `mask` (where is it?). `said`: the classes of the label when it was looked
    at. `p`: the model's probability that `cls` is there; `quality`: 0 surely wrong to 1 surely right. `decision`: "",
    `keep`, `change` or `ambiguous`.
    """

    __tablename__ = "suspects"
    __table_args__ = (
        UniqueConstraint("record_id", "cls", "kind", "snapshot"),
        Index(None, "decision", "quality"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    record_id: Mapped[int] = mapped_column(ForeignKey("records.id"))
    cls: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(8))
    snapshot: Mapped[str] = mapped_column(String(64))
    label_book: Mapped[str] = mapped_column(String(64))
    said: Mapped[list[Any]]
    p: Mapped[float]
    quality: Mapped[float]
    created_ms: Mapped[int] = mapped_column(BigInteger)
    decision: Mapped[str] = mapped_column(String(12), default="")
    person: Mapped[str] = mapped_column(String(64), default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    decided_ms: Mapped[int | None] = mapped_column(BigInteger)

    record: Mapped[Record] = relationship(lazy="joined")
