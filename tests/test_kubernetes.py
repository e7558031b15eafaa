"""deploy/kubernetes as Kustomize renders it: valid for the schemas of Kubernetes and of the operators, and right."""

import copy
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.kubernetes.generate import files
from events.kafka import KafkaSettings
from events.settings import Settings
from events.topics import TopicSet
from ingest.app import GRACE_S
from ingest.polling.settings import PollSettings
from ingest.settings import IngestSettings
from processors.settings import ProcessorsSettings
from projections.settings import ProjectionsSettings
from tests.kubernetes.schemas import SCHEMAS

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
SERVICES: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "processors": ProcessorsSettings,
    "projections": ProjectionsSettings,
    "poller": PollSettings,
}
LOADED = json.loads(SCHEMAS.read_text("utf-8"))
Json = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Json]:
    """The objects of an overlay, as it is applied."""
    program = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    done = subprocess.run([*program, str(FOLDER / overlay)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def every(overlay: str, kind: str) -> dict[str, Json]:
    return {one["metadata"]["name"]: one for one in rendered(overlay) if one["kind"] == kind}


def wrong(document: Json) -> list[str]:
    """What its schema says against it."""
    schema = LOADED["kinds"][f"{document['apiVersion']}/{document['kind']}"] | {"$defs": LOADED["$defs"]}
    return [
        f"{list(one.path)}: {one.message[:200]}"
        for one in jsonschema.Draft202012Validator(schema).iter_errors(document)
    ]


@pytest.mark.parametrize("overlay", ["small", "production", "production-scaled", "production-polled"])
def test_every_object_is_valid_for_its_schema(overlay: str) -> None:
    found = {f"{one['kind']} {one['metadata']['name']}": wrong(one) for one in rendered(f"overlays/{overlay}")}
    assert {name: errors for name, errors in found.items() if errors} == {}


def test_keda_scales_the_projections_by_their_own_group_and_login_and_owns_their_number() -> None:
    overlay = "overlays/production-scaled"
    (scaled,) = every(overlay, "ScaledObject").values()
    (login,) = every(overlay, "TriggerAuthentication").values()
    (trigger,) = scaled["spec"]["triggers"]
    told = trigger["metadata"]
    assert told["consumerGroup"] == ProjectionsSettings.model_fields["projections_application"].default
    assert told["topic"] == TopicSet("threecx").call_sessions
    (settings,) = [one for name, one in every(overlay, "ConfigMap").items() if "settings" in name]
    assert told["bootstrapServers"] == settings["data"]["KAFKA_BOOTSTRAP_SERVERS"]
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == "callstream-projections"
    assert scaled["spec"]["maxReplicaCount"] <= KafkaSettings.model_fields["kafka_topic_partitions"].default
    assert "replicas" not in workload(overlay, "projections")["spec"]
    assert workload("overlays/production", "projections")["spec"]["replicas"] == 1
    environment = {one["name"]: one for one in container(overlay, "projections")["env"]}
    keys = {one["parameter"]: (one["name"], one["key"]) for one in login["spec"]["secretTargetRef"]}
    password = environment["KAFKA_SECURITY_SASL_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert keys["password"] == (password["name"], password["key"])
    assert keys["ca"] == ("callstream-cluster-ca-cert", "ca.crt")
    said = (FOLDER / overlay / "kustomization.yaml").read_text("utf-8")
    made = f"generic {keys['username'][0]} --from-literal={keys['username'][1]}="
    assert made + environment["KAFKA_SECURITY_SASL_USERNAME"]["value"] in said


def test_a_misspelt_field_is_found() -> None:
    for kind, path in {
        "StatefulSet": ("spec", "template", "spec"),
        "KafkaUser": ("spec",),
        "ServiceMonitor": ("spec",),
    }.items():
        document = copy.deepcopy(next(iter(every("overlays/production", kind).values())))
        inside = document
        for name in path:
            inside = inside[name]
        inside["terminationGracePeriod"] = 1
        assert wrong(document), kind


def test_what_repeats_a_decision_is_what_was_decided() -> None:
    for path, text in files().items():
        assert path.read_text("utf-8") == text, "run: python -m deploy.kubernetes.generate"


def home(service: str) -> str:
    """The smallest overlay that has the service."""
    return "overlays/production-polled" if service == "poller" else "overlays/small"


def workload(overlay: str, service: str) -> Json:
    kind = "StatefulSet" if service == "ingest" else "Deployment"
    return every(overlay, kind)[f"callstream-{service}"]


def container(overlay: str, service: str) -> Json:
    (found,) = workload(overlay, service)["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_a_setting_of_some_service_and_no_secret_is_in_the_files(service: str) -> None:
    overlay = "overlays/production-polled"
    known = {field.upper() for settings in SERVICES.values() for field in settings.model_fields}
    mine = {field.upper() for field in SERVICES[service].model_fields}
    (settings,) = [one for name, one in every(overlay, "ConfigMap").items() if "settings" in name]
    assert set(settings["data"]) <= known
    for one in container(overlay, service)["env"]:
        assert one["name"] in mine
        assert "valueFrom" in one or not re.search("SECRET|PASSWORD|TOKEN|URL", one["name"])
    assert settings["data"]["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"


@pytest.mark.parametrize("service", SERVICES)
def test_every_pod_holds_to_the_restricted_standard(service: str) -> None:
    pod = workload(home(service), service)["spec"]["template"]["spec"]
    inside = pod["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert inside == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_restart_is_never_the_answer_to_somebody_elses_absence(service: str) -> None:
    one = container(home(service), service)
    liveness = one["livenessProbe"]["httpGet"]["path"]
    # These answer while Kafka, the database or the disk do not.
    paths = {"ingest": "/openapi.json", "processors": "/health", "projections": "/", "poller": "/health"}
    assert liveness == paths[service]
    # Nobody sends anything to the poller: it has nothing to be ready for.
    assert ("readinessProbe" in one) is (service != "poller")
    assert one.get("readinessProbe") != one["livenessProbe"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_budget_a_service_and_time_to_drain_belong_to_each(service: str) -> None:
    pods = {"app.kubernetes.io/name": f"callstream-{service}"}
    assert (
        every(home(service), "PodDisruptionBudget")[f"callstream-{service}"]["spec"]["selector"]["matchLabels"] == pods
    )
    assert every(home(service), "Service")[f"callstream-{service}"]["spec"]["selector"] == pods
    assert workload(home(service), service)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 30


def test_ingest_accepts_until_nobody_is_sent_to_it_any_more_and_is_given_the_time() -> None:
    pod = workload("overlays/small", "ingest")["spec"]["template"]["spec"]
    waited_s = container("overlays/small", "ingest")["lifecycle"]["preStop"]["sleep"]["seconds"]
    forwarding_s = IngestSettings.model_fields["ingest_shutdown_grace_s"].default
    assert waited_s >= 5
    assert waited_s + GRACE_S + forwarding_s < pod["terminationGracePeriodSeconds"] / 2


@pytest.mark.parametrize("overlay", ["overlays/small", "overlays/production"])
def test_a_rollout_of_the_processors_ends_also_with_one_for_each_partition(overlay: str) -> None:
    """The one more that comes has no partition, and is not ready, before another one goes."""
    spec = workload(overlay, "processors")["spec"]
    rolling = spec["strategy"]["rollingUpdate"]
    (settings,) = [one for name, one in every(overlay, "ConfigMap").items() if "settings" in name]
    partitions = int(settings["data"]["KAFKA_TOPIC_PARTITIONS"])

    def may_be_away(replicas: int) -> int:
        return replicas * int(rolling["maxUnavailable"].removesuffix("%")) // 100

    assert rolling["maxSurge"] == 1
    assert may_be_away(partitions) >= 1
    assert may_be_away(spec["replicas"]) == 0, "few: the next one comes before one goes"


@pytest.mark.parametrize("overlay", ["overlays/small", "overlays/production"])
def test_the_brokers_are_in_a_namespace_that_may_be_asked(overlay: str) -> None:
    """Within our own nothing but what is named may go or come: a broker there would be out of reach."""
    (settings,) = [one for name, one in every(overlay, "ConfigMap").items() if "settings" in name]
    host, port = settings["data"]["KAFKA_BOOTSTRAP_SERVERS"].split(":")
    _, namespace, service = host.split(".")
    assert (namespace, service) == ("kafka", "svc")
    _, brokers = every(overlay, "NetworkPolicy")["callstream-names-and-kafka"]["spec"]["egress"]
    assert int(port) in {one["port"] for one in brokers["ports"]}
    assert brokers["to"] == [{"namespaceSelector": {"matchLabels": {"callstream.access/kafka": "true"}}}]


def test_the_journal_is_a_volume_larger_than_its_limit_and_outlives_its_pod() -> None:
    spec = workload("overlays/small", "ingest")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "4Gi"
    assert IngestSettings.model_fields["ingest_journal_bytes_max"].default <= 2 * 1024**3
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    mounted = container("overlays/small", "ingest")["volumeMounts"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in mounted


def test_nothing_comes_or_goes_but_by_name() -> None:
    policies = every("overlays/small", "NetworkPolicy")
    nothing = policies["callstream-nothing"]["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies.values():
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            assert rule.get("from") or rule.get("to")
            assert rule["ports"]


def test_the_pollers_file_is_a_folder_that_follows_its_secret_and_only_the_pbxs_may_be_asked() -> None:
    overlay = "overlays/production-polled"
    inside = container(overlay, "poller")
    file = Path({one["name"]: one.get("value") for one in inside["env"]}["POLLING_CONFIG"])
    (mounted,) = [one for one in inside["volumeMounts"] if one["mountPath"] == str(file.parent)]
    assert "subPath" not in mounted  # would never change
    (volume,) = [
        one
        for one in workload(overlay, "poller")["spec"]["template"]["spec"]["volumes"]
        if one["name"] == mounted["name"]
    ]
    assert [one["path"] for one in volume["secret"]["items"]] == [file.name]
    (rule,) = every(overlay, "NetworkPolicy")["callstream-pbxs"]["spec"]["egress"]
    assert [one["ipBlock"]["cidr"] for one in rule["to"]] != ["0.0.0.0/0"]
    (monitor,) = every(overlay, "ServiceMonitor").values()
    assert "callstream-poller" in monitor["spec"]["selector"]["matchExpressions"][0]["values"]
    assert "callstream-poller" not in every("overlays/production", "Deployment")  # off by default


def test_prometheus_names_the_jobs_as_the_alerts_ask_for_them() -> None:
    (monitor,) = every("overlays/production", "ServiceMonitor").values()
    (selector,) = monitor["spec"]["selector"]["matchExpressions"]
    services = every("overlays/production", "Service")
    chosen = [
        name for name, one in services.items() if one["metadata"]["labels"][selector["key"]] in selector["values"]
    ]
    assert sorted(chosen) == ["callstream-ingest", "callstream-processors", "callstream-projections"]


def test_every_dashboard_is_in_the_config_map() -> None:
    dashboards = {path.name for path in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")}
    assert set(every("overlays/production", "ConfigMap")["callstream-dashboards"]["data"]) == dashboards
    assert len(dashboards) > 0
