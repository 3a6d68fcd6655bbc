"""Alembic's entry: runs on the connection `Store.migrate` hands over; there is no alembic.ini to find."""

from alembic import context

from review.store.models import Base

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations run from the hub itself: haltline review serve")
# Batch mode: SQLite alters a table by copying it.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
