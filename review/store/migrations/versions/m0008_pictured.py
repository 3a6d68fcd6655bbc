"""The frames people can label, by time: a queue's first ones are found without reading all records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

PICTURED = sa.text("image IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_records_pictured", "records", ["ts_ms", "id"], sqlite_where=PICTURED, postgresql_where=PICTURED)
