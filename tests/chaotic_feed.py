"""A seeded feed in which everything goes wrong that can: for properties of the pure core, not for single rules."""

import json
from random import Random
from typing import Any

from events.envelope import Envelope, Type
from processors.rules import Rules
from processors.task import InputRecord
from tests.builders import DID, at, end, start
from tests.builders import Log as Feed

RULES = Rules(
    call_duration_max_s=100,
    superseded_grace_s=60,
    ring_max_s=120,
    tolerance_s=10,
    closed_kept_s=400,
    repeat_window_s=10,
    absence_grace_s=10,
)
"""Short spans, so that a feed of some minutes goes beyond every one of them."""

AGENTS = ("201", "202", "203", "800", None)
PARTIES = ("+41225551234", "0041225551234", "225551234", "+41225559999", "anonymous", None, "77")
DIRECTIONS = ("Inbound", "Inbound", "Inbound", "Outbound", "Internal", "sideways", "Missed", "Notanswered")
PBXS = ("default", "geneva")


def chaotic_feed(seed: int, webhooks: int = 60) -> list[InputRecord]:
    """Records of one partition: lost, repeated, late and disordered webhooks, silences, two ingest instances."""
    random = Random(seed)
    feeds = (Feed(instance="a"), Feed(instance="b"))
    records: list[InputRecord] = []
    sent: list[tuple[str, dict[str, Any]]] = []
    lists = Random(f"lists {seed}")
    now_s = 0.0
    for number in range(webhooks):
        now_s += random.choice((0.0, 0.3, 1.0, 4.0, 9.0, 9.9, 25.0 if random.random() < 0.1 else 2.0))
        feed = feeds[random.random() < 0.2]
        if random.random() < 0.7:
            feed.tick(now_s)
        again = sent and random.random() < 0.15
        pbx, body = random.choice(sent) if again else (random.choice(PBXS), chaotic_body(random, now_s))
        sent.append((pbx, body))
        feed.now_s = now_s + 10**6  # ticks are made here, irregularly, not by the builder
        feed.sequence += 1
        said = Envelope(
            f"w{number}", pbx, Type.WEBHOOK_RECEIVED, at(now_s), "application/json", feed.instance, feed.sequence
        )
        feed.record(json.dumps(body).encode(), said)
        records += _taken(feeds)
        if lists.random() < 0.4:
            feed.listing(
                now_s, *chaotic_list(lists), asked_s=now_s - lists.choice((0, 0, 2, 9)), pbx=lists.choice(PBXS)
            )
            records += _taken(feeds)
        if lists.random() < 0.15:
            feed.history(
                now_s, (lists.choice(AGENTS[:3]) or "", str(lists.choice(PARTIES[:4])), now_s - 60, now_s - 5, 40)
            )
            records += _taken(feeds)
    return [
        InputRecord(record.partition, offset, record.key, record.value, record.headers)
        for offset, record in enumerate(records)
    ]


def chaotic_list(random: Random) -> list[tuple[str, str, str]]:
    """Active calls that have little to do with the truth; ids come again."""
    ids = random.sample("123456", random.choice((0, 1, 1, 2, 4)))
    return [(one, f"10000 {random.choice(PARTIES)}", f"{random.choice(AGENTS)} Agent") for one in ids]


def _taken(feeds: tuple[Feed, ...]) -> list[InputRecord]:
    made = [record for feed in feeds for record in feed.records]
    for feed in feeds:
        feed.records.clear()
    return made


def chaotic_body(random: Random, now_s: float) -> dict[str, Any]:
    """A start or an end of few agents and parties, so that most of them touch each other."""
    common: dict[str, Any] = {"direction": random.choice(DIRECTIONS), "callee": random.choice((DID, "201", "77", None))}
    if random.random() < 0.2:
        common["callId"] = str(random.randrange(4))
    if random.random() < 0.3:
        common["agentMail"] = random.choice(("ann@x.ch", "bob@x.ch"))
    agent, party = random.choice(AGENTS), random.choice(PARTIES)
    reported = None if random.random() < 0.2 else int(now_s) - random.choice((0, 0, 1, 5, 60, -5, 200))
    if random.random() < 0.55:
        common["direction"] = random.choice(DIRECTIONS[:6])
        return start(agent, party, reported, **common)
    duration = random.choice((None, 0, 5, 20, 60, 200))
    if random.random() < 0.2:
        common["wav"] = "https://pbx/1.wav"
    return end(agent, party, reported if duration else int(now_s), duration, **common)
