"""What is shown of the webhooks behind a call: byte for byte, or why not. Pure."""

import base64
from collections.abc import Sequence

import pytest

from events import envelope
from events.envelope import Envelope, Type
from events.pbx import DEFAULT_PBX
from projections.forgetting import NOBODY, Forgotten, entries_of
from projections.records import RECORDS_MAX, Missing, Place, Raw, places_of, shown_of
from tests.builders import X, at

PLACE = Place(3, 7, "id")
SALT = "00" * 16
GONE = Forgotten(SALT, entries_of(X, "CH", SALT, at(60)))


def raw(value: bytes, kind: Type = Type.WEBHOOK_RECEIVED, identity: str = "id") -> Raw:
    return Raw(envelope.encode(Envelope(identity, DEFAULT_PBX, kind, at(0), "application/json", "i", 1)), value)


def test_a_webhook_is_shown_as_it_came() -> None:
    body = '{ "caller" : "+41225551234",\n "x": "é<b>" }'
    shown = shown_of(PLACE, raw(body.encode()), NOBODY, at(0))
    assert (shown["body"], shown["body_base64"], shown["missing"]) == (body, None, None)
    assert (shown["partition"], shown["offset"], shown["ce_id"], shown["type"]) == (*PLACE, "threecx.webhook.received")
    assert (shown["received_at"], shown["content_type"]) == ("2026-11-24T09:00:00.000000Z", "application/json")


def test_bytes_that_are_no_text_are_shown_in_base64() -> None:
    shown = shown_of(PLACE, raw(b"\xff\xfe{}"), NOBODY, at(0))
    assert shown["body"] is None
    assert base64.b64decode(shown["body_base64"]) == b"\xff\xfe{}"


@pytest.mark.parametrize("found", [None, raw(b"{}", identity="another"), Raw([], b"{}")])
def test_what_is_not_that_record_any_more_is_missing(found: Raw | None) -> None:
    shown = shown_of(PLACE, found, NOBODY, at(0))
    assert (shown["missing"], shown["body"], shown["type"]) == (Missing.EXPIRED, None, None)


def test_a_list_of_everybodys_calls_is_not_shown() -> None:
    shown = shown_of(PLACE, raw(b'{"calls": []}', Type.CALLS_LISTED), NOBODY, at(0))
    assert (shown["missing"], shown["body"]) == (Missing.OF_OTHERS, None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"caller": "+41225551234"}',
        b'{"note": "022 555 12 34", "caller": "201"}',
        b'{"caller": 41225551234}',
        b'{"more": [{"number": "0041 22 555 12 34"}]}',
        b"caller=%2B41225551234&callee=201",
    ],
)
def test_a_forgotten_party_is_in_no_body_whatever_the_field(body: bytes) -> None:
    assert shown_of(PLACE, raw(body), GONE, at(0))["missing"] is Missing.FORGOTTEN
    assert "5551234" not in str(shown_of(PLACE, raw(body), GONE, at(0))).replace(" ", "")
    assert shown_of(PLACE, raw(body), GONE, at(61))["missing"] is None, "who calls again later is shown"


def test_each_record_is_asked_for_once_and_not_more_than_so_many() -> None:
    def caused(offsets: Sequence[int]) -> dict[str, object]:
        return {"causes": [{"partition": 1, "offset": offset, "ce_id": str(offset)} for offset in offsets]}

    assert places_of([caused([5, 2]), caused([2, 9])]) == [Place(1, 2, "2"), Place(1, 5, "5"), Place(1, 9, "9")]
    assert len(places_of([caused(range(3 * RECORDS_MAX))])) == RECORDS_MAX
