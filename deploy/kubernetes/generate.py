"""``python -m deploy.kubernetes.generate``: write the files that repeat what is decided elsewhere; a test compares.

Topics from `events.topics`, users from `deploy.acls`, the PrometheusRule from deploy/prometheus/alerts.yaml.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.acls import grants
from events import topics
from events.kafka import KafkaSettings, topic_configs
from events.topics import TopicSet

DEPLOY: Final = Path(__file__).parent.parent
COMPONENTS: Final = Path(__file__).parent / "components"
TOPIC_SET: Final = TopicSet("threecx")
CLUSTER: Final = {"strimzi.io/cluster": "callstream"}
REPLICAS: Final = 3

Object = dict[str, Any]


def kafka_topics() -> Iterator[Object]:
    """Every topic of the set, as the services would create it, but with three copies."""
    for topic in (*topics.ALL, topics.POLLED_CALLS):
        name = TOPIC_SET.name(topic)
        spec = {
            "partitions": KafkaSettings.model_fields["kafka_topic_partitions"].default,
            "replicas": REPLICAS,
            "config": topic_configs(topic, REPLICAS),
        }
        yield _object("kafka.strimzi.io/v1", "KafkaTopic", name, spec, namespace="kafka", labels=CLUSTER)


def kafka_users() -> Iterator[Object]:
    """Every principal with its grants."""
    for principal, granted in grants(TOPIC_SET).items():
        acls = []
        for one in granted:
            resource: Object = {"type": one.resource, "name": one.name, "patternType": one.pattern}
            acls.append({"resource": resource, "operations": sorted(one.operations)})
        spec = {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": acls},
        }
        yield _object("kafka.strimzi.io/v1", "KafkaUser", principal, spec, namespace="kafka", labels=CLUSTER)


def prometheus_rules() -> Iterator[Object]:
    """The alerts, in the operator's wrapping."""
    spec = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8"))
    yield _object("monitoring.coreos.com/v1", "PrometheusRule", "callstream", spec, namespace="callstream")


def _object(
    version: str, kind: str, name: str, spec: Object, namespace: str | None = None, labels: Object | None = None
) -> Object:
    metadata: Object = {"name": name}
    metadata |= {"namespace": namespace} if namespace else {}
    metadata |= {"labels": dict(labels)} if labels else {}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def files() -> dict[Path, str]:
    """Each file and its text."""
    made = {
        "strimzi/topics.yaml": kafka_topics(),
        "strimzi/users.yaml": kafka_users(),
        "monitoring/prometheus-rule.yaml": prometheus_rules(),
    }
    head = "# Generated: python -m deploy.kubernetes.generate\n"
    return {
        COMPONENTS / name: head + yaml.safe_dump_all(objects, sort_keys=False, width=120, allow_unicode=True)
        for name, objects in made.items()
    }


def main() -> None:
    """Write them."""
    for path, text in files().items():
        path.write_text(text, "utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
