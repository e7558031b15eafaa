"""Schema 6: calls of a number, of a PBX and of a span of time are found by an index at any size of the log."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Add the keys that numbers are searched by, and the indexes."""
    for party in ("caller", "callee"):
        op.add_column("calls", sa.Column(f"{party}_key", sa.String(8), nullable=False, server_default=""))
        op.execute(
            f"update calls set {party}_key ="  # noqa: S608 - constants
            f" case when length({party}_digits) > 7 then substr({party}_digits, length({party}_digits) - 6)"
            f" else {party}_digits end"
        )
        op.create_index(f"calls_of_{party}_newest_first", "calls", [f"{party}_key", "first_received_at", "session_id"])
    op.create_index("calls_of_pbx_newest_first", "calls", ["pbx", "first_received_at", "session_id"])
    op.create_index("calls_began", "calls", ["began_at"])
