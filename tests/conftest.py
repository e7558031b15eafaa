"""Fixtures: a real broker and a real database per session; topics and a database of its own per test."""

import gc
import os
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from deploy.local.brokers import AnyBroker, running
from events.kafka import KafkaSettings, ensure_topics
from projections.store import Store, open_store
from tests import postgres
from tests.system import System, noon_zone

TEST_PARTITIONS = 4
SITES = tuple(f"site-{number}" for number in range(30))
TARGETS = "missed<=2, calls>=1"
_free_sites = iter(SITES)

# How long an example takes tells of the machine's load, not of the code.
hypothesis.settings.register_profile("without a deadline", deadline=None)
hypothesis.settings.load_profile("without a deadline")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a failure without collecting garbage meanwhile.

    A traceback is made with `ast.parse`; a task's finalizer that prints its own in the middle of it ends Python 3.11
    with "AST constructor recursion depth mismatch" (python/cpython#106905), and pytest with it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def bootstrap_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the broker is: the given one, else a local one for this session."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    with running(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap_servers


@pytest.fixture
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyBroker]:
    """A broker of the test's own, to be killed and started again."""
    with running(tmp_path_factory.mktemp("own-kafka")) as broker:
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def kafka(bootstrap_servers: str, topic_prefix: str) -> KafkaSettings:
    """Settings for the broker, with a fresh set of topics created."""
    settings = KafkaSettings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_topic_partitions=TEST_PARTITIONS,
    )
    await ensure_topics(settings)
    return settings


@pytest.fixture
async def system(kafka: KafkaSettings, tmp_path: Path) -> AsyncIterator[System]:
    """Everything, ready, to be killed and started again."""
    async with System(kafka, tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_system(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Everything, ready, for all tests that leave it running; each posts to a PBX of its own (`site`)."""
    settings = KafkaSettings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_topic_prefix=f"test-{uuid.uuid4().hex[:12]}",
        kafka_topic_partitions=TEST_PARTITIONS,
    )
    await ensure_topics(settings)
    folder = tmp_path_factory.mktemp("shared")
    config = folder / "pbxs.toml"
    zone = noon_zone(datetime.now(UTC))
    config.write_text("".join(f'[pbx.{site}]\ntimezone = "{zone}"\n' for site in SITES))
    # The suite may take longer than a PBX may be quiet: one whose test comes late has sent nothing yet.
    patient = {"PROJECTIONS_FEED_QUIET_S": "86400"}
    async with System(settings, folder, PBX_CONFIG=str(config), PROJECTIONS_TARGETS=TARGETS, **patient) as running:
        yield running


@pytest.fixture
def site() -> str:
    """A PBX of the shared system that no other test posts to."""
    return next(_free_sites)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL, without a database, of the session's PostgreSQL."""
    with postgres.server() as url:
        yield url


@pytest.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """URL of a fresh database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    engine = create_async_engine(f"{postgres_server}/postgres", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f'create database "{name}"'))
    yield f"{postgres_server}/{name}"
    async with engine.connect() as connection:
        await connection.execute(text(f'drop database "{name}" with (force)'))
    await engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/views.sqlite"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """An empty store, once on each database."""
    opened = await open_store(make_url(database_url), "sessions")
    yield opened
    await opened.close()
