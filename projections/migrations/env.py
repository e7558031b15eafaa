"""Alembic runs this: the connection is the store's own, and all migrations are one transaction."""

from alembic import context

from projections.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
