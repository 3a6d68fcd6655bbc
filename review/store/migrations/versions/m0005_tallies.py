"""What edges counted: the parts and frames that passed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.Column("frames_passed", sa.BigInteger(), nullable=False),
        sa.Column("parts_passed", sa.BigInteger(), nullable=False),
        sa.Column("parts_uncertain", sa.BigInteger(), nullable=False),
        sa.Column("parts_defect", sa.BigInteger(), nullable=False),
        sa.Column("parts_fault", sa.BigInteger(), nullable=False),
        sa.Column("audited", sa.JSON(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["station_id"], ["stations.id"], name=op.f("fk_tallies_station_id_stations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tallies")),
        sa.UniqueConstraint("uid", name=op.f("uq_tallies_uid")),
    )
    op.create_index(op.f("ix_tallies_from_ms"), "tallies", ["from_ms"], unique=False)
