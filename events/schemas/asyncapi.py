"""The AsyncAPI 3.0 document: topics, keys, headers, values, and the rules of delivery. Pure."""

import json
from typing import Any, Final

from events import topics
from events.schemas import shapes
from events.topics import Topic, TopicSet

Document = dict[str, Any]

BINDING: Final = "0.5.0"
PARTITIONS: Final = 12
NAMES: Final = TopicSet("threecx")
KEY: Final = {
    "type": "string",
    "description": "The PBX's name; `{pbx}/{extension}` with INGEST_KEY=agent. It decides the partition of the webhook,"
    " and session events lie in the partition of their webhook.",
}
SESSIONS_RULES: Final = {
    "isolation": "read_committed: exactly once from the webhooks; any other reader sees events that were taken back",
    "order": "per key, in the order in which the evidence came; none between keys",
    "repeats": "a consumer that reads again sees again; ce_id is the same on a repeat",
    "convergence": "of all events of a session_id the one with the highest revision holds, however late it comes",
    "revisions": "count from 1; a gap means that the events between were not read (retention), not that any is missing",
    "unknown": "skip types that are not known; ignore fields that are not known; more of both may come",
    "compaction": "none: the topic keeps every event until its retention is over",
}
WEBHOOKS_RULES: Final = {
    "guarantee": "at least once: ingest sends again after a crash; (ingest, ingest_sequence) is the same then",
    "order": "the order of acceptance, per ingest instance and key",
}
DEAD_LETTERS_RULES: Final = {
    "guarantee": "from the processors exactly once for read_committed; from ingest at least once",
    "order": "none to rely on",
}
PAYLOADS: Final = {
    "Webhook": {"description": "The request's body, byte for byte; `content-type` says what its sender called it."},
    "ClockTick": {"description": "Empty."},
    "CallsListed": {
        "description": "Only where the poller is a witness: `asked_at`, and `calls`, the PBX's active calls, each with"
        " `id`, `caller` and `callee` as the PBX has them."
    },
    "CallsRecorded": {
        "description": "Only where the poller fills back: `calls` of the PBX's history that are over, each with `id`,"
        " `extension`, `number`, `started_at`, `ended_at` and `duration_s` (null: not answered)."
    },
    "DeadLetter": {"description": "The record's value, byte for byte."},
}


def document(version: int) -> Document:
    """The document as JSON values."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Callstream",
            "version": f"{version}.0.0",
            "description": "Call sessions of 3CX phone systems. `threecx.` is the default of KAFKA_TOPIC_PREFIX.",
            "license": {"name": "Apache 2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Your broker.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092", "description": "KAFKA_BOOTSTRAP_SERVERS"}},
            }
        },
        "channels": {
            "callSessions": _channel(topics.CALL_SESSIONS, [model.__name__ for model in shapes.EVENTS.values()]),
            "webhooks": _channel(topics.WEBHOOKS, ["Webhook", "ClockTick", "CallsListed", "CallsRecorded"]),
            "deadLetters": _channel(topics.DEAD_LETTERS, ["DeadLetter"]),
        },
        "operations": {
            "tellSessions": _operation("callSessions", "What Callstream tells about calls.", SESSIONS_RULES),
            "keepWebhooks": _operation("webhooks", "What the PBXs said, as it came.", WEBHOOKS_RULES),
            "buryRecords": _operation("deadLetters", "What could not be used.", DEAD_LETTERS_RULES),
        },
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channel(topic: Topic, messages: list[str]) -> Document:
    return {
        "address": NAMES.name(topic),
        "description": topic.holds,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "kafka": {
                "partitions": PARTITIONS,
                "topicConfiguration": {
                    "cleanup.policy": [topic.configs["cleanup.policy"]],
                    "retention.ms": int(topic.configs["retention.ms"]),
                },
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(channel: str, summary: str, rules: dict[str, str]) -> Document:
    """``x-delivery`` for programs, the same as text for people."""
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "description": "\n".join(f"- {name}: {rule}" for name, rule in rules.items()),
        "x-delivery": rules,
    }


def _messages() -> Document:
    events = {
        model.__name__: _message(name, "headers.session-event", model.__name__, "application/json")
        for name, model in shapes.EVENTS.items()
    }
    raw = "application/octet-stream"
    return {
        **events,
        "Webhook": _message("threecx.webhook.received", "headers.webhook", "Webhook", raw),
        "ClockTick": _message("threecx.clock.tick", "headers.tick", "ClockTick", raw),
        "CallsListed": _message("threecx.calls.listed", "headers.poll", "CallsListed", "application/json"),
        "CallsRecorded": _message("threecx.calls.recorded", "headers.poll", "CallsRecorded", "application/json"),
        "DeadLetter": _message("dead letter", "headers.dead-letter", "DeadLetter", raw),
    }


def _message(name: str, headers: str, payload: str, content_type: str) -> Document:
    key = KEY if payload not in {"FeedProgress", "ClockTick"} else {**KEY, "type": ["string", "null"]}
    return {
        "name": name,
        "contentType": content_type,
        "headers": {"$ref": f"#/components/schemas/{shapes.HEADERS[headers].__name__}"},
        "payload": {"$ref": f"#/components/schemas/{payload}"},
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}},
    }


def _schemas() -> Document:
    """Every shape once, with its references turned to here."""
    found: Document = {**PAYLOADS}
    for model in (*shapes.EVENTS.values(), *shapes.HEADERS.values()):
        schema = shapes.schema_of(model)
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    turned: Document = json.loads(json.dumps(found).replace("#/$defs/", "#/components/schemas/"))
    return dict(sorted(turned.items()))
