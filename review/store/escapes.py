"""What edges counted: the parts and frames that passed, of which audits are a sample."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from review.store.models import Base


class TallyRow(Base):
    """What one station passed from `from_ms` to `to_ms` (`messages.Tally`). `audited`: parts drawn and kept whole."""

    __tablename__ = "tallies"
    __table_args__ = (Index(None, "from_ms"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    station_id: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    from_ms: Mapped[int] = mapped_column(BigInteger)
    to_ms: Mapped[int] = mapped_column(BigInteger)
    frames_passed: Mapped[int] = mapped_column(BigInteger)
    parts_passed: Mapped[int] = mapped_column(BigInteger)
    parts_uncertain: Mapped[int] = mapped_column(BigInteger)
    parts_defect: Mapped[int] = mapped_column(BigInteger)
    parts_fault: Mapped[int] = mapped_column(BigInteger)
    audited: Mapped[list[Any]]
    received_ms: Mapped[int] = mapped_column(BigInteger)
