"""Calls as a file, streamed page by page within one read transaction, so that all of it is as of one position.

CSV comes in two explicit forms. ``spreadsheet``: a cell that a spreadsheet would run as a formula gets an apostrophe in
front. ``raw``: every cell as it is, for programs.
"""

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
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


Page = list[dict[str, Any]]
Written = Callable[[Page], bytes]


async def csv_answer(views: Views, wanted: CallFilter, at: datetime | None, role: str, form: str) -> StreamingResponse:
    """The calls as CSV in one of the forms; `at`: as they were known then."""

    def written(page: Page) -> bytes:
        return _csv([_cells(call, form) for call in page])

    return await _answer(
        _pages(views, wanted, at, role), written, "text/csv; charset=utf-8", "csv", _csv([CSV_COLUMNS])
    )


async def ndjson_answer(views: Views, wanted: CallFilter, at: datetime | None, role: str) -> StreamingResponse:
    """The calls, one JSON object to a line; `at`: as they were known then."""

    def written(page: Page) -> bytes:
        return b"".join(orjson.dumps(call, option=orjson.OPT_APPEND_NEWLINE) for call in page)

    return await _answer(_pages(views, wanted, at, role), written, "application/x-ndjson", "ndjson")


async def _answer(
    pages: AsyncGenerator[Page, None], written: Written, media_type: str, suffix: str, head: bytes = b""
) -> StreamingResponse:
    """The pages as a file. The first one is had before the answer begins: what fails then is a problem, not a stub."""
    first = await anext(pages)

    async def parts() -> AsyncIterator[bytes]:
        async with aclosing(pages):
            yield head + written(first)
            async for page in pages:
                yield written(page)

    headers = {"Content-Disposition": f'attachment; filename="calls.{suffix}"'}
    return StreamingResponse(parts(), media_type=media_type, headers=headers)


async def _pages(views: Views, wanted: CallFilter, at: datetime | None, role: str) -> AsyncGenerator[Page, None]:
    after: Cursor | None = None
    async with views.store.reading() as connection:
        sources = await views.known_by(connection, at)
        while True:
            page, after = await views.calls(connection, wanted, PAGE, after, sources)
            yield shown(page, role)
            if after is None:
                return


def _cells(call: dict[str, Any], form: str) -> list[str]:
    flat = {**call, **call["agent"]}
    cells = ["" if flat[name] is None else str(flat[name]) for name in CSV_COLUMNS]
    return cells if form == RAW else [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
