"""Blind checks: repeats, gold frames, what the model makes of labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "showings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("flip", sa.String(length=2), nullable=False),
        sa.Column("place_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("done_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["record_id"], ["records.id"], name=op.f("fk_showings_record_id_records")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_showings")),
        sa.UniqueConstraint("uid", name=op.f("uq_showings_uid")),
    )
    op.create_index(op.f("ix_showings_person_done_ms"), "showings", ["person", "done_ms"], unique=False)
    op.create_index(op.f("ix_showings_record_id"), "showings", ["record_id"], unique=False)
    _gold_choices()
    _suspects()
    with op.batch_alter_table("labels") as labels:
        labels.add_column(sa.Column("showing_id", sa.Integer(), nullable=True))
        labels.create_foreign_key(op.f("fk_labels_showing_id_showings"), "showings", ["showing_id"], ["id"])
    op.create_index(op.f("ix_labels_showing_id"), "labels", ["showing_id"], unique=False)


def _gold_choices() -> None:
    op.create_table(
        "gold_choices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column("use", sa.Boolean(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["record_id"], ["records.id"], name=op.f("fk_gold_choices_record_id_records")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gold_choices")),
    )
    op.create_index(op.f("ix_gold_choices_record_id"), "gold_choices", ["record_id"], unique=False)


def _suspects() -> None:
    op.create_table(
        "suspects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column("cls", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("snapshot", sa.String(length=64), nullable=False),
        sa.Column("label_book", sa.String(length=64), nullable=False),
        sa.Column("said", sa.JSON(), nullable=False),
        sa.Column("p", sa.Double(), nullable=False),
        sa.Column("quality", sa.Double(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.String(length=12), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["record_id"], ["records.id"], name=op.f("fk_suspects_record_id_records")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suspects")),
        sa.UniqueConstraint(
            "record_id", "cls", "kind", "snapshot", name=op.f("uq_suspects_record_id_cls_kind_snapshot")
        ),
    )
    op.create_index(op.f("ix_suspects_decision_quality"), "suspects", ["decision", "quality"], unique=False)
