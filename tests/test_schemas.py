"""The published schemas: what was and is written is valid under every version, and no version breaks another."""

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from events import envelope
from events.envelope import Envelope, Type
from events.schemas import compatibility, published, shapes
from events.schemas.compatibility import UnknownKeywordError, problems
from tests.builders import T0, new_task
from tests.chaotic_feed import RULES, chaotic_feed

CORPUS = sorted((Path(__file__).parent / "corpus" / "session_events").glob("*.jsonl"))
Json = dict[str, Any]
WORD: Json = {"type": "string"}


@cache
def validator(version: int, name: str) -> Draft202012Validator:
    schema = published.read(version)[name]
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def assert_valid(name: str, message: object) -> None:
    for version in published.numbers():
        if name in published.read(version):  # what came later is in no earlier one
            validator(version, name).validate(message)


HEADERS = {
    Type.WEBHOOK_RECEIVED: "headers.webhook",
    Type.CLOCK_TICK: "headers.tick",
    Type.CALLS_LISTED: "headers.poll",
    Type.CALLS_RECORDED: "headers.poll",
}


def text_of(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    return {name: value.decode() for name, value in headers}


@pytest.mark.parametrize("file", CORPUS, ids=lambda path: path.stem)
def test_every_session_event_ever_written_is_valid_under_every_version(file: Path) -> None:
    for line in file.read_text("utf-8").splitlines():
        message = json.loads(line)
        assert_valid(message["type"], message)


def test_what_the_processors_write_is_valid_under_every_version_values_and_headers() -> None:
    seen = set()
    for record in (feed := chaotic_feed(11, webhooks=400)):
        said = envelope.decode(record.headers)
        assert_valid(HEADERS[said.type], text_of(record.headers))
    batch = new_task(RULES).process(feed)
    for out in batch.session_events:
        message, headers = json.loads(out.value or b""), text_of(out.headers)
        seen.add(message["type"])
        assert headers["ce_type"] == message["type"]
        assert_valid(message["type"], message)
        assert_valid("headers.session-event", headers)
    assert seen == set(shapes.EVENTS)
    for dead in batch.dead_letters:
        assert_valid("headers.dead-letter", text_of(dead.headers))


def test_a_schema_is_strict_enough_to_refuse_what_is_no_event() -> None:
    event = json.loads(CORPUS[0].read_text("utf-8").splitlines()[0])
    session = event["session"]
    for wrong in (
        {**event, "type": "call.ended"},
        {**event, "revision": "1"},
        {**event, "time": "2026-11-24T10:00:00+01:00"},
        {**event, "session": {**session, "status": "over"}},
        {**event, "session": {name: value for name, value in session.items() if name != "pbx"}},
        {name: value for name, value in event.items() if name != "causes"},
    ):
        assert not validator(published.numbers()[-1], "call.started").is_valid(wrong), wrong
    assert validator(published.numbers()[-1], "call.started").is_valid(
        {**event, "new": 1, "session": {**session, "n": 2}}
    )


def test_the_published_documents_are_the_ones_of_the_shapes() -> None:
    newest = published.numbers()[-1]
    assert published.current(newest) == published.read(newest), "the shapes changed: run python -m events.schemas"


def test_every_version_is_fully_compatible_with_every_other_one() -> None:
    """Both ways, of what both have: a schema that came later breaks nothing."""
    versions = [schemas(published.read(number)) for number in published.numbers()]
    assert len(versions) > 1
    for earlier, later in combinations(versions, 2):
        assert compatibility.breaks(earlier, later) == []


def schemas(documents: Mapping[str, Json]) -> dict[str, Json]:
    return {name: one for name, one in documents.items() if name != published.ASYNCAPI}


def a(**fields: Json) -> Json:
    return {"type": "object", "properties": fields, "required": list(fields)}


# writer, reader, a message that the writer may write and the reader refuses
BREAKING: dict[str, tuple[Json, Json, object]] = {
    "another type": ({"type": "integer"}, WORD, 1),
    "a fraction": ({"type": "number"}, {"type": "integer"}, 0.5),
    "null": ({"anyOf": [WORD, {"type": "null"}]}, WORD, None),
    "null among types": ({"type": ["string", "null"]}, WORD, None),
    "any type": ({}, WORD, 1),
    "a new value": ({"enum": ["a", "b"]}, {"enum": ["a"]}, "b"),
    "any value": (WORD, {"type": "string", "enum": ["a"]}, "b"),
    "another constant": ({"const": "b"}, {"const": "a"}, "b"),
    "a field that is not required any more": ({**a(x=WORD), "required": []}, a(x=WORD), {}),
    "a field that went": (a(), a(x=WORD), {}),
    "a field of another type": (a(x={"type": "integer"}), a(x=WORD), {"x": 1}),
    "a field further in": (a(y=a(x={"type": "integer"})), a(y=a(x=WORD)), {"y": {"x": 1}}),
    "a field that is not allowed": (a(x=WORD), {**a(), "additionalProperties": False}, {"x": ""}),
    "a field that falls under others": (a(x=WORD), {**a(), "additionalProperties": {"type": "null"}}, {"x": ""}),
    "others of another type": (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "additionalProperties": WORD},
        {"x": 1},
    ),
    "others that meet a field": (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {**a(x=WORD), "required": []},
        {"x": 1},
    ),
    "items": ({"type": "array", "items": {"type": "integer"}}, {"type": "array", "items": WORD}, [1]),
    "no pattern": (WORD, {"type": "string", "pattern": "^a"}, "b"),
    "a value beside the pattern": ({"const": "b"}, {"type": "string", "pattern": "^a"}, "b"),
    "a lower bound": ({"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 1}, 0),
    "no upper bound": (WORD, {"type": "string", "maxLength": 3}, "long"),
    "a reference to another type": (
        {"$ref": "#/$defs/X", "$defs": {"X": {"type": "integer"}}},
        {"$ref": "#/$defs/X", "$defs": {"X": WORD}},
        1,
    ),
    "an alternative": ({"anyOf": [WORD, a(x=WORD)]}, {"anyOf": [WORD, a(x={"type": "null"})]}, {"x": ""}),
}


@pytest.mark.parametrize("case", BREAKING)
def test_a_planted_incompatible_change_is_found(case: str) -> None:
    writer, reader, message = BREAKING[case]
    assert Draft202012Validator(writer).is_valid(message), "the case itself is wrong"
    assert not Draft202012Validator(reader).is_valid(message), "the case itself is wrong"
    assert problems(writer, reader)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (a(x=WORD, new=WORD), a(x=WORD)),
        (a(x=WORD), {**a(x=WORD, new=WORD), "required": ["x"]}),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}),
        ({"type": "integer"}, {"type": "number"}),
        (WORD, {"anyOf": [{"type": "null"}, WORD]}),
        ({"type": "integer", "minimum": 5}, {"type": "integer", "minimum": 1}),
        ({"const": "ab"}, {"type": "string", "pattern": "^a"}),
        ({"type": "string", "x-extensible-enum": ["a", "b"]}, {"type": "string", "x-extensible-enum": ["a"]}),
        ({"type": "string", "description": "one"}, {"type": "string", "description": "two"}),
        ({"type": "object", "additionalProperties": WORD}, {"type": "object", "additionalProperties": {}}),
    ],
)
def test_what_a_reader_can_take_is_compatible(writer: Json, reader: Json) -> None:
    assert problems(writer, reader) == []


@pytest.mark.parametrize("schema", [{"oneOf": [WORD]}, {"type": "string", "anyOf": [WORD]}, {"$ref": "elsewhere.json"}])
def test_what_cannot_be_judged_is_refused(schema: Json) -> None:
    with pytest.raises(UnknownKeywordError):
        problems(schema, WORD)


def _drop_type(documents: dict[str, Json]) -> None:
    del documents["call.end_missed"]


def _rename(documents: dict[str, Json]) -> None:
    session = documents["call.ended"]["$defs"]["Session"]
    session["properties"]["talk_s"] = session["properties"].pop("duration_s")
    session["required"] = list(session["properties"])


def _new_status(documents: dict[str, Json]) -> None:
    documents["call.ended"]["$defs"]["Status"]["enum"].append("parked")


def _new_required(documents: dict[str, Json]) -> None:
    session = documents["call.started"]["$defs"]["Session"]
    session["properties"]["queue"] = WORD
    session["required"].append("queue")


def _other_type(documents: dict[str, Json]) -> None:
    documents["threecx.feed.progress"]["properties"]["live_time_us"] = {"type": "number"}


def _nullable(documents: dict[str, Json]) -> None:
    documents["call.started"]["properties"]["revision"] = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def _header_gone(documents: dict[str, Json]) -> None:
    documents["headers.session-event"]["required"].remove("ce_id")


@pytest.mark.parametrize(
    "change", [_drop_type, _rename, _new_status, _new_required, _other_type, _nullable, _header_gone]
)
def test_an_incompatible_change_of_our_own_schemas_is_never_published(
    change: Callable[[dict[str, Json]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published.publish(tmp_path) == 1
    wrong = copy.deepcopy(published.current(1))
    change(wrong)
    monkeypatch.setattr(published, "current", lambda _: wrong)
    with pytest.raises(published.IncompatibleError, match="version 1"):
        published.publish(tmp_path)
    assert published.numbers(tmp_path) == [1]
    assert published.read(1, tmp_path) != wrong


def test_a_compatible_change_is_a_new_version_and_other_words_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published.publish(tmp_path) == 1
    words = copy.deepcopy(published.current(1))
    words["call.started"]["description"] = "Said otherwise."
    monkeypatch.setattr(published, "current", lambda _: words)
    assert published.publish(tmp_path) == 1
    assert published.read(1, tmp_path)["call.started"]["description"] == "Said otherwise."
    more = copy.deepcopy(words)
    more["call.started"]["$defs"]["Session"]["properties"]["queue"] = WORD
    monkeypatch.setattr(published, "current", lambda _: more)
    assert published.publish(tmp_path) == 2
    assert published.read(1, tmp_path) == words


def test_the_asyncapi_document_names_every_type_with_its_headers_and_key_and_no_reference_leads_nowhere() -> None:
    document = published.read(published.numbers()[-1])[published.ASYNCAPI]
    messages = document["components"]["messages"]
    assert {message["name"] for message in messages.values()} >= set(shapes.EVENTS)
    for message in messages.values():
        assert message["headers"]["$ref"]
        assert message["payload"]["$ref"]
        assert message["bindings"]["kafka"]["key"]
    assert "highest revision" in document["operations"]["tellSessions"]["x-delivery"]["convergence"]
    for reference in references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def references(part: Any) -> Iterable[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from references(one)


def test_headers_with_a_wrong_source_or_time_are_refused() -> None:
    good = text_of(envelope.encode(Envelope("a", "default", Type.CALL_ENDED, T0, "application/json")))
    newest = validator(published.numbers()[-1], "headers.session-event")
    assert newest.is_valid(good)
    assert not newest.is_valid({**good, "ce_source": "/elsewhere"})
    assert not newest.is_valid({**good, "ce_time": "yesterday"})
