"""The client's address against an independent model: ``python -m tests.chains --chains 100000 --seed 1``.

The model knows no `ipaddress`: it works on the bytes of `inet_pton`. Chains hold what proxies send and attackers write:
ports, brackets, IPv4 in IPv6, garbage, blanks, empty places, several headers, trusted hops at every place.
"""

import argparse
import random
import re
import socket
import sys
from typing import Final

from ingest.authentication import client_address
from ingest.settings import networks_of

TRUSTED: Final = "10.0.0.0/8, 192.0.2.7/32, 2001:db8:1::/48, 127.0.0.1/32"
PREFIXES: Final = (
    *((socket.AF_INET, "10.0.0.0", 8), (socket.AF_INET, "192.0.2.7", 32), (socket.AF_INET, "127.0.0.1", 32)),
    (socket.AF_INET6, "2001:db8:1::", 48),
)
MAPPED: Final = bytes(10) + b"\xff\xff"
GARBAGE: Final = (
    *(
        b"",
        b"unknown",
        b"_hidden",
        b"10.0.0",
        b"10.0.0.256",
        b"010.0.0.1",
        b"1.2.3.4:",
        b"1.2.3.4:x",
        b"1.2.3.4:1234567",
    ),
    *(b"[10.0.0.1]", b"[::1", b"::1]", b"[::1]x", b"[[::1]]", b"fe80::1%eth0", b"10.0.0.1 10.0.0.2", b"\xff\xfe", b"'"),
    *(b"1.2.3.4\0", b":::", b"10.0.0.1/8", b'"10.0.0.1"', b"for=10.0.0.1", b"2130706433", b"1.2.3.4:80:90", b":80"),
    *(b"0x7f.1", b"[]:80"),
)


def packed(hop: bytes) -> bytes | None:
    """The model's address: 4 or 16 bytes; null for garbage."""
    text = hop.decode("latin-1").strip(" \t")
    with_port = re.match(r"^(?:\[([^\]]*:[^\]]*)\]|([0-9.]+)|([^\[\]]*:[^\[\]]*:[^\[\]]*))(:[0-9]{1,5})?$", text)
    if with_port is None:
        return None
    bracketed, four, six, port = with_port.groups()
    if six is not None:
        bracketed, port = six + (port or ""), None
    try:
        found = socket.inet_pton(socket.AF_INET, four) if four else socket.inet_pton(socket.AF_INET6, bracketed)
    except (OSError, ValueError):
        return None
    return found[12:] if found.startswith(MAPPED) and len(found) == 16 else found


def is_trusted(address: bytes) -> bool:
    """Whether the first bits are those of a trusted network of that family."""
    for family, text, bits in PREFIXES:
        network = socket.inet_pton(family, text)
        if len(network) == len(address):
            shift = len(network) * 8 - bits
            if int.from_bytes(network, "big") >> shift == int.from_bytes(address, "big") >> shift:
                return True
    return False


def model(peer: str, headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The address of the client, said another way: drop trusted hops from the right, and look at what is left."""
    chain = b",".join([value for name, value in headers if name == b"x-forwarded-for"])
    hops = [*(chain.split(b",") if any(name == b"x-forwarded-for" for name, _ in headers) else ()), peer.encode()]
    while len(hops) > 1 and (found := packed(hops[-1])) is not None and is_trusted(found):
        hops.pop()
    return packed(hops[-1])


def address(rng: random.Random) -> bytes:
    """One hop as somebody writes it."""
    kind = rng.randrange(10)
    four = socket.inet_ntop(socket.AF_INET, rng.randbytes(4))
    if kind < 4:
        four = (
            f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}" if rng.random() < 0.8 else "192.0.2.7"
        )
    six = socket.inet_ntop(
        socket.AF_INET6, rng.choice((b"\x20\x01\x0d\xb8\x00\x01", rng.randbytes(6))) + rng.randbytes(10)
    )
    text = rng.choice(
        (four, four, f"::ffff:{four}", six, f"[{six}]", f"[{six}]:443", f"{four}:{rng.randrange(70_000)}")
    )
    text = text.upper() if rng.random() < 0.1 else text
    hop = text.encode() if kind < 9 else rng.choice(GARBAGE)
    return rng.choice((b"", b" ", b"\t ", b"")) + hop + rng.choice((b"", b"", b" "))


def disagreements(chains: int, seed: int) -> list[str]:
    """Generate so many chains; a sentence for each on which the two differ."""
    rng = random.Random(seed)
    trusted = networks_of(TRUSTED)
    wrong = []
    for _ in range(chains):
        hops = [address(rng) for _ in range(rng.choices((0, 1, 2, 3, 8), (5, 20, 40, 25, 10))[0])]
        cut = rng.randrange(len(hops) + 1)
        headers = [(b"x-forwarded-for", b",".join(part)) for part in (hops[:cut], hops[cut:]) if part]
        headers.insert(rng.randrange(len(headers) + 1), (b"x-real-ip", b"10.0.0.1"))
        peer = address(rng).decode("latin-1").strip(" \t")
        found = client_address(peer, headers, trusted) if peer.isascii() else None
        expected = model(peer, headers) if peer.isascii() else None
        if (None if found is None else found.packed) != expected:
            wrong.append(f"{peer} {headers}: {found}, but the model says {expected!r}")
    return wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chains")
    parser.add_argument("--chains", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wrong = disagreements(options.chains, options.seed)
    print("\n".join(wrong[:10]))
    print(f"seed {options.seed}: {options.chains} chains, {len(wrong)} disagreements")
    return min(1, len(wrong))


if __name__ == "__main__":
    sys.exit(main())
