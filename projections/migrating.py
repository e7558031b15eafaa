"""The tables brought to this release's schema at start: in one transaction, one process after the other.

1. take the lock (PostgreSQL: an advisory one; SQLite: the transaction has begun IMMEDIATE already); 2. look at what
is there; 3. stamp tables of schema 2, which knew no migrations; 4. run what is missing. A second process that starts at
the same time waits at 1 and finds at 2 that nothing is missing.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select, text

from projections import versions
from projections.tables import LIVE, MARK

FOLDER: Final = Path(__file__).parent / "migrations"
ADVISORY_LOCK: Final = 0x63616C6C
ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII"})
"""The second one takes any bytes as they are."""
BEFORE_MIGRATIONS: Final = "2"
"""The one schema without Alembic's table that can be upgraded."""


class UnknownSchemaError(Exception):
    """The tables are of a release that this one cannot read; the message says what to do."""


class EncodingError(Exception):
    """The database cannot hold every name; the message says what to do."""


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest schema, within the caller's transaction.

    Raises UnknownSchemaError or EncodingError when this database cannot be used.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        _refuse_an_encoding_of_some_scripts(connection)
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head()
    there = MigrationContext.configure(connection).get_current_revision() or _before_migrations(connection)
    if there == newest:
        return
    known = [one.revision for one in script.walk_revisions()]
    if there is not None and there not in known:
        message = f"the views have schema {there}, newer than this release, which knows up to {newest}"
        raise UnknownSchemaError(f"{message}; start the newer release, or name another database")
    _drop_other_versions(connection)
    if there == BEFORE_MIGRATIONS:
        command.stamp(config, BEFORE_MIGRATIONS)
    command.upgrade(config, "head")


def _refuse_an_encoding_of_some_scripts(connection: Connection) -> None:
    """One name in another script would be refused with its whole batch, for ever."""
    encoding = connection.execute(text("show server_encoding")).scalar_one()
    if encoding not in ENCODINGS:
        message = f"its encoding is {encoding}, and names come in any script; make it with ENCODING 'UTF8'"
        raise EncodingError(message)


def _before_migrations(connection: Connection) -> str | None:
    """The schema of tables that were made before there were migrations; null: there are no tables."""
    if not inspect(connection).has_table("meta"):
        return None
    found = connection.execute(text("select schema_version from meta")).scalar()
    if str(found) != BEFORE_MIGRATIONS:
        message = f"the views have schema {found}, which no migration leads on from"
        raise UnknownSchemaError(f"{message}; use an empty database: the views are rebuilt from the topic")
    return BEFORE_MIGRATIONS


def _drop_other_versions(connection: Connection) -> None:
    """A migration is of the live tables alone, and finds their indexes under their plain names."""
    versions.drop(connection, versions.NEW, versions.OLD, versions.GONE)
    inspector = inspect(connection)
    for table in (table.name for table in LIVE if inspector.has_table(table.name)):
        for index in inspector.get_indexes(table):
            name, mark, _ = (index["name"] or "").partition(MARK)
            if mark:
                connection.execute(text(f"drop index {index['name']}"))
                connection.execute(
                    text(f"create index {name} on {table} ({', '.join(map(str, index['column_names']))})")
                )
