"""``python -m events.probe [SERVICE]``: exit status 0 when the service on this machine says that it is well, else 1.

For health checks in an image that has no shell and no curl. Without SERVICE it asks the one that process 1 runs, or
none when that is a command: what ends by itself is watched by its exit status.
"""

import http.client
import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 3.0
ENDPOINTS: Final[Mapping[str, tuple[int, str]]] = {
    "ingest": (8080, "/webhook/3cx/health"),
    "processors": (8082, "/health"),
    "projections": (8081, "/health"),
    "polling": (8083, "/health"),
}
"""Service to its default port and the path of its health."""


def service_of(command_line: Sequence[str]) -> str | None:
    """The service that ``python -m SERVICE`` runs; null for anything else, such as ``python -m processors replay``.

    The poller, ``python -m ingest poll``, is `polling`.
    """
    if list(command_line[-3:]) == ["-m", "ingest", "poll"]:
        return "polling"
    return command_line[-1] if command_line[-2:-1] == ["-m"] and command_line[-1] in ENDPOINTS else None


def asked(service: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """HTTP status and status word of the answer; raises OSError, HTTPException or ValueError when there is none."""
    default, path = ENDPOINTS[service]
    port = int(environment.get(f"{service.upper()}_PORT") or default)
    connection: http.client.HTTPConnection
    if service == "ingest" and environment.get("INGEST_TLS_CERTIFICATE_FILE"):
        # The certificate names the public address; here it is asked by the loopback address, of the same machine.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001 - the standard library's own name for it
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        told = json.loads(answer.read())
    finally:
        connection.close()
    return answer.status, str(told.get("status")) if isinstance(told, dict) else "unknown"


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """0 well or nothing to ask, 1 not well, 2 no such service."""
    if arguments and arguments[0] not in ENDPOINTS:
        sys.stderr.write(f"no service {arguments[0]!r}; one of {', '.join(ENDPOINTS)}\n")
        return 2
    command_line = Path("/proc/1/cmdline").read_text("utf-8").rstrip("\0").split("\0")
    service = arguments[0] if arguments else service_of(command_line)
    if service is None:
        return 0
    try:
        status, word = asked(service, environment)
    except (OSError, http.client.HTTPException, ValueError) as error:
        sys.stderr.write(f"{service} does not answer ({error!r}); see its log\n")
        return 1
    sys.stdout.write(f"{service}: {status} {word}\n")
    return 0 if status == http.client.OK and word == "ok" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
