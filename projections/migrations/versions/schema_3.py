"""Schema 3: a day is counted from an index alone; revisions know when they were known; views have a generation.

`revisions.known_at` of rows that are there already is their event's own time, the best that can be said of them; a
rebuild gives the exact one. `meta.schema_version` becomes 3 for good, so that releases before migrations refuse.
"""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"

TIME = sa.DateTime(timezone=True)
# As SQLAlchemy writes a time into SQLite: a blank for the T, no zone, six digits of a second.
SQLITE_TIME = """
    substr(replace(rtrim(json_extract(event, '$.time'), 'Z'), 'T', ' ')
      || case when instr(json_extract(event, '$.time'), '.') = 0 then '.' else '' end || '000000', 1, 26)
"""
POSTGRESQL_TIME = "(event::json ->> 'time')::timestamptz"


def upgrade() -> None:
    """Change schema 2 into schema 3; no row is lost."""
    op.drop_index("calls_of_day", "calls")
    counted = ["pbx", "day", "extension", "direction", "outcome", "status", "duration_s"]
    op.create_index("calls_of_day", "calls", counted)
    # SQLite cannot make a column NOT NULL afterwards: the table is written anew, on both databases the same way.
    op.rename_table("revisions", "revisions_2")
    op.create_table(
        "revisions",
        sa.Column("session_id", sa.String(64), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("known_at", TIME, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
    )
    known_at = SQLITE_TIME if op.get_bind().dialect.name == "sqlite" else POSTGRESQL_TIME
    columns = "session_id, revision, known_at, event"
    op.execute(f"insert into revisions ({columns}) select session_id, revision, {known_at}, event from revisions_2")  # noqa: S608 - constants
    op.drop_table("revisions_2")
    op.add_column("meta", sa.Column("generation", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("update meta set schema_version = 3")
