"""The OpenAPI 3.1 document, from the shapes that are served."""

from functools import cache
from typing import Any

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import models_json_schema

from events.session import Direction, Outcome, Session, Status
from projections.agent_status import Agent
from projections.feeds import Feed

Json = dict[str, Any]


class AgentList(BaseModel):
    """Answer of ``/api/v1/agents``."""

    agents: list[Agent]


class CallPage(BaseModel):
    """Answer of ``/api/v1/calls``; `next_cursor` is null on the last page."""

    calls: list[Session]
    next_cursor: str | None


class Why(BaseModel):
    """Answer of ``/api/v1/calls/{session_id}/why``: the session events of the call, oldest first.

    `legs`: the sessions of other agents' legs of the same external call that the evidence links with this one.
    """

    session_id: str
    legs: list[str]
    revisions: list[dict[str, JsonValue]]


class Problem(BaseModel):
    """An error, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class Health(BaseModel):
    """Answer of ``/health``."""

    status: str
    partitions: int
    feeds: list[Feed]


MODELS = (Agent, AgentList, Session, CallPage, Why, Problem, Health)


@cache
def document() -> Json:
    """The whole document, as JSON values."""
    _, schemas = models_json_schema(
        [(model, "serialization") for model in MODELS], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Callstream", "version": "1", "description": "Agent status and call log of 3CX systems."},
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _paths() -> Json:
    pbx, extension, session_id = (_in_path(name) for name in ("pbx", "extension", "session_id"))
    page = [
        *_filters(),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        _query("cursor", {"type": "string"}),
    ]
    token = _query("access_token", {"type": "string"})
    return {
        "/api/v1/agents": _get("Every agent and its status", "AgentList"),
        "/api/v1/agents/{pbx}/{extension}": _get("One agent", "Agent", [pbx, extension], missing=True),
        "/api/v1/calls": _get("Calls, newest first by first receipt", "CallPage", page),
        "/api/v1/calls/{session_id}": _get("One call", "Session", [session_id], missing=True),
        "/api/v1/calls/{session_id}/why": _get("What led to a call's state", "Why", [session_id], missing=True),
        "/api/v1/calls.csv": _get("Calls as CSV", "text/csv", [*_filters(), token]),
        "/api/v1/stream": _get("Snapshot and changes, server-sent events", "text/event-stream", [token]),
        "/health": _get("Whether the views can be read", "Health"),
    }


def _filters() -> list[Json]:
    words: dict[str, list[str]] = {
        "direction": [one.value for one in Direction],
        "status": [one.value for one in Status],
        "outcome": [one.value for one in Outcome],
    }
    texts = [_query(name, {"type": "string"}) for name in ("pbx", "agent", "number")]
    moments = [_query(name, {"type": "string", "format": "date-time"}) for name in ("from", "to")]
    return [*texts, *(_query(name, {"enum": values}) for name, values in words.items()), *moments]


def _query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _get(summary: str, answer: str, parameters: list[Json] | None = None, *, missing: bool = False) -> Json:
    is_text = "/" in answer
    content = {answer: {"schema": {"type": "string"}}} if is_text else {"application/json": {"schema": _ref(answer)}}
    errors = ["400", "401", "503", *(["404"] if missing else [])]
    return {
        "get": {
            "summary": summary,
            "parameters": parameters or [],
            "responses": {
                "200": {"description": "OK", "content": content},
                **{
                    status: {
                        "description": "Problem",
                        "content": {"application/problem+json": {"schema": _ref("Problem")}},
                    }
                    for status in errors
                },
            },
        }
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
