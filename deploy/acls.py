"""Who may do what on the broker: one principal per service, the least that it works with; all else is denied.

``python -m deploy.acls`` prints the commands of Kafka's own tool that grant it; ``--help`` lists its options.
The Kubernetes overlay holds the same as KafkaUsers, and a test keeps them equal. READ and WRITE imply DESCRIBE.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from events import topics
from events.topics import TopicSet
from ingest.polling.settings import PollSettings
from processors.settings import ProcessorsSettings
from projections.settings import ProjectionsSettings

INGEST, PROCESSORS, PROJECTIONS = "callstream-ingest", "callstream-processors", "callstream-projections"
POLLER: Final = "callstream-poller"
CONSUMER: Final = "callstream-consumer"
OPERATOR: Final = "callstream-operator"
"""A person who sends dead letters again: no service may do that."""

Operation = Literal["Read", "Write", "Describe"]


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations on one resource; `pattern` says whether `name` is the whole name or its beginning."""

    resource: Literal["topic", "group", "transactionalId"]
    name: str
    operations: frozenset[Operation]
    pattern: Literal["literal", "prefix"] = "literal"


def grants(topic_set: TopicSet, consumers: Sequence[str] = (CONSUMER,)) -> Mapping[str, tuple[Grant, ...]]:
    """Principal to its grants. Topics are created beforehand, by whoever administrates the broker: no service may.

    A set with another one's webhooks is a replayed one: its processors and projections have groups of their own, and
    ingest and poller go on with the other set. Of the poller and what it writes only where polling is switched on.
    """
    worked_out = _worked_out(topic_set, consumers)
    return worked_out if topic_set.webhooks_prefix is not None else _fed(topic_set) | worked_out


def _fed(topic_set: TopicSet) -> dict[str, tuple[Grant, ...]]:
    """Who writes the webhooks."""
    poller = PollSettings.model_fields["polling_application"].default
    return {
        INGEST: (*_on_topics(_names(topic_set), write={topic_set.webhooks, topic_set.dead_letters}),),
        POLLER: (
            *_on_topics([topic_set.polled_calls], read={topic_set.polled_calls}, write={topic_set.polled_calls}),
            *_on_topics([topic_set.webhooks], write={topic_set.webhooks}),  # as a witness
            Grant("group", poller, frozenset({"Read"})),
            Grant("transactionalId", f"{poller}-", frozenset({"Write", "Describe"}), "prefix"),
        ),
    }


def _worked_out(topic_set: TopicSet, consumers: Sequence[str]) -> dict[str, tuple[Grant, ...]]:
    """Who works the webhooks out, and who reads what came of them; `processors replay` does it as the processors."""
    own = f"-{topic_set.prefix}" if topic_set.webhooks_prefix is not None else ""
    processors = ProcessorsSettings.model_fields["processors_application"].default + own
    projections = ProjectionsSettings.model_fields["projections_application"].default + own
    return {
        PROCESSORS: (
            *_on_topics(
                _names(topic_set),
                # At the end of the other two a takeover looks for a transaction that the broker tore.
                read={topic_set.webhooks, topic_set.changelog, topic_set.call_sessions, topic_set.dead_letters},
                write={topic_set.call_sessions, topic_set.changelog, topic_set.dead_letters},
            ),
            Grant("group", processors, frozenset({"Read"})),
            Grant("transactionalId", f"{processors}-", frozenset({"Write", "Describe"}), "prefix"),
        ),
        PROJECTIONS: (
            *_on_topics(_names(topic_set), read={topic_set.call_sessions, topic_set.webhooks}),
            *_on_topics([topic_set.polled_calls], read={topic_set.polled_calls}),  # the comparison
            Grant("group", projections, frozenset({"Read"})),
        ),
        OPERATOR: (
            *_on_topics([topic_set.dead_letters], read={topic_set.dead_letters}),
            *_on_topics([topic_set.webhooks], write={topic_set.webhooks}),
        ),
        **{
            consumer: (
                Grant("topic", topic_set.call_sessions, frozenset({"Read", "Describe"})),
                Grant("group", f"{consumer}-", frozenset({"Read"}), "prefix"),
            )
            for consumer in consumers
        },
    }


def _names(topic_set: TopicSet) -> list[str]:
    return [topic_set.name(topic) for topic in topics.ALL]


def _on_topics(
    names: Sequence[str], read: frozenset[str] | set[str] = frozenset(), write: frozenset[str] | set[str] = frozenset()
) -> Iterator[Grant]:
    """Each service looks at every topic of the set when it starts: a wrong partition count is told at once."""
    for name in names:
        operations: set[Operation] = {"Describe"}
        operations |= {"Read"} if name in read else set()
        operations |= {"Write"} if name in write else set()
        yield Grant("topic", name, frozenset(operations))


def commands(topic_set: TopicSet, server: str, consumers: Sequence[str]) -> Iterator[str]:
    """The lines for a shell."""
    for principal, granted in grants(topic_set, consumers).items():
        for one in granted:
            words = ["kafka-acls.sh", "--bootstrap-server", server, "--command-config", "admin.properties", "--add"]
            words += ["--allow-principal", f"User:{principal}"]
            words += [word for operation in sorted(one.operations) for word in ("--operation", operation)]
            resource = "transactional-id" if one.resource == "transactionalId" else one.resource
            words += [f"--{resource}", one.name]
            words += ["--resource-pattern-type", "prefixed"] if one.pattern == "prefix" else []
            yield shlex.join(words)


def main(arguments: Sequence[str]) -> None:
    """Print the commands."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.acls", description="Print the commands that grant the ACLs."
    )
    parser.add_argument("--bootstrap-server", default="localhost:9092", metavar="HOST:PORT")
    parser.add_argument("--topic-prefix", default="threecx", metavar="PREFIX")
    parser.add_argument(
        "--webhooks-prefix", metavar="PREFIX", help="of the set whose webhooks are replayed into that of --topic-prefix"
    )
    parser.add_argument("--consumer", action="append", metavar="NAME", help="a principal that reads call sessions")
    options = parser.parse_args(arguments)
    topic_set = TopicSet(options.topic_prefix, options.webhooks_prefix)
    for line in commands(topic_set, options.bootstrap_server, options.consumer or [CONSUMER]):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
