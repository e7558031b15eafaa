"""Databases for the benches."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine


@asynccontextmanager
async def database(server: str) -> AsyncIterator[URL]:
    """An empty database on a PostgreSQL, for the length of the block."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    engine = create_async_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"create database {name}"))
    try:
        yield make_url(f"{server}/{name}")
    finally:
        async with engine.connect() as connection:
            await connection.execute(text(f"drop database {name} with (force)"))
        await engine.dispose()
