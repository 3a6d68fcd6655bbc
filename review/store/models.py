"""The hub's tables. Times are Unix ms (`*_ms`), the language's own unit; JSON columns hold what is only ever shown.

Rows are facts: a halt's history, labels and rollouts are appended to or superseded, never edited away.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

# Named constraints, so that later migrations can drop them on every database.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


PICTURED = text("image IS NOT NULL")
"""Of records: only these are ever labelled, and most have no picture."""


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}


class Station(Base):
    """A camera's place on a line, made when its first message arrives. The permit is live state and not kept here."""

    __tablename__ = "stations"
    __table_args__ = (UniqueConstraint("site", "line", "station"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(String(32))
    line: Mapped[str] = mapped_column(String(32))
    station: Mapped[str] = mapped_column(String(32))
    conn: Mapped[str] = mapped_column(String(16), default="")
    conn_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    edge: Mapped[str] = mapped_column(Text, default="")
    plc: Mapped[str] = mapped_column(String(16), default="")
    plc_why: Mapped[str] = mapped_column(Text, default="")
    plc_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    bundle: Mapped[str] = mapped_column(String(64), default="")
    bundle_state: Mapped[str] = mapped_column(String(16), default="")
    bundle_wanted: Mapped[str] = mapped_column(String(64), default="")
    bundle_why: Mapped[str] = mapped_column(Text, default="")
    provider: Mapped[str] = mapped_column(String(64), default="")
    retired_ms: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """When somebody said that it is gone for good; None while it is not."""

    @property
    def key(self) -> str:
        """`site~line~station`: one path segment, as no topic level holds a tilde."""
        return f"{self.site}~{self.line}~{self.station}"


def ids_by_key(session: Session) -> dict[str, int]:
    """Every station's id, by its key."""
    columns = (Station.id, Station.site, Station.line, Station.station)
    return {f"{site}~{line}~{station}": row for row, site, line, station in session.execute(select(*columns))}


class Halt(Base):
    """An alarm: one row per halt event, never reactivated. `halt` is the edge's id, `state` an `alarms.State`."""

    __tablename__ = "halts"
    __table_args__ = (
        UniqueConstraint("station_id", "halt"),
        Index(None, "state", "id"),
        Index(None, "station_id", "id"),
        Index(None, "station_id", "at_ms"),
        Index(None, "at_ms"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    halt: Mapped[int] = mapped_column(BigInteger)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    code: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)
    cls: Mapped[str] = mapped_column(String(32), default="")
    score: Mapped[float] = mapped_column(default=0.0)
    limit: Mapped[float] = mapped_column(default=0.0)
    length_mm: Mapped[float] = mapped_column(default=0.0)
    limit_mm: Mapped[float] = mapped_column(default=0.0)
    frame_id: Mapped[int] = mapped_column(BigInteger, default=-1)
    part: Mapped[str] = mapped_column(Text, default="")
    model: Mapped[str] = mapped_column(Text, default="")
    policy: Mapped[str] = mapped_column(Text, default="")
    records: Mapped[list[Any]]
    stages_ms: Mapped[dict[str, Any]]
    at_ms: Mapped[int] = mapped_column(BigInteger)
    received_ms: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(20))
    verdict: Mapped[str | None] = mapped_column(String(12))

    station: Mapped[Station] = relationship(lazy="joined")
    events: Mapped[list[HaltEventRow]] = relationship(order_by="HaltEventRow.id", back_populates="of")


class HaltEventRow(Base):
    """The append-only history of a halt: who did what when, and what the edge answered."""

    __tablename__ = "halt_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    halt_id: Mapped[int] = mapped_column(ForeignKey("halts.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    who: Mapped[str] = mapped_column(Text, default="")
    at_ms: Mapped[int] = mapped_column(BigInteger)
    detail: Mapped[dict[str, Any]]

    of: Mapped[Halt] = relationship(back_populates="events")


class Record(Base):
    """One kept frame as the edge described it (`messages.RecordEvent`); pictures lie in the frame store by sha256."""

    __tablename__ = "records"
    __table_args__ = (
        Index(None, "station_id", "halt"),
        Index(None, "station_id", "call", "id"),
        Index("ix_records_pictured_call", "call", "ts_ms", sqlite_where=PICTURED, postgresql_where=PICTURED),
        Index("ix_records_pictured", "ts_ms", "id", sqlite_where=PICTURED, postgresql_where=PICTURED),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    why: Mapped[list[Any]]
    camera: Mapped[str] = mapped_column(Text)
    frame_id: Mapped[int] = mapped_column(BigInteger)
    ts_ms: Mapped[int] = mapped_column(BigInteger)
    call: Mapped[str] = mapped_column(String(12))
    scores: Mapped[dict[str, Any]]
    findings: Mapped[list[Any]]
    image: Mapped[str | None] = mapped_column(String(64), index=True)
    heat: Mapped[str | None] = mapped_column(String(64))
    heat_cls: Mapped[str] = mapped_column(Text, default="")
    heat_to_frame: Mapped[list[Any]]
    px_per_mm: Mapped[float]
    width_px: Mapped[int]
    height_px: Mapped[int]
    halt: Mapped[int] = mapped_column(BigInteger, default=0)
    part: Mapped[str] = mapped_column(Text, default="")
    model: Mapped[str] = mapped_column(Text, default="")
    policy: Mapped[str] = mapped_column(Text, default="")
    label_book: Mapped[str] = mapped_column(Text, default="")
    stages_ms: Mapped[dict[str, Any]]
    received_ms: Mapped[int] = mapped_column(BigInteger)

    station: Mapped[Station] = relationship(lazy="joined")


class Label(Base):
    """One person's label of one record under one label book. A new one supersedes the old; none is deleted.

    `showing_id`: made when the frame was shown as a check (`blind.Showing`); such a label never was a current one.
    """

    __tablename__ = "labels"
    __table_args__ = (Index(None, "record_id", "person"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    record_id: Mapped[int] = mapped_column(ForeignKey("records.id"))
    person: Mapped[str] = mapped_column(String(64))
    label_book: Mapped[str] = mapped_column(String(64))
    classes: Mapped[list[Any]]
    mask: Mapped[str | None] = mapped_column(String(64))
    annotations: Mapped[list[Any]]
    unsure: Mapped[bool] = mapped_column(default=False)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    superseded_ms: Mapped[int | None] = mapped_column(BigInteger)
    showing_id: Mapped[int | None] = mapped_column(ForeignKey("showings.id"), index=True)


class LabelAssignment(Base):
    """This person is asked to label this record; `why`: uncertain, audit, halt, second look ..."""

    __tablename__ = "label_assignments"
    __table_args__ = (UniqueConstraint("record_id", "person", "why"), Index(None, "person", "done_ms"))

    id: Mapped[int] = mapped_column(primary_key=True)
    record_id: Mapped[int] = mapped_column(ForeignKey("records.id"))
    person: Mapped[str] = mapped_column(String(64))
    why: Mapped[str] = mapped_column(String(32), default="")
    created_ms: Mapped[int] = mapped_column(BigInteger)
    done_ms: Mapped[int | None] = mapped_column(BigInteger)


class Person(Base):
    """Somebody who acts. Without a `secret_hash` only a demonstration lets them in. Nobody is deleted: history names
    them."""

    __tablename__ = "people"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    secret_hash: Mapped[str | None] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    left_ms: Mapped[int | None] = mapped_column(BigInteger)
    language: Mapped[str | None] = mapped_column(String(8))
    """None: whatever the browser asks for."""
    badge: Mapped[str | None] = mapped_column(String(64), unique=True, index=True)
    """`badges.digest` of an operator's badge."""


class Bundle(Base):
    """A model bundle that was checked and put into `data_dir/bundles/<bundle>`."""

    __tablename__ = "bundles"

    id: Mapped[int] = mapped_column(primary_key=True)
    bundle: Mapped[str] = mapped_column(String(64), unique=True)
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    uploaded_by: Mapped[str] = mapped_column(String(64), default="")
    uploaded_ms: Mapped[int] = mapped_column(BigInteger)


class Rollout(Base):
    """Somebody wants a bundle on a station, and what the edge made of it."""

    __tablename__ = "rollouts"

    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"), index=True)
    bundle_id: Mapped[int] = mapped_column(ForeignKey("bundles.id"))
    wanted_by: Mapped[str] = mapped_column(String(64))
    wanted_ms: Mapped[int] = mapped_column(BigInteger)
    rollback: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(String(16), default="wanted")
    why: Mapped[str] = mapped_column(Text, default="")
    state_ms: Mapped[int] = mapped_column(BigInteger)

    station: Mapped[Station] = relationship(lazy="joined")
    bundle: Mapped[Bundle] = relationship(lazy="joined")


ROLES = ("operator", "inspector", "engineer", "admin")
