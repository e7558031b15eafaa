"""Standard Webhooks signatures (`webhook-id`, `webhook-timestamp`, `webhook-signature`), by the library of that name.

Source: https://www.standardwebhooks.com. A timestamp more than five minutes off our clock is refused (the library's
window); within it the same message may come again, which the processors recognise as a repeat.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import Final

from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError
from standardwebhooks.webhooks import EmptyWebhookSecretError

from events.settings import ConfigurationError

_NAMES: Final = (b"webhook-id", b"webhook-timestamp", b"webhook-signature")

Keys = Sequence[Webhook]


def keys_of(variable: str, *secrets: SecretStr) -> tuple[Webhook, ...]:
    """The keys in comma-separated texts (``whsec_…``); raises ConfigurationError naming `variable`, never the key."""
    words = (word.strip() for secret in secrets for word in secret.get_secret_value().split(","))
    try:
        return tuple(Webhook(_key_of(word)) for word in words if word)
    except (ValueError, EmptyWebhookSecretError):
        message = f"{variable}: a signature key is not base64; write it as whsec_ and the base64 of its bytes"
        raise ConfigurationError(message) from None


def _key_of(word: str) -> bytes:
    """The bytes of ``whsec_…``. The library's decoding passes over what is no base64: a slip would be another key."""
    text = word.removeprefix("whsec_").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def is_signed(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether each of the three headers was sent, once."""
    return sorted(name for name, _ in headers if name in _NAMES) == sorted(_NAMES)


def is_valid(headers: Iterable[tuple[bytes, bytes]], body: bytes, keys: Keys) -> bool:
    """Whether one of the keys signed this body; every key is tried. The body must be UTF-8, as the library reads it."""
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in _NAMES}
    valid = [_verifies(key, named, body) for key in keys]
    return any(valid)


def _verifies(key: Webhook, headers: dict[str, str], body: bytes) -> bool:
    try:
        key.verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):
        return False
    return True
