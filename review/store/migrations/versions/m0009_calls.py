"""The frames with a picture by what they were called: audits of passed parts are found without reading the rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

PICTURED = sa.text("image IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_records_pictured_call", "records", ["call", "ts_ms"], sqlite_where=PICTURED, postgresql_where=PICTURED
    )
