"""The tables of a station's own alarms: what keeps it from inspecting, and the rules that keep some of it quiet.
Times are Unix ms."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from review.store.models import Base, Station


class SuppressionRule(Base):
    """One version of a rule. Only the newest may be in force (`ended_ms` None); a changed rule is a new row."""

    __tablename__ = "suppression_rules"
    __table_args__ = (UniqueConstraint("rule", "version"), Index(None, "ended_ms"))

    id: Mapped[int] = mapped_column(primary_key=True)
    rule: Mapped[int]
    version: Mapped[int]
    name: Mapped[str] = mapped_column(String(64))
    condition: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(32), default="")
    """Of the alarm that is the condition; empty for the others."""
    whole_line: Mapped[bool] = mapped_column(default=False)
    """That alarm at any station of the line, not only at the same one."""
    stations: Mapped[str] = mapped_column(String(100))
    alarms: Mapped[list[Any]]
    why: Mapped[str] = mapped_column(Text)
    by: Mapped[str] = mapped_column(String(64))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    ended_ms: Mapped[int | None] = mapped_column(BigInteger)
    ended_by: Mapped[str] = mapped_column(String(64), default="")


class Maintenance(Base):
    """Somebody works at a station for a while. Says nothing to the edge: only rules look at it."""

    __tablename__ = "maintenance"
    __table_args__ = (Index(None, "ended_ms", "station_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    why: Mapped[str] = mapped_column(Text)
    by: Mapped[str] = mapped_column(String(64))
    from_ms: Mapped[int] = mapped_column(BigInteger)
    until_ms: Mapped[int] = mapped_column(BigInteger)
    ended_ms: Mapped[int | None] = mapped_column(BigInteger)
    ended_by: Mapped[str] = mapped_column(String(64), default="")

    station: Mapped[Station] = relationship(lazy="joined")


class Fault(Base):
    """A station's own alarm: one row each time its condition came, never reactivated. `began_ms`: when the condition
    was first seen; `at_ms`: when it had lasted long enough; `called_ms`: when it called, None while it never did."""

    __tablename__ = "faults"
    __table_args__ = (Index(None, "state", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    kind: Mapped[str] = mapped_column(String(32))
    why: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20))
    began_ms: Mapped[int] = mapped_column(BigInteger)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    called_ms: Mapped[int | None] = mapped_column(BigInteger)
    cleared_ms: Mapped[int | None] = mapped_column(BigInteger)
    suppressed_by: Mapped[int | None] = mapped_column(ForeignKey("suppression_rules.id"))

    station: Mapped[Station] = relationship(lazy="joined")
    rule: Mapped[SuppressionRule | None] = relationship(lazy="joined")
    events: Mapped[list[FaultEventRow]] = relationship(order_by="FaultEventRow.id", back_populates="of")


class FaultEventRow(Base):
    """Its append-only history."""

    __tablename__ = "fault_events"
    __table_args__ = (Index(None, "kind", "at_ms"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    fault_id: Mapped[int] = mapped_column(ForeignKey("faults.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    who: Mapped[str] = mapped_column(Text, default="")
    at_ms: Mapped[int] = mapped_column(BigInteger)
    detail: Mapped[dict[str, Any]]

    of: Mapped[Fault] = relationship(back_populates="events")
