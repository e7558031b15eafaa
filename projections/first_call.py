"""``python -m projections.first_call``: watch the first call of a new PBX and tick off what came.

Prints a line as each fact arrives: start, end, recording, clock. Exit status: 0 the call ended, 1 no whole call within
the time, or the API does not answer; 2 wrong use.
"""

import argparse
import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

POLL_S: Final = 0.5
CLOCK_TOLERATED_S: Final = 120.0

Call = Mapping[str, Any]


def told(call: Call) -> dict[str, str]:
    """What is known of the call, each fact by its name: a mark and a sentence. Pure."""
    facts: dict[str, str] = {}
    agent, reported = call["agent"]["extension"] or call["agent"]["email"] or "nobody known", "reported"
    if call["started_at_source"] == reported:
        facts["start"] = f"✔ {call['direction']}, {call['caller']} to {call['callee']}, agent {agent}"
    elif call["status"] != "open":
        facts["start"] = f"- none came: this PBX reports ended calls only; agent {agent}"
    if call["status"] == "ended":
        facts["end"] = f"✔ {call['outcome']}, duration {call['duration_s']} s"
        facts["recording"] = f"✔ {call['recording_url']}" if call["recording_url"] else "- none was sent"
    if call["status"] == "end_missed":
        facts["end"] = f"✘ it never came ({call['end_reason']})"
    if "start" in facts or "end" in facts:
        facts["clock"] = _clock(call)
    return facts


def _clock(call: Call) -> str:
    """How long after the reported moment its first word was received; a right clock gives seconds, ringing included."""
    # Of an open call the first word was the start; of a call that was never seen open, the end.
    at = call["started_at"] if call["status"] == "open" else call["ended_at"] or call["started_at"]
    if at is None:
        return "- no time was sent"
    late_s = (_moment(call["first_received_at"]) - _moment(at)).total_seconds()
    if abs(late_s) <= CLOCK_TOLERATED_S:
        return f"✔ {late_s:+.1f} s"
    return f"✘ {late_s:+.0f} s: set the PBX's clock (NTP) and PBX_TIMEZONE, see docs/3cx.md"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _newest(url: str, token: str | None, since: datetime, pbx: str | None) -> Call | None:
    """The oldest call received since then; raises OSError, ValueError when the API does not answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    query = f"?pbx={pbx}" if pbx else ""
    request = urllib.request.Request(f"{url}/api/v1/calls{query}", headers=headers)  # noqa: S310 - http or https, checked
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - the same
        calls = json.load(answer)["calls"]
    fresh = [call for call in calls if _moment(call["first_received_at"]) >= since]
    return fresh[-1] if fresh else None


def watch(url: str, token: str | None, pbx: str | None, timeout_s: float) -> Iterator[tuple[str, str]]:
    """Each fact of the first call from now on, once, as it arrives; ends when the call has ended."""
    since = datetime.now(UTC)
    deadline = time.monotonic() + timeout_s
    seen: set[str] = set()
    pause = threading.Event()  # nobody sets it: it waits
    while time.monotonic() < deadline:
        call = _newest(url, token, since, pbx)
        facts = told(call) if call is not None else {}
        for name, fact in facts.items():
            if name not in seen:
                seen.add(name)
                yield name, fact
        if call is not None and call["status"] != "open":
            return
        pause.wait(POLL_S)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m projections.first_call", description="Watch a PBX's first call.")
    parser.add_argument("--url", default="http://127.0.0.1:8081", help="of the projections")
    parser.add_argument("--pbx", help="of one of several PBXs")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="give up after so long (600)")
    options = parser.parse_args(arguments)
    if not options.url.startswith(("http://", "https://")):
        parser.error("--url begins with http:// or https://")
    token = environment.get("CALLSTREAM_TOKEN")
    sys.stdout.write("waiting: call an extension from outside, talk for ten seconds, hang up\n")
    sys.stdout.flush()
    seen = set()
    try:
        for name, fact in watch(options.url.rstrip("/"), token, options.pbx, options.timeout):
            seen.add(name)
            sys.stdout.write(f"{name:>9} {fact}\n")
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{options.url} does not answer as the projections do ({error}); token in CALLSTREAM_TOKEN?\n")
        return 1
    if "end" in seen:
        return 0
    sys.stderr.write("no whole call came in time; see 'Troubleshooting' in docs/3cx.md\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
