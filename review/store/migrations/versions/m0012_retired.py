"""Stations that are gone for good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("stations", sa.Column("retired_ms", sa.BigInteger(), nullable=True))
