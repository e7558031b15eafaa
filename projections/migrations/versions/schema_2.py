"""Schema 2: the views as the first release with `linked_session_id` had them. Old databases are stamped with it.

What stands here describes the past and never changes; projections/tables.py says what is now.
"""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make every table of schema 2."""
    op.create_table("meta", sa.Column("schema_version", sa.Integer, primary_key=True))
    op.execute("insert into meta (schema_version) values (2)")
    _calls()
    op.create_table(
        "revisions",
        sa.Column("session_id", sa.String(64), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("event", sa.Text, nullable=False),
    )
    op.create_table(
        "agents",
        sa.Column("pbx", sa.String(64), primary_key=True),
        sa.Column("extension", sa.String(256), primary_key=True),
        sa.Column("email", sa.Text),
        sa.Column("email_at", TIME),
        sa.Column("email_call", sa.String(64)),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("last_call", sa.String(64), nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
    )
    op.create_table(
        "offsets",
        sa.Column("topic", sa.String(255), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("stream_time", TIME),
    )


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("session_id", sa.String(64), primary_key=True),
        sa.Column("pbx", sa.String(64), nullable=False),
        sa.Column("extension", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("first_received_at", TIME, nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("closed_at", TIME),
        sa.Column("duration_s", sa.BigInteger),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("linked_session_id", sa.String(64)),
        sa.Column("caller_digits", sa.Text, nullable=False),
        sa.Column("callee_digits", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("calls_newest_first", "calls", ["first_received_at", "session_id"])
    op.create_index("calls_of_agent", "calls", ["pbx", "extension", "status"])
    op.create_index("calls_closed", "calls", ["pbx", "extension", "closed_at"])
    op.create_index("calls_of_day", "calls", ["pbx", "extension", "day"])
    op.create_index("calls_linked", "calls", ["linked_session_id"])
    op.create_index("calls_open", "calls", ["status", "first_received_at"])
