"""Faults of the network below TCP, in a namespace of our own: its loopback is all that the site's processes share.

Each pair of processes talks over a port of its own (the brokers have a listener per service), so rules of the kernel's
packet filter on these ports cut, break, lose or narrow what runs between the two, and nothing else. Root only.
"""

import asyncio
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from deploy.local.broker import HOST

_CLONE_NEWNET = 0x40000000
MTU_BYTES = 1500
"""As on a wire: loopback's own 65,536 would make of most requests one packet."""
LOSS = "0.3"
NARROW = "10kb/s"
"""All that the two say to each other together."""

_MATCHES = {
    "one-way cut": ("-j", "DROP"),
    "two-way cut": ("-j", "DROP"),
    "resets": ("-j", "REJECT", "--reject-with", "tcp-reset"),
    "loss": ("-m", "statistic", "--mode", "random", "--probability", LOSS, "-j", "DROP"),
    "narrow": ("-m", "hashlimit", "--hashlimit-above", NARROW, "--hashlimit-burst", "20kb", "--hashlimit-name", "all",
               "-j", "DROP"),
}  # fmt: skip
KINDS = tuple(_MATCHES)


def own_network() -> None:
    """From now on this process and its children have a loopback of their own, and nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network of our own can be had")
    for words in (("up",), ("mtu", str(MTU_BYTES))):
        _run("ip", "link", "set", "lo", *words)


def trouble(kind: str, ports: Iterable[int], *, to_server: bool = True) -> None:
    """Bring the fault upon these ports; of a one-way cut `to_server` says which way."""
    for port in ports:
        for way in _ways(kind, to_server=to_server):
            _run("iptables", "-w", "-A", "INPUT", "-p", "tcp", "-d", HOST, way, str(port), *_MATCHES[kind])


async def has_met_a_packet() -> bool:
    """Whether any packet was dropped or refused since the trouble began."""
    listed = await asyncio.to_thread(_run, "iptables", "-w", "-nvxL", "INPUT")
    return any(line.split()[0] != "0" for line in listed.splitlines()[2:])


def heal() -> None:
    """No fault any more."""
    _run("iptables", "-w", "-F", "INPUT")


def _ways(kind: str, *, to_server: bool) -> Sequence[str]:
    if kind == "one-way cut":
        return ("--dport",) if to_server else ("--sport",)
    if kind == "resets":
        return ("--dport",)  # the reset itself must come back
    return ("--dport", "--sport")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_possible() -> bool:
    """Whether we may, and have what it takes."""
    return os.geteuid() == 0 and shutil.which("iptables") is not None
