"""The OpenAPI 3.1 document, from the shapes that are served."""

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.json_schema import models_json_schema

from events.session import Direction, Outcome, Session, Status
from events.times import Utc
from projections.agent_status import Agent, Figures
from projections.feeds import Feed
from projections.figures import FIGURES
from projections.words import FORMS, SPREADSHEET, SWITCHES

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
    """Event ``snapshot``: all agents, all open calls with the latest closed ones, feeds, figures; forget what was."""

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
    """Answer of ``/api/v1/figures/series``."""

    buckets: list[Bucket]


class Durations(Stamped):
    """Answer of ``/api/v1/figures/durations``: calls below each bound, and one count more for those not below any."""

    bounds_s: list[int]
    counts: list[int]


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
    *(Agent, AgentList, FeedList, Session, CallPage, Why, Problem, Health, FiguresAnswer, Series, Durations),
    *(StreamSnapshot, StreamChange, StreamFeeds),
)


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
    form = _query("form", {"enum": list(FORMS), "default": SPREADSHEET})
    inferred = _query("include_inferred", {"type": "boolean", "default": False})
    bucket = _query("bucket_s", {"type": "integer", "minimum": 1, "maximum": 2_678_400, "default": 900})
    return {
        "/api/v1/agents": _get("Every agent and its status", "AgentList"),
        "/api/v1/agents/{pbx}/{extension}": _get("One agent", "Agent", [pbx, extension], missing=True),
        "/api/v1/feeds": _get("The state of every PBX's feed, why, and since when", "FeedList"),
        "/api/v1/calls": _get("Calls, newest first by first receipt", "CallPage", page, searched=True),
        "/api/v1/calls/{session_id}": _get("One call", "Session", [session_id], missing=True),
        "/api/v1/calls/{session_id}/why": _get("What led to a call's state", "Why", [session_id], missing=True),
        "/api/v1/calls.csv": _get("Calls as CSV", "text/csv", [*_filters(), form, token], searched=True),
        "/api/v1/calls.ndjson": _get(
            "Calls, one to a line", "application/x-ndjson", [*_filters(), token], searched=True
        ),
        "/api/v1/figures": _get(
            " ".join(f"{one.name}: {one.meaning}" for one in FIGURES),
            "FiguresAnswer",
            [*_filters(), inferred],
            searched=True,
        ),
        "/api/v1/figures/series": _get(
            "The figures by spans of time", "Series", [*_filters(), bucket, inferred], searched=True
        ),
        "/api/v1/figures/durations": _get("How long calls lasted", "Durations", _filters(), searched=True),
        "/api/v1/stream": _get(
            "Server-sent events: `snapshot` (StreamSnapshot), then `change` (StreamChange) and `feeds` (StreamFeeds), "
            "each with an id; `Last-Event-ID` resumes, with a new snapshot where the changes are not kept any more",
            "text/event-stream",
            [token],
        ),
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
    switches = [_query(name, {"type": "boolean"}) for name in SWITCHES]
    day = _query("day", {"type": "string", "format": "date"})
    return [*texts, *(_query(name, {"enum": values}) for name, values in words.items()), *moments, day, *switches]


def _query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _get(
    summary: str, answer: str, parameters: list[Json] | None = None, *, missing: bool = False, searched: bool = False
) -> Json:
    is_text = "/" in answer
    content = {answer: {"schema": {"type": "string"}}} if is_text else {"application/json": {"schema": _ref(answer)}}
    errors = ["400", "401", "503", *(["404"] if missing else []), *(["403"] if searched else [])]
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
