"""``python -m tests.containers.database``: the tests' PostgreSQL from the image, by testcontainers, and used.

Needs a running container engine that has postgres:17 (or the stand-in of tests/containers/stand-ins).
"""

import asyncio

from sqlalchemy.engine import make_url

from events.topics import TopicSet
from projections.store import open_store
from tests import postgres


async def _use(url: str) -> int:
    """The partitions that a new database of views knows of."""
    store = await open_store(make_url(url), TopicSet("threecx").call_sessions)
    try:
        return len(await store.positions())
    finally:
        await store.close()


def main() -> None:
    """Fails loudly when the container does not start, or the views' tables cannot be made in it."""
    with postgres._container() as url:
        found = asyncio.run(_use(f"{url}/test"))
    if found:
        raise RuntimeError(f"a new database knows {found} partitions")
    print("postgres:17 started by testcontainers, and the views' tables were made in it")


if __name__ == "__main__":
    main()
