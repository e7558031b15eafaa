"""What odd records lead to, as a digest, to compare two builds: ``python -m tests.odd_records SEED COUNT``.

Keys of every field with values of every kind, numbers at the ends of what a float or 64 bits hold, broken JSON, headers
without a value or with a wrong one, records without key or value.
"""

import hashlib
import json
import sys
from random import Random
from typing import Any

from events.fields import NAMES
from processors.task import InputRecord
from tests.builders import new_task

KEYS = [key for keys in NAMES.values() for key in keys]
TEXTS = (
    *("", " ", "[Call]", "null", "00:04:32", "1:2", "PT4M", "4,5", "\0x", "Inbound", "Missed", "201", "007", "a@b.ch"),
    *(
        "2026-11-24T10:00:00Z",
        "24.11.2026 10:00",
        "11/24/2026 10:00 PM",
        "\u0662\u0660\u0662\u0666-\u0661\u0661-\u0662\u0664",
        "anonymous",
    ),
    *("+41225551234", "0041 22 555 12 34", "Bob <+41225551234>"),
)
CONTENT_TYPES = (b"application/json", b"", b"\xff", b"text/plain; charset=latin1", b"application/x-www-form-urlencoded")
NO_HEADER_VALUES = (None, b"", b"\xff\xfe", b"-5", b"9" * 30, b"x")
TICKS = 633_663_648_000_000_010


def number(chance: Random) -> float | None:
    """Also null, and the two that Python takes for numbers."""
    around = chance.choice((0, 10**15, 1_764_000_000, 1_764_000_000_000, TICKS, 10**18, 2**53, 2**63, 2**64))
    whole = around + chance.randint(-1_000, 1_000_000)
    return chance.choice((whole, -whole, whole / 7, float(whole), chance.random(), True, False, None))


def text(chance: Random) -> str:
    """One of every day, a number, or any characters."""
    drawn = "".join(chr(chance.choice((chance.randint(32, 126), chance.randint(0, 0x2FFF)))) for _ in range(9))
    return chance.choice((*TEXTS, str(number(chance)), drawn))


def body(chance: Random) -> bytes:
    """A JSON object, now and then with a few wrong bytes in it."""
    fields: dict[str, Any] = {}
    for _ in range(chance.randint(0, 9)):
        value = chance.choice((number(chance), text(chance), text(chance), [1], {"a": 1}))
        fields[chance.choice((*KEYS, text(chance)))] = value
    drawn = json.dumps(fields, ensure_ascii=chance.random() < 0.5).encode()
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        at = chance.randrange(len(drawn))
        drawn = drawn[:at] + bytes([chance.randrange(256)]) + drawn[at + chance.randint(0, 2) :]
    return drawn


def headers(chance: Random, number_of: int) -> list[tuple[str, Any]]:
    """Those of ingest; one in three records has a wrong one."""
    drawn: list[tuple[str, Any]] = [
        ("ce_id", b"%d" % number_of),
        ("ce_source", b"/pbx/default"),
        ("ce_type", b"threecx.webhook.received"),
        ("ce_time", b"2026-11-24T12:%02d:%02d.000000Z" % (number_of // 60 % 60, number_of % 60)),
        ("content-type", chance.choice(CONTENT_TYPES)),
        ("ingest", b"ingest-1"),
        ("ingest_sequence", b"%d" % number_of),
    ]
    if chance.random() < 1 / 3:
        wrong = chance.randrange(len(drawn))
        drawn[wrong] = drawn[wrong][0], chance.choice(NO_HEADER_VALUES)
    return drawn


def digest(seed: int, count: int) -> str:
    """Of all that the records lead to."""
    chance, task, found = Random(seed), new_task(), hashlib.sha256()
    for offset in range(count):
        key, value = chance.choice((b"default", b"\xff", None)), chance.choice((body(chance), body(chance), None))
        batch = task.process([InputRecord(0, offset, key, value, headers(chance, offset))])
        told = batch.session_events, batch.dead_letters, list(batch.changelog.items()), sorted(batch.counts.items())
        found.update(repr(told).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(digest(int(sys.argv[1]), int(sys.argv[2])))
