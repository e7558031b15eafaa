"""The views' tables, the same on PostgreSQL and SQLite: as they are now; how they came to be: migrations."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.sql.elements import quoted_name

metadata = MetaData()


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases: SQLite has no zones, so it stores UTC and gets it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        del dialect
        if value is None:
            return None
        at: datetime = value
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


calls = Table(
    "calls",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("pbx", String(64), nullable=False),
    Column("extension", Text),
    Column("email", Text),
    Column("direction", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("first_received_at", UtcTime, nullable=False),
    Column("began_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    Column("duration_s", BigInteger),
    Column("day", String(10), nullable=False),
    Column("linked_session_id", String(64)),
    Column("caller_digits", Text, nullable=False),
    Column("callee_digits", Text, nullable=False),
    # The last seven digits, which all spellings of a number share: what a number is searched by.
    Column("caller_key", String(8), nullable=False, server_default=""),
    Column("callee_key", String(8), nullable=False, server_default=""),
    Column("partition", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Index("calls_newest_first", "first_received_at", "session_id"),
    Index("calls_of_pbx_newest_first", "pbx", "first_received_at", "session_id"),
    Index("calls_of_caller_newest_first", "caller_key", "first_received_at", "session_id"),
    Index("calls_of_callee_newest_first", "callee_key", "first_received_at", "session_id"),
    Index("calls_began", "began_at"),
    # The open calls of a PBX, and of some of its agents: the many that ended are not looked at.
    Index("calls_of_agent", "pbx", "status", "extension"),
    Index("calls_of_agent_newest_first", "pbx", "extension", "first_received_at", "session_id"),
    Index("calls_closed", "pbx", "extension", "closed_at"),
    # Everything that a day's figures are counted from: the rows themselves are not read.
    Index("calls_of_day", "pbx", "day", "extension", "direction", "outcome", "status", "duration_s"),
    Index("calls_linked", "linked_session_id"),
    Index("calls_open", "status", "first_received_at", "session_id"),
)
revisions = Table(
    "revisions",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("known_at", UtcTime, nullable=False),
    Column("event", Text, nullable=False),
    Index("revisions_known", "known_at", "session_id"),
)
agents = Table(
    "agents",
    metadata,
    Column("pbx", String(64), primary_key=True),
    Column("extension", String(256), primary_key=True),
    Column("email", Text),
    Column("email_at", UtcTime),
    Column("email_call", String(64)),
    Column("last_at", UtcTime, nullable=False),
    Column("last_call", String(64), nullable=False),
    Column("partition", Integer, nullable=False),
)
offsets = Table(
    "offsets",
    metadata,
    Column("topic", String(255), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("stream_time", UtcTime),
)
forgotten = Table(
    "forgotten",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("salt", String(32), nullable=False),
    Column("digits", Integer, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("forgotten_at", UtcTime, nullable=False),
)
meta = Table(
    "meta",
    metadata,
    # 3 for good: Alembic's table knows the schema; a release from before migrations looks here and refuses.
    Column("schema_version", Integer, primary_key=True),
    # Grows whenever rows change for another reason than a session event.
    Column("generation", BigInteger, nullable=False, server_default="0"),
)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the views: what is folded from the topic, with the offsets up to which it is."""

    calls: Table
    revisions: Table
    agents: Table
    offsets: Table

    def __iter__(self) -> Iterator[Table]:
        """Its tables, in the order in which readers touch them: who locks all of them does it in this order."""
        yield from (self.offsets, self.calls, self.revisions, self.agents)


LIVE: Final = Version(calls, revisions, agents, offsets)
MARK: Final = "__"
"""Between an index's name and what tells it from the same index of another version."""


def beside(prefix: str) -> Version:
    """Tables like the live ones, called ``{prefix}_calls`` and so on; an index's name differs on each call."""
    mark, found = secrets.token_hex(3), MetaData()
    copies = {table.name: table.to_metadata(found, name=f"{prefix}_{table.name}") for table in LIVE}
    for copy in copies.values():
        for index in copy.indexes:
            index.name = quoted_name(f"{index.name}{MARK}{mark}", quote=None)
    return Version(*(copies[table.name] for table in (calls, revisions, agents, offsets)))
