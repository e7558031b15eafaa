"""The OpenAPI 3.1 document of the door: what is answered to whom, for machines. Pure."""

from typing import Any, Final

from events.explaining import Explanation

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_REFUSALS: Final = {
    "400": "Not HTTP/1.1 that can be read in one way only.",
    "401": "Secret or signature wrong or missing.",
    "403": "This address may not post.",
    "404": "No such PBX, no such route.",
    "405": "Another method; see Allow.",
    "408": "Head or body came too slowly.",
    "413": "The body is too long.",
    "415": "The body has a Content-Encoding.",
    "417": "Something but 100-continue was expected.",
    "431": "The head is too long.",
    "503": "The journal is full or its disk does not answer; see Retry-After.",
}
_OF_EVENTS: Final = {"422": "Neither a JSON object nor form fields; kept in the dead letters.", "429": "Too fast."}


def document() -> dict[str, Any]:
    """The document."""
    accepted = {
        "type": "object",
        "required": ["status", "id"],
        "properties": {"status": {"const": "accepted"}, "id": {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
    }
    told = {"$ref": "#/components/schemas/Told"}
    event = _post("Accept a webhook.", "202", "On disk, synced.", accepted, _REFUSALS | _OF_EVENTS, _FIELDS)
    # Whatever is sent is told how it is read: nothing is wrong here.
    test = _post("Tell how a body would be read; nothing is recorded.", "200", "Read.", told, _REFUSALS, {})
    pbx = {"name": "pbx", "in": "path", "required": True, "schema": {"type": "string"}, "example": "default"}
    schema = Explanation.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    parts = schema.pop("$defs", {})
    schema["properties"]["status"] = {"const": "ok"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Callstream ingest", "version": "1"},
        "paths": {
            "/webhook/3cx/call-event": {"post": event},
            "/webhook/3cx/test": {"post": test},
            "/webhook/3cx/{pbx}/call-event": {"parameters": [pbx], "post": event},
            "/webhook/3cx/{pbx}/test": {"parameters": [pbx], "post": test},
            "/webhook/3cx/health": {"get": _health()},
            "/metrics": {"get": _get("Prometheus.", {"text/plain": {"schema": {"type": "string"}}})},
            "/openapi.json": {"get": _get("This document.", {"application/json": {"schema": {"type": "object"}}})},
        },
        "components": {
            "schemas": {"Problem": _PROBLEM, "Told": schema, **parts},
            "securitySchemes": {"secret": {"type": "apiKey", "in": "header", "name": "X-Webhook-Secret"}},
        },
    }


def _refusals(which: dict[str, str]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": meaning, "content": content} for status, meaning in which.items()}


_FIELDS: Final[dict[str, Any]] = {"type": "object"}


def _post(
    summary: str,
    status: str,
    meaning: str,
    schema: dict[str, Any],
    refusals: dict[str, str],
    body: dict[str, Any],
) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [{"secret": []}],
        "requestBody": {
            "required": bool(body),
            "content": {"application/json": {"schema": body}, "application/x-www-form-urlencoded": {"schema": body}},
        },
        "responses": {
            status: {"description": meaning, "content": {"application/json": {"schema": schema}}},
            **_refusals(refusals),
        },
    }


_OF_READING: Final = {name: _REFUSALS[name] for name in ("400", "404", "405", "408", "413", "417", "431")}


def _get(summary: str, content: dict[str, Any]) -> dict[str, Any]:
    ok = {"200": {"description": summary, "content": content}}
    return {"summary": summary, "responses": ok | _refusals(_OF_READING)}


def _health() -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object", "required": ["status", "journal", "kafka"]}}}
    told = _get("Whether webhooks can be accepted.", content)
    told["responses"]["503"] = {"description": "They cannot.", "content": content}
    return told
