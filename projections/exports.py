"""Calls as a file, streamed page by page within one read transaction, so that all of it is as of one position.

CSV comes in two explicit forms. ``spreadsheet``: what a spreadsheet would run as a formula gets an apostrophe in front,
also within a cell: in many countries it parts cells at semicolons, where a quote in the middle of one quotes nothing.
``raw``: every cell as it is, for programs.
"""

import csv
import io
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.responses import Response

from events.serving import RETRY_AFTER_S, Refused
from projections.access import shown
from projections.filters import CallFilter
from projections.streaming import Streamed
from projections.views import Cursor, Views
from projections.words import RAW

PAGE: Final = 1_000
FORMULA: Final = re.compile(r"""^(?=[=+\-@\t\r\n])|(?<=[;\t\r\n])(?=[ "]*[=+\-@])""")
"""Where one would begin: a cell, or what a spreadsheet may take for one."""
CSV_COLUMNS: Final = (
    *("session_id", "pbx", "extension", "email", "direction", "caller", "callee", "status", "outcome"),
    *("started_at", "started_at_source", "ended_at", "ended_at_source", "end_reason", "duration_s", "span_s"),
    *("recording_url", "call_id", "first_received_at", "revision"),
)


Page = list[dict[str, Any]]
Written = Callable[[Page], bytes]


class Exports:
    """The files of calls; `exports_max` at once, since each holds a connection and a state of the database."""

    def __init__(self, views: Views, exports_max: int) -> None:
        """Only keeps what it is given."""
        self._views = views
        self._exports_max = exports_max
        self._running = 0

    async def csv_answer(self, wanted: CallFilter, at: datetime | None, role: str, form: str) -> Response:
        """The calls as CSV in one of the forms; `at`: as they were known then."""

        def written(page: Page) -> bytes:
            return _csv([_cells(call, form) for call in page])

        return await self._answer(wanted, at, role, written, "text/csv; charset=utf-8", "csv", _csv([CSV_COLUMNS]))

    async def ndjson_answer(self, wanted: CallFilter, at: datetime | None, role: str) -> Response:
        """The calls, one JSON object to a line; `at`: as they were known then."""

        def written(page: Page) -> bytes:
            return b"".join(orjson.dumps(call, option=orjson.OPT_APPEND_NEWLINE) for call in page)

        return await self._answer(wanted, at, role, written, "application/x-ndjson", "ndjson", b"")

    async def _answer(
        self,
        wanted: CallFilter,
        at: datetime | None,
        role: str,
        written: Written,
        media_type: str,
        suffix: str,
        head: bytes,
    ) -> Response:
        """The pages as a file. The first is had before the answer begins: what fails then is a problem, not a stub."""
        if self._running >= self._exports_max:
            message = "too many files of calls at once; see PROJECTIONS_EXPORTS_MAX"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, message, {"Retry-After": RETRY_AFTER_S})
        parts = self._parts(wanted, at, role, written, head)
        await anext(parts)
        headers = {"Content-Disposition": f'attachment; filename="calls.{suffix}"', "Cache-Control": "no-store"}
        return Streamed(parts, media_type, headers)

    async def _parts(
        self, wanted: CallFilter, at: datetime | None, role: str, written: Written, head: bytes
    ) -> AsyncGenerator[bytes, None]:
        """First nothing, when the first page is there; then head and pages."""
        self._running += 1
        try:
            async with aclosing(_pages(self._views, wanted, at, role)) as pages:
                first = await anext(pages)
                yield b""
                yield head + written(first)
                async for page in pages:
                    yield written(page)
        finally:
            self._running -= 1


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
    return cells if form == RAW else [FORMULA.sub("'", cell) for cell in cells]


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
