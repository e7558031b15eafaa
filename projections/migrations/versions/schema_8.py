"""Schema 8: the open calls of a PBX are found by an index: SQLite looked through one of all that it ever had."""

from alembic import op

revision = "8"
down_revision = "7"


def upgrade() -> None:
    """Give the index the order in which its columns are asked for."""
    op.drop_index("calls_of_agent", "calls")
    op.create_index("calls_of_agent", "calls", ["pbx", "status", "extension"])
