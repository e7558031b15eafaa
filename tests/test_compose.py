"""deploy/compose.yaml and .env.example, read as the engine reads them; run for real by tests/containers/stack.py."""

import re
from pathlib import Path
from typing import Any

import yaml

from events.settings import Settings
from ingest.polling.settings import PollSettings
from ingest.settings import IngestSettings
from processors.replay import target_settings
from processors.settings import ProcessorsSettings
from projections.settings import ProjectionsSettings

DEPLOY = Path(__file__).parent.parent / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text("utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]
OURS: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "processors": ProcessorsSettings,
    "projections": ProjectionsSettings,
    "poller": PollSettings,
}
EXAMPLE = dict(
    line.split("=", 1)
    for line in (DEPLOY / ".env.example").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
)
IMAGES = {name for name in re.findall(r"\$\{(\w+)", TEXT) if name.endswith("_IMAGE")}
OF_EXPERTS = {"KAFKA_TOPIC_PREFIX", "KAFKA_CLUSTER_ID"}


def test_every_variable_of_our_services_is_a_setting_of_theirs() -> None:
    for name, settings in OURS.items():
        known = {field.upper() for field in settings.model_fields}
        assert set(SERVICES[name]["environment"]) <= known, name


def test_the_example_names_what_the_file_asks_for_and_nothing_else() -> None:
    asked = set(re.findall(r"\$\{(\w+)", TEXT))
    assert asked - IMAGES - OF_EXPERTS == set(EXAMPLE) - {"COMPOSE_PROJECT_NAME"}


def test_a_replayed_set_is_worked_on_as_the_replay_says_and_ingest_stays_with_the_live_one() -> None:
    replayed = yaml.safe_load((DEPLOY / "compose.replayed.yaml").read_text("utf-8"))["services"]
    assert set(replayed) == {"processors", "projections"}
    settings = target_settings(ProcessorsSettings(), "PREFIX")
    told = {
        name: {key: re.sub(r"\$\{REPLAYED_PREFIX[^}]*\}", "PREFIX", value) for key, value in one["environment"].items()}
        for name, one in replayed.items()
    }
    for name, environment in told.items():
        assert set(environment) <= {field.upper() for field in OURS[name].model_fields}
        assert environment["KAFKA_TOPIC_PREFIX"] == settings.kafka_topic_prefix
        assert environment["KAFKA_WEBHOOKS_PREFIX"] == SERVICES["ingest"]["environment"]["KAFKA_TOPIC_PREFIX"]
    assert told["processors"]["PROCESSORS_APPLICATION"] == settings.processors_application
    assert told["projections"]["PROJECTIONS_APPLICATION"] == "callstream-projections-PREFIX"
    live = SERVICES["projections"]["environment"]["PROJECTIONS_DATABASE_URL"]
    assert told["projections"]["PROJECTIONS_DATABASE_URL"] == f"{live}-PREFIX"


def test_nothing_starts_without_its_secrets_and_the_example_gives_none_away() -> None:
    secrets = {name for name in EXAMPLE if re.search("PASSWORD|SECRET|TOKEN", name)}
    assert all(EXAMPLE[name] == "" for name in secrets)
    assert secrets - {"PROJECTIONS_API_TOKENS"} == set(re.findall(r"\$\{(\w+):\?", TEXT))


def test_our_services_cannot_write_their_root_gain_rights_or_be_killed_before_they_drained() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["stop_grace_period"] == "30s"


def test_every_part_is_pinned_restarted_logged_within_limits_and_waits_until_what_it_needs_is_healthy() -> None:
    for name, service in SERVICES.items():
        image = re.search(r":-([^}]+)\}", service["image"])
        assert image is not None, name
        assert ":" in image.group(1), name
        assert not image.group(1).endswith(":latest"), name
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"] == {"max-size": "20m", "max-file": "5"}, name
        assert all(need == {"condition": "service_healthy"} for need in service.get("depends_on", {}).values()), name
        assert set(service.get("depends_on", {})) <= {
            one for one in SERVICES if one in OURS or "healthcheck" in SERVICES[one]
        }


def test_every_port_is_on_the_loopback_interface() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_what_must_survive_is_in_a_named_volume() -> None:
    named = set(yaml.safe_load(TEXT)["volumes"])
    for part, folder in {
        "kafka": "/var/lib/kafka/data",
        "postgres": "/var/lib/postgresql/data",
        "ingest": "/data",
    }.items():
        assert any(volume.split(":")[0] in named and volume.endswith(folder) for volume in SERVICES[part]["volumes"])


def test_the_prometheus_of_the_stack_scrapes_each_service_under_the_name_that_the_alerts_ask_for() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    ports = {"ingest": 8080, "processors": 8082, "projections": 8081}
    wanted = {f"callstream-{name}": [{"targets": [f"{name}:{port}"]}] for name, port in ports.items()}
    found = {one["job_name"]: one for one in scraped}
    # Of a profile: where it does not run its name does not resolve, and nothing is down.
    by_name = found.pop("callstream-poller")
    assert by_name["dns_sd_configs"] == [{"names": ["poller"], "type": "A", "port": 8083}]
    assert {name: one["static_configs"] for name, one in found.items()} == wanted
