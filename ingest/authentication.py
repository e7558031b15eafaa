"""Who gets in: the client's address, decided in one place, and the secret, compared in constant time. Pure."""

import hmac
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from ingest.settings import Network

Address = IPv4Address | IPv6Address
SECRET_HEADER = b"x-webhook-secret"
FORWARDED_HEADER = b"x-forwarded-for"

Headers = Iterable[tuple[bytes, bytes]]


def is_known_secret(headers: Headers, secrets: Sequence[bytes]) -> bool:
    """Whether exactly one secret was sent and it is one of the valid ones; true when there are none to know.

    Bytes are compared, with every valid secret and without an early exit: time tells nothing, and no header raises.
    """
    if not secrets:
        return True
    sent = [value for name, value in headers if name == SECRET_HEADER]
    given = sent[0] if len(sent) == 1 else b""
    matches = [hmac.compare_digest(given, secret) for secret in secrets]
    return len(sent) == 1 and any(matches)


def client_address(peer: str, headers: Headers, trusted: Sequence[Network]) -> Address | None:
    """The client: from the right end of X-Forwarded-For, trusted hops skipped; null when an address is unreadable.

    Without trusted proxies the header is not looked at: anybody can write it.
    """
    if not trusted:
        return _address(peer.encode())
    hops = [hop for name, value in headers if name == FORWARDED_HEADER for hop in value.split(b",")]
    chain = [*hops, peer.encode()]
    for hop in reversed(chain):
        address = _address(hop)
        if address is None or not is_within(address, trusted):
            return address
    return _address(chain[0])


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether one of the networks holds the address."""
    return any(address.version == network.version and address in network for network in networks)


def _address(text: bytes) -> Address | None:
    """``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1``, ``[2001:db8::1]``, ``[2001:db8::1]:80``; null for all else."""
    host, port = text.strip(b" \t"), b""
    if host.startswith(b"["):
        host, bracket, port = host[1:].partition(b"]")
        if not bracket or b":" not in host:
            return None
    elif host.count(b":") == 1:
        at = host.index(b":")
        host, port = host[:at], host[at:]
    if (port and not _PORT.fullmatch(port)) or not _WRITTEN.fullmatch(host):
        return None
    try:
        address = ip_address(host.decode("ascii"))
    except ValueError:
        return None
    # An IPv4 client on an IPv6 socket is that IPv4 client.
    return getattr(address, "ipv4_mapped", None) or address


_PORT: Final = re.compile(rb":\d{1,5}")
_WRITTEN: Final = re.compile(rb"[0-9a-fA-F:.]{2,45}")
"""No zone (``%eth0``): it means something on one machine only, and no proxy has reason to send it."""
