"""Alembic's entry: runs migrations on the engine that ``tidemill.store.migrate`` hands over."""

from alembic import context
from sqlalchemy import Engine

from tidemill.store.schema import metadata

engine = context.config.attributes["engine"]
assert isinstance(engine, Engine)

with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()
