"""Badges of operators, and how many wrong ones were read where."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.batch_alter_table("people") as people:
        people.add_column(sa.Column("badge", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_people_badge"), "people", ["badge"], unique=True)
    tries = op.create_table(
        "badge_tries",
        sa.Column("origin", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_badge_tries")),
    )
    op.bulk_insert(tries, [{"origin": "hub", "failures": 0, "from_ms": 0, "until_ms": 0}])
