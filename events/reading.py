"""Reading a body: what a webhook says, in one tolerant place. Pure: the same bytes at the same time read the same.

Steps: the body as fields (`bodies`), the fields of a call among them (`fields`), what they say (`understanding`); and
for the person who sets up 3CX the same in words (`explaining`). Source: the design, section 4; 3cx.md, section 1.
"""

from datetime import datetime
from typing import Final

from events import bodies, explaining, fields, understanding
from events.explaining import Explanation
from events.fields import Field
from events.pbx import Pbx
from events.webhook import End, Reading, Start, Unreadable

NO_FIELDS: Final = "the body is neither a JSON object nor form fields"
NO_KNOWN_FIELD: Final = "the body has none of the fields of a call"
NO_VALUE: Final = "every field of a call in the body is empty or an unresolved variable"
BUG: Final = "a bug of ours: reading the body failed"

_NO_CALL_BY_THEMSELVES: Final = frozenset(("direction", "call_type"))

__all__ = [
    "BUG",
    "NO_FIELDS",
    "NO_KNOWN_FIELD",
    "NO_VALUE",
    "Explanation",
    "agent_key",
    "explain",
    "has_fields",
    "read",
]


def read(body: bytes, content_type: str | None, received_at: datetime, pbx: Pbx) -> Reading:
    """What the webhook says; never raises, whatever the bytes.

    A bug of ours costs the one body that it meets: were it raised, all that comes behind that body would wait for ever.
    """
    try:
        return _read(body, content_type, received_at, pbx)
    except MemoryError:  # tells nothing of the body
        raise
    except Exception as bug:  # noqa: BLE001 -- whoever buries the body logs it
        return Unreadable(f"{BUG} ({type(bug).__name__})", bug)


def has_fields(body: bytes, content_type: str | None) -> bool:
    """Whether the body has fields, of a call or not; one that meets a bug of ours may have: who reads it says so."""
    try:
        return bodies.fields_of(body, content_type) is not None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 -- `read` meets it again, and who buries the body logs it
        return True


def _read(body: bytes, content_type: str | None, received_at: datetime, pbx: Pbx) -> Reading:
    sent = bodies.fields_of(body, content_type)
    if sent is None:
        return Unreadable(NO_FIELDS)
    known = fields.known(sent)
    reason = _why_no_call(known)
    return understanding.understand(known, received_at, pbx) if reason is None else Unreadable(reason)


def _why_no_call(known: dict[str, Field]) -> str | None:
    """Why the fields tell of no call at all, null when they do: a direction alone is no call."""
    if not known:
        return NO_KNOWN_FIELD
    for name, field in known.items():
        if field.value is not None and name not in _NO_CALL_BY_THEMSELVES:
            return None
    return NO_VALUE


def agent_key(reading: Reading) -> str | None:
    """The extension, for ``INGEST_KEY=agent``; null when the body names none."""
    match reading:
        case Start() | End():
            return reading.extension
        case Unreadable():
            return None


def explain(body: bytes, content_type: str | None, received_at: datetime, pbx: Pbx) -> Explanation:
    """How `read` would understand the body, field by field; never raises."""
    found = read(body, content_type, received_at, pbx)
    if isinstance(found, Unreadable) and found.bug is not None:
        return explaining.nothing("unreadable", found.reason, {})
    sent = bodies.fields_of(body, content_type)
    if sent is None:
        return explaining.nothing("unreadable" if body.strip() else "test", NO_FIELDS, {})
    known = fields.known(sent)
    if not known:
        return explaining.nothing("test", NO_KNOWN_FIELD, sent)
    return explaining.explain(sent, received_at, pbx, _why_no_call(known))
