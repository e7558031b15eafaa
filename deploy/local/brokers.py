"""Which broker: a child process where Java and Maven are, else the public image where a container engine is."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from deploy.local.broker import Broker, Say, java_is_there, say_on_stderr
from deploy.local.container_broker import ContainerBroker, engine_is_there
from events.settings import ConfigurationError

AnyBroker = Broker | ContainerBroker


def broker_in(folder: Path, say: Say = say_on_stderr) -> AnyBroker:
    """The broker for this machine, with its data in `folder`; raises ConfigurationError with what to install."""
    if java_is_there():
        return Broker(folder, say)
    if engine_is_there():
        return ContainerBroker(folder, say)
    message = (
        "Java 17 or later with Maven is needed, or a container engine; install one of them"
        " (Debian: apt-get install openjdk-17-jre-headless maven), or set KAFKA_BOOTSTRAP_SERVERS"
    )
    raise ConfigurationError(message)


@contextlib.contextmanager
def running(folder: Path, say: Say = say_on_stderr) -> Iterator[AnyBroker]:
    """A broker for the length of a `with` block."""
    broker = broker_in(folder, say)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
