"""Call sessions with Python: read all there is, print the last revision of each as a line of JSON.

python call_sessions.py 127.0.0.1:9092 threecx.call-sessions
"""

import asyncio
import json
import sys
from typing import Any

from aiokafka import AIOKafkaConsumer

SESSION_EVENTS = {b"call.started", b"call.ended", b"call.end_missed", b"call.corrected"}


async def read(servers: str, topic: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The sessions by their id, and per PBX when ingest last received a webhook."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        isolation_level="read_committed",  # else events would be seen that were taken back
        auto_offset_reset="earliest",
        enable_auto_commit=False,  # positions belong to what they led to: keep both in one transaction
        group_id=None,  # every partition is ours
    )
    await consumer.start()
    try:
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)  # with read_committed: where the first open transaction begins
        sessions: dict[str, Any] = {}
        received_at: dict[str, str] = {}
        # The position passes what was aborted; the last record's offset would not: an end is a position.
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    take(dict(record.headers).get("ce_type"), record.value, sessions, received_at)
        return sessions, received_at
    finally:
        await consumer.stop()


def take(kind: bytes | None, value: bytes, sessions: dict[str, Any], received_at: dict[str, str]) -> None:
    """One record: of all events of a session, the one with the highest revision holds."""
    if kind == b"threecx.feed.progress":
        received_at.update(json.loads(value)["received_at"])
    if kind not in SESSION_EVENTS:
        return  # a type of the future: skipped
    session = json.loads(value)["session"]
    held = sessions.get(session["session_id"])
    if held is None or session["revision"] > held["revision"]:
        sessions[session["session_id"]] = session


def main() -> None:
    """Print the sessions, then a summary; as of when, on the standard error."""
    sessions, received_at = asyncio.run(read(*sys.argv[1:3]))
    for session in sessions.values():
        sys.stdout.write(json.dumps(session) + "\n")
    talk_time_s = sum(session["duration_s"] or 0 for session in sessions.values())
    sys.stdout.write(json.dumps({"summary": {"sessions": len(sessions), "talk_time_s": talk_time_s}}) + "\n")
    for pbx, moment in sorted(received_at.items()):
        sys.stderr.write(f"{pbx}: last webhook {moment}\n")


if __name__ == "__main__":
    main()
