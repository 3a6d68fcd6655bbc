"""Alembic's entry: runs on the connection `Store.migrate` hands over; there is no alembic.ini to find."""

from alembic import context

from review.store.models import Base

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations run from the hub itself: haltline review serve")
# Batch mode: SQLite alters a table by copying it. Transactional: Alembic takes SQLite for a database that commits each
# change of the schema by itself; `Store.migrate` has begun the one transaction that holds all of them.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
