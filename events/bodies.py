"""A request's body as fields: a JSON object, or form fields; tolerant of what templates really print.

Steps, each only when the one before refused: strict JSON; patient JSON (byte order mark, raw newline, wrong charset,
NUL, NaN, lone surrogates); a repair of an object whose texts hold bare quotes or whose values lack them; form fields.
Nothing here raises, whatever the bytes; every step is linear in the body's size. Of a key sent twice the last counts.
"""

import codecs
import json
import re
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from events.digits import Number

Fields = dict[str, Any]

FIELDS_MAX: Final = 200
"""A body with more fields is no webhook."""
NUMBER_DIGITS_MAX: Final = 18
"""A longer whole number is no value of a call; reading it would cost more than linear time."""

_KEY = re.compile(r'[{,]\s{0,64}"([^"\\\s]{1,64})"\s{0,8}:')
_FORM = re.compile(r"[\w.%+\[\]-]{1,100}=")
_CHARSET = re.compile(r"charset=[\"']?([\w-]{1,40})", re.IGNORECASE)
_OF_TEXT = re.compile(r"(?:ascii|cp|iso8859|koi8|kz|mac|ptcp|hp|tis|big5|gb|hz|euc|iso2022|johab|shift_jis)[\w-]{0,20}")
"""The codecs of what people write, by Python's names: each is linear. Punycode is not: 64 KiB took 0.7 s."""
_PLUS_OF_NUMBER = re.compile(r" (?=[1-9]\d{6})")
_ESCAPES: Final = {'\\"': '"', "\\/": "/", "\\\\": "\\", "\\n": "\n", "\\t": "\t", "\\r": "\r"}
_ESCAPE = re.compile(r"\\(?:[\"/\\ntr]|u([0-9a-fA-F]{4}))")
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


def fields_of(body: bytes, content_type: str | None) -> Fields | None:
    """The body's fields, with keys and values as sent; null when it is neither a JSON object nor form fields."""
    try:
        strict = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _patiently(body, content_type)
    return strict if isinstance(strict, dict) and len(strict) <= FIELDS_MAX else None


def _patiently(body: bytes, content_type: str | None) -> Fields | None:
    text = _text(body, content_type).replace("\0", "").replace("\ufeff", "").strip()
    if not text.startswith("{"):
        return _form(text)
    found = _patient_json(text)
    if found is None:
        return _repaired(text)
    return found if len(found) <= FIELDS_MAX else None


def _text(body: bytes, content_type: str | None) -> str:
    """The body as text: what the bytes are outranks what the header says they are."""
    if body.startswith(_UTF16):
        return body.decode("utf-16", "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode(_codec(content_type), "replace")


def _codec(content_type: str | None) -> str:
    """The codec that the header names. One that says UTF-8 is wrong, or nobody would ask."""
    named = _CHARSET.search(content_type or "")
    try:
        codec = "" if named is None else codecs.lookup(named.group(1)).name
    except LookupError:
        codec = ""
    return codec if _OF_TEXT.fullmatch(codec) else "cp1252"


def _patient_json(text: str) -> Fields | None:
    try:
        found = json.loads(text, strict=False, parse_int=_bounded, parse_constant=_unbounded)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _bounded(digits: str) -> Number:
    return int(digits) if len(digits) <= NUMBER_DIGITS_MAX else float("nan")


def _unbounded(_word: str) -> Number:
    """NaN and the infinities: there was a value, and it cannot be read."""
    return float("nan")


def _repaired(text: str) -> Fields | None:
    """The fields of a broken object: a value is whatever stands between its key and the next one.

    So a bare quote inside a text, a text without quotes (``"duration": 00:04:32``), an empty place and a last comma
    are all read. A text that itself holds ``, "key":`` is cut there; nothing better can be known.
    """
    keys = list(islice(_KEY.finditer(text), FIELDS_MAX + 1))
    if not 0 < len(keys) <= FIELDS_MAX:
        return None
    ends = [key.start() for key in keys[1:]] + [len(text)]
    return {key[1]: _value(text[key.end() : end], last=end == len(text)) for key, end in zip(keys, ends, strict=True)}


def _value(raw: str, *, last: bool) -> str | None:
    bare = raw.strip().removesuffix(",").rstrip()
    if last:
        bare = bare.removesuffix("}").rstrip().removesuffix(",").rstrip()
    if len(bare) > 1 and bare.startswith('"') and bare.endswith('"'):
        return _ESCAPE.sub(_unescaped, bare[1:-1])
    return None if bare in {"", "null"} else bare.strip('"')


def _unescaped(escape: re.Match[str]) -> str:
    return _ESCAPES.get(escape[0]) or chr(int(escape[1], 16))


def _form(text: str) -> Fields | None:
    if not _FORM.match(text):
        return None
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        return None
    return {key: _plus(value) for key, value in pairs} or None


def _plus(value: str) -> str:
    """A plus before a number that was sent bare and decoded as a blank; `dates` knows the one before an offset."""
    return _PLUS_OF_NUMBER.sub("+", value, count=1) if value.startswith(" ") else value
