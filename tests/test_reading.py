"""Reading a body: the committed corpus, what is missing, and that no bytes can hurt."""

import base64
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from encodings.aliases import aliases
from itertools import product
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import fields, reading, times
from events.pbx import Pbx
from events.session import Direction, Outcome
from events.webhook import End, Start, Unreadable

NOW = datetime(2026, 7, 29, 16, 46, 20, tzinfo=UTC)
CORPUS = Path(__file__).parent / "corpus" / "bodies"
CASES = [(path.stem, case) for path in sorted(CORPUS.glob("*.json")) for case in json.loads(path.read_text("utf-8"))]
DEFAULTS = {"direction": "unknown", "outcome": "unknown"}


def read(body: Any, received_at: datetime = NOW, content_type: str | None = None) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return reading.read(raw, content_type, received_at, Pbx())


def told(found: Start | End | Unreadable) -> dict[str, Any]:
    """What a reading says, without what it does not say."""
    if isinstance(found, Unreadable):
        return {"kind": "unreadable"}
    said = found._asdict() | {"caller": found.caller.text, "callee": found.callee.text}
    said = {name: datetime.isoformat(value) if isinstance(value, datetime) else value for name, value in said.items()}
    said = {name: value for name, value in said.items() if value is not None and DEFAULTS.get(name) != value}
    return {"kind": type(found).__name__.lower(), **said}


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[f"{stem}: {case['says']}" for stem, case in CASES])
def test_every_body_of_the_corpus_reads_as_it_always_did(case: dict[str, Any]) -> None:
    body = case["body"].encode() if "body" in case else base64.b64decode(case["body_base64"])
    received_at = times.from_text(case["received_at"]) if "received_at" in case else NOW
    expected = case["reads_as"]
    for name in ("started_at", "ended_at"):
        if name in expected:
            expected = expected | {name: times.from_text(expected[name]).isoformat()}
    pbx = Pbx.model_validate(case.get("pbx", {}))
    assert told(reading.read(body, case.get("content_type"), received_at, pbx)) == expected
    explained = reading.explain(body, case.get("content_type"), received_at, pbx)
    assert explained.kind == expected["kind"] or (explained.kind, expected["kind"]) == ("test", "unreadable")


FULL = {
    "callId": "7",
    "caller": "+41225551234",
    "callee": "+41225555678",
    "agentExt": "201",
    "agentMail": "agent@company.com",
    "direction": "Inbound",
    "startTime": "2026-07-29T16:46:12Z",
}
UNRESOLVED = ["[Variable]", " [CallID] ", '[[X].ToString("yyyy")]', '[X].ToString("s")']
EMPTY = [None, "", " ", "\t\n", "\u00a0", "null", *UNRESOLVED]


@pytest.mark.parametrize("value", EMPTY)
@pytest.mark.parametrize("key", FULL)
def test_what_is_missing_is_as_if_it_were_not_there(key: str, value: str | None) -> None:
    without = {name: held for name, held in FULL.items() if name != key}
    assert read(FULL | {key: value}) == read(without)


@pytest.mark.parametrize("value", [*EMPTY, "0001-01-01T00:00:00Z", "01.01.0001 00:00:00", "1/1/0001 12:00:00 AM", 0])
@pytest.mark.parametrize("key", ["endUtc", "CallEndTimeUTC", "CallEndTimeUTCMillis"])
def test_an_end_time_that_is_missing_makes_no_end(key: str, value: object) -> None:
    assert isinstance(read(FULL | {key: value}), Start)


@pytest.mark.parametrize(
    "more",
    [
        {"endUtc": "2026-07-29T16:46:12Z"},
        {"endUtc": "unreadable"},
        {"endUtc": {}},
        {"wav": "https://pbx/1.wav"},
        {"duration": "00:00:01"},
        {"duration": 1},
        {"direction": "Missed"},
        {"direction": "notAnswered"},
    ],
)
def test_an_end_has_an_end_time_a_recording_a_duration_or_a_word(more: dict[str, Any]) -> None:
    assert isinstance(read(FULL | more), End)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"wav": "https://pbx/[RecordingURL]"},
        {"duration": "00:00:00"},
        {"duration": 0},
        {"duration": "long"},
        {"wav": ""},
    ],
)
def test_anything_else_is_a_start(more: dict[str, Any]) -> None:
    assert isinstance(read(FULL | more), Start)


@pytest.mark.parametrize(
    ("duration", "direction", "outcome"),
    [
        ("00:00:09", "Inbound", Outcome.ANSWERED),
        ("00:00:09", None, Outcome.ANSWERED),
        ("00:00:09", "Missed", Outcome.MISSED),
        ("00:00:00", "Inbound", Outcome.UNKNOWN),
        (None, "Inbound", Outcome.UNKNOWN),
        (None, "Unanswered", Outcome.NOT_ANSWERED),
    ],
)
def test_the_word_decides_the_outcome_then_the_duration(
    duration: str | None, direction: str | None, outcome: Outcome
) -> None:
    said = {"duration": duration, "direction": direction, "endUtc": "2026-07-29T16:46:12Z"}
    assert read(FULL | said).outcome is outcome


@pytest.mark.parametrize(
    ("words", "direction", "outcome"),
    [
        ("Inbound inbound INBOUND in In incoming Incoming hangupincoming", Direction.INBOUND, Outcome.UNKNOWN),
        ("Outbound outbound OUT out outgoing", Direction.OUTBOUND, Outcome.UNKNOWN),
        ("internal Internal INTERNAL local", Direction.INTERNAL, Outcome.UNKNOWN),
        ("Missed missed MISSED Inbound-Missed", Direction.INBOUND, Outcome.MISSED),
        ("Notanswered NotAnswered not_answered not-answered Unanswered", Direction.OUTBOUND, Outcome.NOT_ANSWERED),
        ("sideways 7 ✆", Direction.UNKNOWN, Outcome.UNKNOWN),
    ],
)
def test_directions_are_read_in_every_spelling(words: str, direction: Direction, outcome: Outcome) -> None:
    for word in words.split():
        found = read(FULL | {"direction": word})
        assert found.direction is direction, word
        assert getattr(found, "outcome", Outcome.UNKNOWN) is outcome, word


@given(st.permutations(list(FULL)), st.data())
def test_neither_order_nor_case_of_the_keys_matters(order: list[str], data: st.DataObject) -> None:
    spellings: list[Callable[[str], str]] = [str, str.lower, str.upper, str.title, "_".join, " {}-".format]
    body = {data.draw(st.sampled_from(spellings))(key): FULL[key] for key in order}
    assert read(body) == read(FULL)


sent_keys = st.sampled_from([*FULL, "CallID", "callid", "Agent", "from", "CallDirection", "other"])
odd_values = st.sampled_from(["", " ", "null", "None", "UNDEFINED", "niL", "[Agent]", "\ufeff", "x" * 257, None, 7])


@given(
    st.dictionaries(sent_keys, st.sampled_from(["201", "+41225551234", "Unanswered"]), min_size=2),
    st.dictionaries(sent_keys, odd_values, min_size=1, max_size=1),
)
def test_fields_looked_at_all_at_once_are_what_they_are_one_by_one(plain: dict[str, Any], odd: dict[str, Any]) -> None:
    assert fields.known(plain | odd) == fields._known(plain | odd)


def test_a_text_beyond_its_limit_is_null_and_never_cut() -> None:
    for key, limit in [("callId", fields.TEXT_CHARACTERS_MAX), ("wav", fields.URL_CHARACTERS_MAX)]:
        kept, lost = read(FULL | {key: "x" * limit}), read(FULL | {key: "x" * (limit + 1)})
        name = "call_id" if key == "callId" else "recording_url"
        assert getattr(kept, name) == "x" * limit
        assert getattr(lost, name, None) is None


def test_the_agent_s_key_is_the_extension() -> None:
    assert reading.agent_key(read(FULL)) == "201"
    assert reading.agent_key(read(FULL | {"agentExt": ""})) is None
    assert reading.agent_key(Unreadable("no")) is None


@pytest.mark.parametrize("flaw", [b'"\n"', b"9" * 5_000, b"NaN", b'"\\ud800"'])
def test_a_flaw_that_json_can_bear_does_not_spoil_the_fields_beside_it(flaw: bytes) -> None:
    found = read(b'{"n":' + flaw + b',"caller":"0225551234","agentExt":"201","o":{"caller":"1","agentExt":"2"}}')
    assert (found.caller.text, found.extension) == ("0225551234", "201")


values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
    | st.sampled_from(["[CallID]", "Missed", "00:04:32", "29.07.2026 18:46", "+41225551234", "\ud800", "\0", "a\nb"])
)  # fmt: skip
keys = st.sampled_from([key for names in fields.NAMES.values() for key in names]) | st.text(max_size=10)
bodies = st.dictionaries(keys, values | st.lists(values, max_size=2), max_size=12)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A body as JSON or as a form, then damaged: bytes replaced, taken out or doubled."""
    raw = bytearray(json.dumps(draw(bodies)).encode())
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(
            st.sampled_from([b"", b'"', b"\\", b"\n", b"\0", b"{", b"\xff", b","])
        )
    return bytes(raw)


content_types = st.none() | st.text(max_size=30) | st.sampled_from(
    ["application/json", "text/plain; charset=utf-16", "x/y; charset=zlib", "x; charset=base64", "x; charset=idna"]
)  # fmt: skip


@settings(max_examples=300)
@given(body=st.binary(max_size=200) | broken(), content_type=content_types, country=st.sampled_from([None, "CH"]))
def test_any_bytes_are_read_or_not_always_the_same_and_hold_no_poison(
    body: bytes, content_type: str | None, country: str | None
) -> None:
    pbx = Pbx(country=country, timezone="Europe/Zurich")
    found = reading.read(body, content_type, NOW, pbx)
    assert found == reading.read(body, content_type, NOW, pbx)
    text = repr(told(found)) + reading.explain(body, content_type, NOW, pbx).model_dump_json()
    text.encode()  # no lone surrogate
    if not isinstance(found, Unreadable):
        held = [found.extension, found.email, found.call_id, found.caller.text, found.callee.text]
        assert all(one is None or (one and "\0" not in one and one == one.strip() and len(one) <= 256) for one in held)


def is_odd(one: str) -> bool:
    """A number in some sense of Unicode's but no ASCII digit, or a letter that another form makes ASCII or two."""
    return not one.isascii() and (
        one.isnumeric()
        or (one.isalpha() and (len(one.upper()) > 1 or len(one.lower()) > 1 or normalize("NFKC", one).isascii()))
    )


ODD = [chr(code) for code in range(sys.maxunicode + 1) if is_odd(chr(code))]
PRINTED = {
    "duration": ("00:04:32", "0.00:04:32", "04:32", "272", "272.5", "00.04.32", "4m 32s", "PT4M32S", "P1DT4M"),
    "startTime": ("2026-07-29T16:46:12Z", "29.07.2026 18:46:12", "20260729164612", "29 juil. 2026 18:46", "1785343572"),
    "endUtc": ("2026-07-29T16:46:12+02:00", "7/29/26 6:46 PM", "1785343572000", "1785343572.5", "0001-01-01T00:00:00"),
    "caller": ("+41225551234", "0041225551234", "sip:201@pbx", "Anna <022 555 12 34>", "(022) 555-12-34", "201"),
    "agentExt": ("201", "null"),
    "direction": ("Inbound", "missed"),
    "CallType": ("Notanswered",),
}


def oddly(text: str, odd: str) -> set[str]:
    """The text with the odd character at each single place, and at those of all its letters or all its digits."""
    single = {text[:at] + odd + text[at + 1 :] for at in range(len(text))}
    return single | {re.sub(kind, odd, text) for kind in ("[0-9]", "[a-zA-Z]", "[0-9a-zA-Z]", "^[0-9]+", "[0-9]+$")}


def has_bug(body: dict[str, Any]) -> bool:
    found = read(body)
    return isinstance(found, Unreadable) and found.bug is not None


def test_no_odd_digit_or_letter_makes_reading_raise() -> None:
    assert len(ODD) > 2_000
    texts = [(key, text) for key, printed in PRINTED.items() for text in printed]
    # All of a kind at once, with every one of them; one at a time, with one of each category.
    for odd, (key, text) in product(ODD, texts[::3]):
        spelled = re.sub("[0-9]", odd, text) if odd.isnumeric() else re.sub("[a-zA-Z]", odd, text)
        assert not has_bug(FULL | {key: spelled}), (key, spelled)
    categories = {(category(odd), odd.isdigit(), odd.isdecimal()): odd for odd in ODD}
    for odd, (key, text) in product(categories.values(), texts):
        for spelled in oddly(text, odd):
            assert not has_bug(FULL | {key: spelled}), (key, spelled)


odd_texts = st.text(st.sampled_from([*ODD, *"0123456789:.,-+/ TZPMHSDdms"]), max_size=24)


@given(st.dictionaries(st.sampled_from([key for names in fields.NAMES.values() for key in names]), odd_texts))
def test_no_body_of_odd_texts_makes_reading_raise(body: dict[str, str]) -> None:
    assert not has_bug(body)


def test_a_bug_of_ours_costs_the_body_that_meets_it_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is compiled calls what is not by its name.
    monkeypatch.setattr(phonenumbers, "parse", lambda _number, _country: int("²"))
    body, pbx = json.dumps(FULL | {"caller": "022 555 00 13"}).encode(), Pbx(country="CH")
    found = reading.read(body, None, NOW, pbx)
    assert isinstance(found, Unreadable)
    assert (found.reason, type(found.bug)) == ("a bug of ours: reading the body failed (ValueError)", ValueError)
    explained = reading.explain(body, None, NOW, pbx)
    assert (explained.kind, explained.reason) == ("unreadable", found.reason)
    assert isinstance(read(FULL), Start)


HOSTILE = {
    "100,000 arrays": b'{"caller":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 objects": b'{"a":' * 100_000,
    "a number of 5,000 digits": b'{"duration":' + b"9" * 5_000 + b',"caller":"1"}',
    "a broken object with a number of 60,000 digits": b'{"duration":' + b"9" * 60_000 + b',"caller":"a"b"}',
    "60,000 digits as a date": b'{"caller":"1","endUtc":"' + b"9" * 60_000 + b'"}',
    "an exponent": b'{"duration":1e999,"endUtc":1e400,"caller":"1"}',
    "quotes": b"{" + b'"' * 65_000,
    "keys": b"{" + b'"a":' * 16_000,
    "commas and keys": b'{"a":"x"y"' + b',"caller":"' * 6_000,
    "blanks": b'{"caller"' + b" " * 65_000 + b":",
    "commas and blanks": b'{"a":"x"y"' + (b"," + b" " * 63) * 1_000,
    "backslashes": b'{"caller":"' + b"\\" * 65_000,
    "10,000 keys": json.dumps({f"caller{n}": "x" for n in range(10_000)}).encode(),
    "a form of many fields": b"caller=1&" * 7_000,
    "a form of percents": b"caller=" + b"%" * 65_000,
    "brackets in a number": json.dumps({"caller": "<" * 255, "callee": "(" * 256}).encode(),
    "an open variable": b'{"wav":"' + b"[A" * 1_000 + b'"}',
    "digits and blanks in a number": json.dumps({"caller": "1 " * 127 + "a"}).encode(),
}


@pytest.mark.timeout(5)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_read_or_not_at_once(name: str) -> None:
    # Milliseconds each when every step is linear; a quadratic one would take minutes at this size.
    for _ in range(10):
        reading.read(HOSTILE[name], None, NOW, Pbx(country="CH"))
        reading.explain(HOSTILE[name], None, NOW, Pbx(country="CH"))


@pytest.mark.timeout(5)
@pytest.mark.parametrize("codec", sorted(set(aliases.values()) | {"idna", "punycode", "unicode_escape", "undefined"}))
def test_no_charset_makes_reading_slow(codec: str) -> None:
    body = b'{"caller":"+41225551234","agentExt":"201","wav":"\xff-' + b"a" * 65_000 + b'"}'
    for _ in range(10):
        reading.read(body, f"application/json; charset={codec}", NOW, Pbx())
        reading.read(body[-65_000:], f"text/plain; charset={codec}", NOW, Pbx())


@pytest.mark.parametrize(
    ("charset", "email"),
    [("ISO-8859-15", "€@a"), ("windows-1255", "₪@a"), ("koi8-r", "╓@a"), ("punycode", "¤@a"), ("no such", "¤@a")],
)
def test_a_charset_of_texts_is_believed_and_no_other(charset: str, email: str) -> None:
    body = b'{"caller":"+41225551234","agentMail":"\xa4@a"}'
    assert read(body, content_type=f"application/json; charset={charset}").email == email
