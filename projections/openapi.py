"""The OpenAPI 3.1 document, from the shapes that are served."""

from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.json_schema import models_json_schema

from events.envelope import Type
from events.session import Session
from events.times import Utc
from projections.agent_status import Agent, Figures
from projections.feeds import Feed
from projections.figures import FIGURES
from projections.records import Missing
from projections.words import CURSOR, FORMS, SPREADSHEET, SWITCHES, WORDS

Json = dict[str, Any]


class Stamped(BaseModel):
    """What an answer is as of: `position` grows with every commit, `as_of`: up to when every partition is known."""

    position: int
    as_of: Utc | None


class AgentList(Stamped):
    """Answer of ``/api/v1/agents``."""

    agents: list[Agent]
    feeds: list[Feed]


class FeedList(Stamped):
    """Answer of ``/api/v1/feeds``."""

    feeds: list[Feed]


class PbxFigures(Figures):
    """The figures of the calls that began on the local day of a PBX."""

    pbx: str
    day: str


class StreamSnapshot(Stamped):
    """Event ``snapshot``: agents, open calls, the latest closed ones of each PBX, feeds, figures; forget what was."""

    agents: list[Agent]
    calls: list[Session]
    feeds: list[Feed]
    figures: list[PbxFigures]


class StreamChange(Stamped):
    """Event ``change``: agents, calls and PBXs' figures that have changed, each as it is now. Others are as before."""

    agents: list[Agent]
    calls: list[Session]
    figures: list[PbxFigures]


class StreamFeeds(BaseModel):
    """Event ``feeds``, about once a second: the state of every feed."""

    feeds: list[Feed]


class Bound(BaseModel):
    """A target: what is wanted of a figure, in its unit."""

    at_most: float | None = None
    at_least: float | None = None


class FiguresAnswer(Stamped):
    """Answer of ``/api/v1/figures``; a link lists exactly the calls that the figure counts, null: none.

    `targets`: of those figures that have one for this PBX (no `pbx` given: for every PBX).
    """

    figures: Figures
    links: dict[str, str | None]
    targets: dict[str, Bound]


class Bucket(Figures):
    """The figures of the calls that began in a span of time, its end excluded."""

    model_config = ConfigDict(serialize_by_alias=True)

    begin: Utc = Field(alias="from")
    end: Utc = Field(alias="to")


class Series(Stamped):
    """Answer of ``/api/v1/figures/series``: at most 1,000 buckets; `next_from`: where those after them begin.

    Without `from` and `to` they are of the `day`, from midnight to midnight at the PBX, else of the last 24 hours.
    """

    buckets: list[Bucket]
    next_from: Utc | None


class Durations(Stamped):
    """Answer of ``/api/v1/figures/durations``: calls below each bound, and one count more for those not below any."""

    bounds_s: list[int]
    counts: list[int]


class Spread(BaseModel):
    """A distribution, in seconds."""

    min: float
    p50: float
    p95: float
    p99: float
    max: float


class MissingCall(BaseModel):
    """A polled call that should have come by webhook and did not; `id` and `extensions` as the PBX has them."""

    pbx: str
    id: str
    extensions: list[str]
    reason: str
    first_seen_at: Utc
    last_seen_at: Utc


class PbxParity(BaseModel):
    """Webhooks against polling, of one PBX: `both`: calls that both saw; by reason, those that only one saw.

    `interval_s`: between two polls, as observed. `start_difference_s`: first seen by polling minus the beginning, its
    delay; `webhook_delay_s`: first webhook minus the beginning. `missing_calls`: at most 100.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    pbx: str
    begin: Utc = Field(alias="from")
    end: Utc = Field(alias="to")
    interval_s: float
    verdict: str
    holds: bool
    completeness: float | None
    both: int
    missing: int
    start_difference_s: Spread | None
    end_difference_s: Spread | None
    webhook_delay_s: Spread | None
    polling_only: dict[str, int]
    webhook_only: dict[str, int]
    missing_calls: list[MissingCall]


class ParityAnswer(Stamped):
    """Answer of ``/api/v1/parity``; `compared_at`: null while nothing was polled or compared yet."""

    compared_at: Utc | None
    pbxs: list[PbxParity]


class CallPage(Stamped):
    """Answer of ``/api/v1/calls``; `next_cursor` is null on the last page."""

    calls: list[Session]
    next_cursor: str | None


class Why(Stamped):
    """Answer of ``/api/v1/calls/{session_id}/why``: the session events of the call, oldest first.

    `legs`: the sessions of other agents' legs of the same external call that the evidence links with this one.
    """

    session_id: str
    legs: list[str]
    revisions: list[dict[str, JsonValue]]


class RawRecord(BaseModel):
    """A record of ``threecx.webhooks``: `body` as text, `body_base64` where it is no UTF-8, or why it is `missing`."""

    partition: int
    offset: int
    ce_id: str
    type: Type | None
    received_at: Utc | None
    content_type: str | None
    body: str | None
    body_base64: str | None
    missing: Missing | None


class Records(Stamped):
    """Answer of ``/api/v1/calls/{session_id}/records``: the first 100 in the order of the log."""

    session_id: str
    records: list[RawRecord]


class Problem(BaseModel):
    """An error, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class Health(BaseModel):
    """Answer of ``/health``; `now`: the server's clock, for screens whose own is wrong."""

    status: str
    now: Utc
    partitions: int
    feeds: list[Feed]


MODELS = (
    *(Agent, AgentList, FeedList, Session, CallPage, Why, Records, Problem, Health, FiguresAnswer, Series, Durations),
    *(StreamSnapshot, StreamChange, StreamFeeds, ParityAnswer),
)


SECURITY: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token of PROJECTIONS_API_TOKENS."},
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "access_token",
        "description": "The same, for what a browser opens by itself: the event stream and the files.",
    },
}
PROBLEMS: Json = {
    "400": "A parameter is unknown, given twice or not understood; `detail` says what to send",
    "401": "No valid token; without PROJECTIONS_API_TOKENS none is wanted",
    "403": "A masked token cannot search by number, nor see the webhooks themselves",
    "404": "There is nothing by that name",
    "503": "The database (or Kafka, for webhooks) does not answer, or a limit is reached; try again later",
}


@cache
def document() -> Json:
    """The whole document, as JSON values."""
    _, schemas = models_json_schema(
        [(model, "serialization") for model in MODELS], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Callstream",
            "version": "1",
            "description": "Agent status and call log of 3CX systems. Times are RFC 3339 in UTC; unknown is null.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": SECURITY,
            "responses": {
                status: {
                    "description": meaning,
                    "content": {"application/problem+json": {"schema": _ref("Problem")}},
                }
                for status, meaning in PROBLEMS.items()
            },
            "headers": {
                "ETag": {
                    "description": "Weak, from `position`, the token's role and what is said; for `If-None-Match`",
                    "schema": {"type": "string"},
                }
            },
        },
        "security": [{}, {"bearer": []}],
    }


def _paths() -> Json:
    pbx, extension, session_id = (_in_path(name) for name in ("pbx", "extension", "session_id"))
    then = _query("as_of", {"type": "string", "format": "date-time"}, "The view as it was known at that time")
    page = [
        *_filters(),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        _query("cursor", {"type": "string", "pattern": CURSOR}, "`next_cursor` of the page before"),
    ]
    form = _query("form", {"enum": list(FORMS), "default": SPREADSHEET}, "`spreadsheet`: no cell runs as a formula")
    inferred = _query("include_inferred", {"type": "boolean", "default": False}, "Averages count inferred ends, too")
    bucket = _query("bucket_s", {"type": "integer", "minimum": 1, "maximum": 2_678_400, "default": 900})
    figures = " ".join(f"`{one.name}`: {one.meaning}" for one in FIGURES)
    return {
        "/api/v1/agents": _get("agents", "Every agent and its status", "AgentList", [then]),
        "/api/v1/agents/{pbx}/{extension}": _get("agent", "One agent", "Agent", [pbx, extension, then], "404"),
        "/api/v1/feeds": _get("feeds", "The state of every PBX's feed, why, and since when", "FeedList"),
        "/api/v1/calls": _get("calls", "Calls, newest first by first receipt", "CallPage", [*page, then], "403"),
        "/api/v1/calls/{session_id}": _get("call", "One call", "Session", [session_id, then], "404"),
        "/api/v1/calls/{session_id}/why": _get("why", "What led to a call's state", "Why", [session_id], "404"),
        "/api/v1/calls/{session_id}/records": _get(
            "records", "The webhooks behind a call, as they came", "Records", [session_id], "403", "404"
        ),
        "/api/v1/calls.csv": _get("calls-csv", "Calls as CSV", "text/csv", [*_filters(), form, then], "403"),
        "/api/v1/calls.ndjson": _get(
            "calls-ndjson", "Calls, one to a line", "application/x-ndjson", [*_filters(), then], "403"
        ),
        "/api/v1/figures": _get("figures", figures, "FiguresAnswer", [*_filters(), inferred, then], "403"),
        "/api/v1/figures/series": _get(
            "series", "The figures by spans of time", "Series", [*_filters(), bucket, inferred, then], "403"
        ),
        "/api/v1/figures/durations": _get(
            "durations", "How long calls lasted", "Durations", [*_filters(), then], "403"
        ),
        "/api/v1/parity": _get("parity", "Webhooks against polling, where the PBX is polled, too", "ParityAnswer"),
        "/api/v1/stream": _get("stream", STREAM, "text/event-stream", [RESUME]),
        "/health": _get("health", "Whether the views can be read", "Health", is_open=True),
        "/metrics": _get("metrics", "Prometheus", "text/plain", is_open=True),
        "/openapi.json": _get("openapi", "This document", "object", is_open=True),
    }


STREAM: Final = (
    "Server-sent events: `snapshot` (StreamSnapshot), then `change` (StreamChange) and `feeds` (StreamFeeds), each "
    "with an id; `Last-Event-ID` resumes, with a new snapshot where the changes are not kept any more"
)
RESUME: Final[Json] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The id of the last event that was received",
}
IN_QUERY: Final = ("text/event-stream", "text/csv", "application/x-ndjson")
"""Whose token may stand in the query."""


def _filters() -> list[Json]:
    words = {name: [one.value for one in kind] for name, kind in WORDS.items()}
    texts = [
        _query("pbx", {"type": "string"}),
        _query("agent", {"type": "string"}, "The agent's extension"),
        _query("number", {"type": "string"}, "Of caller or callee, in any spelling"),
    ]
    times = {"type": "string", "format": "date-time"}
    return [
        *texts,
        *(_query(name, {"enum": values}) for name, values in words.items()),
        _query("from", times, "Calls that began then or later"),
        _query("to", times, "Calls that began before"),
        _query("day", {"type": "string", "format": "date"}, "Local date of the PBX on which the call began"),
        *(_query(name, {"type": "boolean"}) for name in SWITCHES),
    ]


def _query(name: str, schema: Json, meaning: str | None = None) -> Json:
    described = {} if meaning is None else {"description": meaning}
    return {"name": name, "in": "query", "required": False, "schema": schema, **described}


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _get(
    operation: str, summary: str, shape: str, parameters: list[Json] | None = None, *errors: str, is_open: bool = False
) -> Json:
    """The operation; `shape`: a media type, or a schema's name; `is_open`: no token is wanted."""
    is_json = "/" not in shape
    schema = {"type": "object"} if shape == "object" else _ref(shape) if is_json else {"type": "string"}
    is_tagged = is_json and not is_open
    responses = {
        "200": {
            "description": "OK",
            "content": {"application/json" if is_json else shape: {"schema": schema}},
            **({"headers": {"ETag": {"$ref": "#/components/headers/ETag"}}} if is_tagged else {}),
        },
        **({"304": {"description": "The client has it: its `If-None-Match` is the ETag"}} if is_tagged else {}),
        **{
            status: {"$ref": f"#/components/responses/{status}"}
            for status in sorted([*errors, "503", *([] if is_open else ["400", "401"])])
        },
    }
    security: list[Json] = [{}] if is_open else [{}, {"bearer": []}, *([{"query": []}] if shape in IN_QUERY else [])]
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "parameters": parameters or [],
            "security": security,
            "responses": responses,
        }
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
