"""The tables of the shop floor: the audit chain, sign-ins, shelves, notes and handovers. Times are Unix ms."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from review.store.models import Base, Person, Station


class AuditRow(Base):
    """One act. `detail` is canonical JSON text, kept as the very characters that were hashed."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    utc_ms: Mapped[int] = mapped_column(BigInteger)
    who: Mapped[str] = mapped_column(String(64))
    what: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    prev: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHead(Base):
    """The newest link, one row: its lock makes writers of a shared database follow each other."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(64))


class SignIn(Base):
    """A signed-in browser. Only the token's sha256 is here, so a copied database signs nobody in."""

    __tablename__ = "sign_ins"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), index=True)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    seen_ms: Mapped[int] = mapped_column(BigInteger)
    ended_ms: Mapped[int | None] = mapped_column(BigInteger)
    ended_why: Mapped[str] = mapped_column(String(64), default="")

    person: Mapped[Person] = relationship(lazy="joined")


class Lockout(Base):
    """Wrong secrets in a row, and until when no other is looked at."""

    __tablename__ = "lockouts"

    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    failures: Mapped[int]
    until_ms: Mapped[int] = mapped_column(BigInteger)


class BadgeTries(Base):
    """Wrong badges within an hour at one screen, or at all of them (`hub`), and until when no other is looked at."""

    __tablename__ = "badge_tries"

    origin: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int]
    from_ms: Mapped[int] = mapped_column(BigInteger)
    until_ms: Mapped[int] = mapped_column(BigInteger)


OF_STATION = -1
"""A shelf's `code` where a station's own alarm lies on it; `cls` is its kind then."""


class Shelf(Base):
    """A cause at a station that calls nobody for a while. `until_ms` is None only while out of service."""

    __tablename__ = "shelves"
    __table_args__ = (Index(None, "ended_ms", "station_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    code: Mapped[int]
    cls: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(16))
    why: Mapped[str] = mapped_column(Text)
    by: Mapped[str] = mapped_column(String(64))
    from_ms: Mapped[int] = mapped_column(BigInteger)
    until_ms: Mapped[int | None] = mapped_column(BigInteger)
    ended_ms: Mapped[int | None] = mapped_column(BigInteger)
    ended_by: Mapped[str] = mapped_column(String(64), default="")

    station: Mapped[Station] = relationship(lazy="joined")

    @property
    def subject(self) -> str:
        """What lies on it, for the audit log."""
        what = self.cls if self.code == OF_STATION else f"code {self.code} {self.cls}"
        return f"station {self.station_id} {what}".strip()


class ShiftNote(Base):
    """What somebody wants the next shift to know."""

    __tablename__ = "shift_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    by: Mapped[str] = mapped_column(String(64))
    at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    text: Mapped[str] = mapped_column(Text)


class Handover(Base):
    """What one shift left to the next, as it was when signed. `audit_*`: the newest act then, an anchor on paper."""

    __tablename__ = "handovers"

    id: Mapped[int] = mapped_column(primary_key=True)
    from_ms: Mapped[int] = mapped_column(BigInteger)
    to_ms: Mapped[int] = mapped_column(BigInteger)
    draft: Mapped[dict[str, Any]]
    out_by: Mapped[str] = mapped_column(String(64))
    in_by: Mapped[str | None] = mapped_column(String(64))
    in_ms: Mapped[int | None] = mapped_column(BigInteger)
    audit_seq: Mapped[int] = mapped_column(BigInteger)
    audit_hash: Mapped[str] = mapped_column(String(64))


class FilmRow(Base):
    """The film before a halt (`station_messages.FilmEvent`): one JPEG of tiles and what the guard made of each."""

    __tablename__ = "films"
    __table_args__ = (UniqueConstraint("station_id", "halt"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    halt: Mapped[int] = mapped_column(BigInteger)
    camera: Mapped[str] = mapped_column(Text)
    cls: Mapped[str] = mapped_column(String(32))
    rule: Mapped[dict[str, Any]]
    frames: Mapped[list[Any]]
    image: Mapped[str] = mapped_column(String(64))
    columns: Mapped[int]
    tile_w_px: Mapped[int]
    tile_h_px: Mapped[int]
    received_ms: Mapped[int] = mapped_column(BigInteger)
