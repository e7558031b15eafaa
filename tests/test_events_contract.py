"""The contract's shapes: what is written can be read, what is wrong is said, equal things are equal bytes."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from events import dead_letters, envelope, metrics, session_events, times, topics
from events.envelope import Envelope, EnvelopeError, Type
from events.kafka import KafkaSettings, connection
from events.pbx import DEFAULT_PBX, DateOrder, PbxSettings, pbxs_of
from events.session_events import FeedProgress
from events.settings import ConfigurationError, load

offsets = st.integers(min_value=-14 * 60, max_value=14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.builds(
    lambda us, zone: times.from_us(us).astimezone(zone), st.integers(-(10**16), 2 * 10**17), st.just(UTC) | offsets
)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1)


@given(moments)
def test_a_time_survives_text_and_microseconds_exactly(at: datetime) -> None:
    assert times.from_text(times.to_text(at)) == at
    assert times.from_us(times.to_us(at)) == at
    assert times.to_text(at) == at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_equal_times_in_different_zones_are_equal_bytes() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert times.to_text(noon.astimezone(timezone(timedelta(hours=5, minutes=45)))) == times.to_text(noon)


@given(
    st.builds(
        Envelope,
        id=names,
        pbx=names,
        type=st.sampled_from(Type),
        time=moments,
        content_type=st.none() | st.binary().map(lambda sent: sent.decode("utf-8", "surrogateescape")),
        ingest=st.none() | names,
        ingest_sequence=st.none() | st.integers(min_value=0, max_value=2**63),
    )
)
def test_an_envelope_survives_its_headers_whatever_the_sender_called_its_content(sent: Envelope) -> None:
    assert envelope.decode(envelope.encode(sent)) == sent


@pytest.mark.parametrize(
    ("header", "value", "complaint"),
    [
        ("ce_id", None, "ce_id"),
        ("ce_source", b"/elsewhere", "/pbx/NAME"),
        ("ce_type", b"call.invented", "call.invented"),
        ("ce_time", b"yesterday", "yesterday"),
        ("ce_time", b"2026-11-24T10:32:03", "zone"),
        ("ingest_sequence", b"many", "many"),
        ("ce_id", b"\xff", "utf-8"),
    ],
)
def test_a_header_that_breaks_the_contract_is_named(header: str, value: bytes | None, complaint: str) -> None:
    good = dict(envelope.encode(Envelope("a", "default", Type.CLOCK_TICK, datetime.now(UTC))))
    headers = {**good, header: value} if value is not None else {k: v for k, v in good.items() if k != header}
    with pytest.raises(EnvelopeError, match=complaint):
        envelope.decode(list(headers.items()))


@given(names, names, st.sampled_from(Type), moments)
def test_what_is_written_most_has_the_very_headers_of_any_other_record(
    identity: str, pbx: str, kind: Type, at: datetime
) -> None:
    said = Envelope(identity, pbx, kind, at, "application/json")
    assert envelope.encode_json(identity, pbx, kind, at) == envelope.encode(said)


@given(names, names, moments, st.none() | names, names, st.integers(min_value=0, max_value=2**63))
def test_the_headers_of_a_webhook_are_the_same_by_the_shorter_way(
    identity: str, pbx: str, at: datetime, content_type: str | None, ingest: str, sequence: int
) -> None:
    said = Envelope(identity, pbx, Type.WEBHOOK_RECEIVED, at, content_type, ingest, sequence)
    assert envelope.encode_received(identity, pbx, at, content_type, ingest, sequence) == envelope.encode(said)


def test_a_header_without_a_value_is_as_if_it_were_not_there() -> None:
    good = envelope.encode(Envelope("a", "default", Type.CLOCK_TICK, datetime(2026, 11, 24, tzinfo=UTC)))
    assert envelope.decode([*good, ("ingest", None)]).ingest is None
    with pytest.raises(EnvelopeError, match="ce_time"):
        envelope.decode([*good[:-1], ("ce_time", None)])


def test_a_session_event_is_told_apart_by_its_type_and_survives_json() -> None:
    at = datetime(2026, 11, 24, 10, tzinfo=UTC)
    progress = FeedProgress(id="p", time=at, live_time_us=1, stream_time=at, received_at={"default": at})
    assert session_events.decode(session_events.encode(progress)) == progress
    with pytest.raises(ValueError, match=r"call\.invented"):
        session_events.decode(b'{"type":"call.invented"}')


def test_the_id_of_an_event_depends_on_its_causes_and_not_on_where_they_lie() -> None:
    found = session_events.event_id_of("s", 1, ["a", "b"])
    assert found == session_events.event_id_of("s", 1, ["a", "b"])
    others = [("s", 1, ["a", "c"]), ("s", 1, ["a"]), ("s", 1, ["b", "a"]), ("s", 2, ["a", "b"]), ("t", 1, ["a", "b"])]
    assert len({found, *(session_events.event_id_of(*other) for other in others)}) == 1 + len(others)


def test_a_dead_letter_keeps_the_headers_it_came_with_and_says_where_it_came_from() -> None:
    own = [("ce_id", b"a"), ("x", b"\xff")]
    found = dead_letters.headers(own, "no envelope", "threecx.webhooks", 3, 17)
    assert found[:2] == own
    assert dict(found[2:]) == {
        "dead_letter_reason": b"no envelope",
        "dead_letter_origin": b"threecx.webhooks",
        "dead_letter_partition": b"3",
        "dead_letter_offset": b"17",
    }


def test_the_topics_have_the_names_and_cleanup_of_the_contract() -> None:
    names_of = topics.TopicSet("threecx")
    assert [(names_of.name(topic), topic.configs["cleanup.policy"]) for topic in topics.ALL] == [
        ("threecx.webhooks", "delete"),
        ("threecx.call-sessions", "delete"),
        ("threecx.call-sessions.changelog", "compact"),
        ("threecx.dead-letters", "delete"),
    ]


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("PBX_TIMEZONE", "Mars/Olympus", "PBX_TIMEZONE: 'Mars/Olympus' is not a time zone; use a name"),
        ("PBX_COUNTRY", "Suisse", "PBX_COUNTRY: 'Suisse' is not a country"),
        ("PBX_DATE_ORDER", "backwards", "PBX_DATE_ORDER"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as raised:
        load(PbxSettings)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("servers", ["broker:port", "one:9092,two:", "[::1:9092"])
def test_servers_that_are_no_addresses_are_one_sentence(servers: str) -> None:
    with pytest.raises(ConfigurationError, match=r"KAFKA_BOOTSTRAP_SERVERS: .* is not host:port, comma-separated"):
        connection(KafkaSettings(kafka_bootstrap_servers=servers))


def test_a_password_is_never_part_of_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_SASL_PASSWORD", "canary-7f3a")
    monkeypatch.setenv("KAFKA_TOPIC_PARTITIONS", "canary-7f3a")
    with pytest.raises(ConfigurationError) as raised:
        load(KafkaSettings)
    assert "canary-7f3a" not in str(raised.value)
    monkeypatch.delenv("KAFKA_TOPIC_PARTITIONS")
    assert "canary-7f3a" not in repr(load(KafkaSettings))


def test_several_pbxs_come_from_a_file_and_a_mistake_in_it_names_its_place(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("pbx") / "pbx.toml"
    path.write_text('[pbx.geneva]\ntimezone = "Europe/Zurich"\ndate_order = "dmy"\ncountry = "CH"\n', "utf-8")
    found = pbxs_of(PbxSettings(pbx_config=path))
    assert set(found) == {DEFAULT_PBX, "geneva"}
    assert found["geneva"].date_order is DateOrder.DMY
    path.write_text('[pbx.geneva]\nzone = "Europe/Zurich"\n', "utf-8")
    with pytest.raises(ConfigurationError, match=r"pbx\.geneva\.zone"):
        pbxs_of(PbxSettings(pbx_config=path))


@pytest.mark.parametrize("service", ["ingest", "processors", "projections"])
def test_no_metric_of_the_catalogue_is_only_declared(service: metrics.Service) -> None:
    folder = Path(__file__).parent.parent / service
    used = [*folder.glob("*.py"), folder.parent / "events" / "serving.py"]
    source = "".join(path.read_text("utf-8") for path in used)
    for metric in metrics.CATALOGUE[service]:
        counted = f'counts["{metric.name.removesuffix("_total")}"'  # the task's counts become these
        assert f'"{metric.name}"' in source or counted in source, metric.name


@pytest.mark.parametrize("service", ["ingest", "processors", "projections"])
def test_every_metric_of_the_catalogue_is_exported_under_its_service(service: metrics.Service) -> None:
    exported = generate_latest(metrics.Metrics(service).registry).decode()
    for metric in metrics.CATALOGUE[service]:
        assert f"# HELP threecx_{service}_{metric.name} {metric.meaning}" in exported
    assert "_created" not in exported


SESSION_TOPIC_TYPES = {"call.started", "call.ended", "call.end_missed", "call.corrected", "threecx.feed.progress"}


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "corpus" / "session_events").glob("*.jsonl")))
def test_every_session_event_ever_written_is_still_read(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert {json.loads(line)["type"] for line in lines} == SESSION_TOPIC_TYPES
    for line in lines:
        read = session_events.decode(line.encode())
        again = json.loads(session_events.encode(read))
        assert _has_all_of(again, json.loads(line)), "what it said is still there, whatever was added"


def _has_all_of(now: object, then: object) -> bool:
    if isinstance(now, dict) and isinstance(then, dict):
        return all(name in now and _has_all_of(now[name], value) for name, value in then.items())
    return now == then
