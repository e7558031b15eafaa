"""How a database finds its rows: the plan of each statement that is run, as the database itself explains it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text

from projections.store import Store


@contextmanager
def plans_of(store: Store) -> Iterator[list[str]]:
    """The plans of what is read and deleted within the block, one a statement."""
    plans: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "DELETE")) and "meta" not in statement:
            explain = "explain query plan" if connection.dialect.name == "sqlite" else "explain"
            cursor.execute(f"{explain} {statement}", parameters)
            plans.append(" | ".join(str(row[-1]) for row in cursor.fetchall()))

    event.listen(store.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield plans
    finally:
        event.remove(store.engine.sync_engine, "before_cursor_execute", note)


def scans(plans: Sequence[str]) -> list[str]:
    """Those that go through all rows of calls or revisions, or of an index of theirs."""
    return [plan for plan in plans if re.search(r"(SCAN|Seq Scan on) (calls|revisions)\b", plan)]


async def analyzed(store: Store) -> None:
    """As the databases do by themselves now and then; PostgreSQL's plans rest on it."""
    async with store.writing() as connection:
        await connection.execute(text("analyze"))
