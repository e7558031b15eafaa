"""Schema 4: the calls that changed since a time, and an agent's calls newest first, are found by an index."""

from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("revisions_known", "revisions", ["known_at", "session_id"])
    newest_first = ["pbx", "extension", "first_received_at", "session_id"]
    op.create_index("calls_of_agent_newest_first", "calls", newest_first)
