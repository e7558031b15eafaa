"""Schema 7: calls of a status are found newest first by an index: SQLite looked through the whole log for open ones."""

from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    """Give the index the order of the pages."""
    op.drop_index("calls_open", "calls")
    op.create_index("calls_open", "calls", ["status", "first_received_at", "session_id"])
