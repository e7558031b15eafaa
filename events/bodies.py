"""A request's body as fields: a JSON object, or form fields; tolerant of what templates really print.

Strict JSON is tried first; what it refuses (byte order mark, raw newline, wrong charset, NUL, NaN, an unescaped quote)
is tried again more patiently. Nothing here raises, whatever the bytes; the cost is bounded by the body's size.
"""

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import orjson

Fields = dict[str, Any]

REPAIR_BYTES_MAX = 8_192
"""A longer body with broken quotes is not repaired: the repair may look at it several times over."""
FORM_FIELDS_MAX = 100
NUMBER_DIGITS_MAX = 18

_PAIR = re.compile(r'"(\w{1,40})"\s*:\s*(?:"(.{0,2048}?)"|(-?[\w.]{1,40}))\s*(?=,\s*"\w{1,40}"\s*:|\}\s*$)', re.DOTALL)
_FORM = re.compile(r"\s*[\w.%+\[\]-]{1,100}=")
_CHARSET = re.compile(r"charset=[\"']?([\w-]+)", re.IGNORECASE)


def fields_of(body: bytes, content_type: str | None) -> Fields | None:
    """The body's fields, with keys and values as sent; null when it is neither a JSON object nor form fields."""
    try:
        strict = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _patiently(body, content_type)
    return strict if isinstance(strict, dict) else None


def _patiently(body: bytes, content_type: str | None) -> Fields | None:
    text = _text(body, content_type).replace("\0", "").strip().lstrip("\ufeff")
    if text.startswith("{"):
        return _tolerant_json(text) or _repaired(text)
    return _form(text)


def _text(body: bytes, content_type: str | None) -> str:
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", "replace")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        named = _CHARSET.search(content_type or "")
        try:
            return body.decode(named.group(1) if named else "cp1252", "replace")
        except LookupError:
            return body.decode("cp1252", "replace")


def _tolerant_json(text: str) -> Fields | None:
    try:
        found = json.loads(text, strict=False, parse_int=_bounded_int, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _bounded_int(digits: str) -> int | None:
    return int(digits) if len(digits) <= NUMBER_DIGITS_MAX else None


def _no_number(_word: str) -> None:
    """NaN and the infinities are no value."""


def _repaired(text: str) -> Fields | None:
    """The fields of an object in which a quote inside a text was not escaped."""
    if len(text) > REPAIR_BYTES_MAX:
        return None
    pairs = {key: quoted if quoted or not bare else bare for key, quoted, bare in _PAIR.findall(text)}
    return pairs or None


def _form(text: str) -> Fields | None:
    if not _FORM.match(text):
        return None
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX)) or None
    except ValueError:
        return None
