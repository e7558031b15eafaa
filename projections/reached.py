"""Whether a database that cannot be used is away, which time cures, or set wrongly, which no time does. Pure.

Away: nobody listens, or the name is not known yet; it starts, stops or recovers; it has no connection, memory or disk
left; it is a standby for now. Wrong: user, password, database, rights, TLS, schema. Sources: PostgreSQL's appendix
"Error Codes", SQLite's "Result Codes".
"""

import sqlite3
import ssl
from typing import Final

from sqlalchemy.exc import DBAPIError

AWAY_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
"""Connections, rolled back for another, resources, an operator's intervention (start and stop), the system's errors."""
AWAY_STATES: Final = frozenset({"25006"})
"""Read only: a standby, which may be about to take over."""
AWAY_IN_SQLITE: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED}
)
PRIMARY_CODE: Final = 0xFF
NO_TLS: Final = "rejected SSL upgrade"
"""asyncpg's words for a server that has no TLS where the URL wants it; nothing else tells it from a lost connection."""


def is_away(error: Exception) -> bool:
    """Whether it is worth while to try again."""
    if isinstance(error, OSError):
        return not isinstance(error, PermissionError | ssl.SSLCertVerificationError) and NO_TLS not in str(error)
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in AWAY_CLASSES or state in AWAY_STATES
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & PRIMARY_CODE in AWAY_IN_SQLITE
    return error.connection_invalidated


def reason_of(error: Exception) -> str:
    """In one line; of a database's error its own words, without the statement."""
    words = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return words.splitlines()[0] if words else type(error).__name__
