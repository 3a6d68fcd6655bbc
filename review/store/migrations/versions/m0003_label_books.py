"""Label books: versions, the frames that explain their rules, adjudications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "label_books",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=48), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("task", sa.String(length=48), nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.Column("author", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("published_by", sa.String(length=64), nullable=False),
        sa.Column("published_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_books")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_label_books_name_version")),
    )
    op.create_table(
        "label_book_frames",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("book_id", sa.Integer(), nullable=False),
        sa.Column("cls", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("added_by", sa.String(length=64), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["book_id"], ["label_books.id"], name=op.f("fk_label_book_frames_book_id_label_books")),
        sa.ForeignKeyConstraint(["record_id"], ["records.id"], name=op.f("fk_label_book_frames_record_id_records")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_book_frames")),
        sa.UniqueConstraint("book_id", "cls", "record_id", name=op.f("uq_label_book_frames_book_id_cls_record_id")),
    )
    _adjudications()


def _adjudications() -> None:
    op.create_table(
        "adjudications",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("label_book", sa.String(length=64), nullable=False),
        sa.Column("took", sa.String(length=64), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("mask", sa.String(length=64), nullable=True),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("superseded_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["record_id"], ["records.id"], name=op.f("fk_adjudications_record_id_records")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjudications")),
    )
    op.create_index(
        op.f("ix_adjudications_record_id_superseded_ms"), "adjudications", ["record_id", "superseded_ms"], unique=False
    )
