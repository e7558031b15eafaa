"""Who may see what: bearer tokens with roles, and what a masked role sees of a number.

`PROJECTIONS_API_TOKENS` holds tokens, comma-separated: ``token`` sees everything; ``token:masked`` sees of every
external number all but its last four digits, no name, no recording and no call id, and cannot search by number (that
would find the hidden digits by trying). A browser's EventSource cannot send headers, so the routes that a page opens by
itself also take the token as the query parameter ``access_token``.
"""

import hmac
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import phonenumbers
from phonenumbers import PhoneNumberFormat
from starlette.requests import Request

from events import numbers
from events.serving import Refused

FULL: Final = "full"
MASKED: Final = "masked"
NUMBERS: Final = ("caller", "callee", "caller_e164", "callee_e164")
HIDDEN: Final = ("recording_url", "call_id")
DIGITS_HIDDEN: Final = 4
EXTENSION_DIGITS_MAX: Final = 5


class Access:
    """The tokens, each with its role; none: no authentication."""

    def __init__(self, tokens: Mapping[bytes, str]) -> None:
        """Only keeps what it is given."""
        self._tokens = tokens

    def role(self, request: Request, *, query_token: bool = False) -> str:
        """The role of whoever asks; refuses whoever has no valid token."""
        if not self._tokens:
            return FULL
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        sent = given if scheme.lower() == "bearer" else ""
        if not sent and query_token:
            sent = request.query_params.get("access_token", "")
        raw = sent.strip().encode("utf-8", "surrogatepass")
        matches = [role for token, role in self._tokens.items() if hmac.compare_digest(raw, token)]
        if not matches:
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                "send a token of PROJECTIONS_API_TOKENS as bearer",
                {"WWW-Authenticate": "Bearer"},
            )
        return matches[0]

    def may_search(self, request: Request, *, query_token: bool = False) -> None:
        """Refuse a masked role that searches by number."""
        if "number" in request.query_params and self.role(request, query_token=query_token) == MASKED:
            raise Refused(HTTPStatus.FORBIDDEN, "a masked token cannot search by number; leave it out")

    @staticmethod
    def may_see_bodies(role: str) -> None:
        """Refuse a masked role that asks for webhooks as they came: there is a number in each."""
        if role == MASKED:
            raise Refused(HTTPStatus.FORBIDDEN, "a masked token does not see the webhooks themselves")


def shown(value: Any, role: str) -> Any:
    """A JSON value as `role` sees it; numbers are masked wherever they stand, before and after a change, too."""
    return value if role == FULL else _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _masked_field(name, one) for name, one in value.items()}


def _masked_field(name: str, value: Any) -> Any:
    if name not in NUMBERS and name not in HIDDEN:
        return _masked(value)
    if isinstance(value, dict):  # what a correction changed: before and after
        return {key: _masked_field(name, one) for key, one in value.items()}
    if not isinstance(value, str):
        return value
    return None if name in HIDDEN else masked_number(value)


@lru_cache(4_096)
def masked_number(text: str) -> str:
    """``+41 22 555 ** **`` for ``+41225551234``; extensions and words for a withheld number stay, names do not.

    A withheld number may have a name or a number beside it, as in ``"Jane Doe" <anonymous>``: the word alone stays.
    """
    party = numbers.party(text, None)
    if party.text is None:
        return text
    if not party.digits:
        return numbers.withheld_word(text) or "***"
    if len(party.digits) <= EXTENSION_DIGITS_MAX:
        return party.digits
    if party.e164 is None:
        return party.digits[:-DIGITS_HIDDEN] + "*" * DIGITS_HIDDEN
    printed = phonenumbers.format_number(phonenumbers.parse(party.e164), PhoneNumberFormat.INTERNATIONAL)
    hidden = 0
    cells = list(printed)
    for place in range(len(cells) - 1, -1, -1):
        if cells[place].isdigit() and hidden < DIGITS_HIDDEN:
            cells[place] = "*"
            hidden += 1
    return "".join(cells)
