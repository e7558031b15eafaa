"""Calls as a file, streamed page by page within one read transaction, so that all of it is as of one position.

CSV comes in two explicit forms. ``spreadsheet``: a cell that a spreadsheet would run as a formula gets an apostrophe in
front. ``raw``: every cell as it is, for programs.
"""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson
from starlette.responses import StreamingResponse

from projections.access import shown
from projections.filters import CallFilter
from projections.views import Cursor, Views
from projections.words import RAW

PAGE: Final = 1_000
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
CSV_COLUMNS: Final = (
    *("session_id", "pbx", "extension", "email", "direction", "caller", "callee", "status", "outcome"),
    *("started_at", "started_at_source", "ended_at", "ended_at_source", "end_reason", "duration_s", "span_s"),
    *("recording_url", "call_id", "first_received_at", "revision"),
)


def csv_answer(views: Views, wanted: CallFilter, role: str, form: str) -> StreamingResponse:
    """The calls as CSV in one of the forms."""

    async def lines() -> AsyncIterator[str]:
        yield _csv([CSV_COLUMNS])
        async for page in _pages(views, wanted, role):
            yield _csv([_cells(call, form) for call in page])

    headers = {"Content-Disposition": 'attachment; filename="calls.csv"'}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


def ndjson_answer(views: Views, wanted: CallFilter, role: str) -> StreamingResponse:
    """The calls, one JSON object to a line."""

    async def lines() -> AsyncIterator[bytes]:
        async for page in _pages(views, wanted, role):
            yield b"".join(orjson.dumps(call, option=orjson.OPT_APPEND_NEWLINE) for call in page)

    headers = {"Content-Disposition": 'attachment; filename="calls.ndjson"'}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)


async def _pages(views: Views, wanted: CallFilter, role: str) -> AsyncIterator[list[dict[str, Any]]]:
    after: Cursor | None = None
    async with views.store.reading() as connection:
        while True:
            page, after = await views.calls(connection, wanted, PAGE, after)
            yield shown(page, role)
            if after is None:
                return


def _cells(call: dict[str, Any], form: str) -> list[str]:
    flat = {**call, **call["agent"]}
    cells = ["" if flat[name] is None else str(flat[name]) for name in CSV_COLUMNS]
    return cells if form == RAW else [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
