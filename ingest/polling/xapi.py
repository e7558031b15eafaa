"""3CX's XAPI, as much as polling needs: a token by client credentials, kept until it runs out, active and past calls.

Only one token of a client can be active at a time: whoever asks for one ends the other's. So a token is kept until it
is refused or runs out, and after a refusal a new one is asked for once, then ever more seldom.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final
from urllib.parse import quote

import httpx
import orjson

from events.active_calls import calls_of
from events.call_history import COLUMNS
from events.odata import Page, page_of
from ingest.polling.answers import Outcome, outcome_of
from ingest.polling.config import Access

TOKEN_LIFE_SHARE: Final = 0.9
TOKEN_LIFE_S_DEFAULT: Final = 60.0
TOKEN_BYTES_MAX: Final = 65_536
ACTIVE_CALLS: Final = "/xapi/v1/ActiveCalls"
HISTORY: Final = "/xapi/v1/CallHistoryView"
HISTORY_ROWS_MAX: Final = 1_000
PAGES_MAX: Final = 20
Answer = tuple[Outcome, bytes]


class Xapi:
    """One PBX. `renewals` counts the tokens asked for."""

    def __init__(self, access: Access, timeout_s: float, answer_bytes_max: int) -> None:
        """Nothing is asked yet."""
        self.renewals = 0
        self._access = access
        self._timeout_s = timeout_s
        self._answer_bytes_max = answer_bytes_max
        self._client = httpx.AsyncClient(base_url=access.url, timeout=timeout_s, follow_redirects=False)
        self._token = ""
        self._token_until_s = 0.0

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def active_calls(self) -> Answer:
        """What came of asking, and the body of a good answer, of several pages one; raises nothing of the network."""
        return await self._in_time(self._listed())

    async def history(self, since: datetime) -> Answer:
        """The calls that ended since, the first to end first, as `active_calls`, but one page of `HISTORY_ROWS_MAX`.

        403, where the client is known, refuses this only.
        """
        wanted = quote(f"SegmentEndTime ge {since:%Y-%m-%dT%H:%M:%SZ}")
        shown = f"$orderby=SegmentEndTime&$top={HISTORY_ROWS_MAX}&$select={','.join(COLUMNS)}"
        return await self._in_time(self._asked(f"{HISTORY}?$filter={wanted}&{shown}", page_of))

    async def _in_time(self, asking: Awaitable[Answer]) -> Answer:
        """As long as a token and an answer may take, however slowly they trickle."""
        try:
            async with asyncio.timeout(self._timeout_s * 2):
                return await asking
        except TimeoutError:
            return Outcome.TIMEOUT, b""

    async def _listed(self) -> Answer:
        """Every page of the list. Of a link only the query is followed: no other host gets the token."""
        pages: list[Page] = []
        path, length = ACTIVE_CALLS, 0
        while len(pages) < PAGES_MAX:
            outcome, body = await self._asked(path, page_of)
            page = page_of(body) if outcome is Outcome.GOOD else None
            if page is None:
                return outcome, b""
            pages.append(page)
            length += len(body)
            if length > self._answer_bytes_max:
                return Outcome.TOO_LONG, b""
            if page.next_link is None:
                return _joined(pages, body)
            path = f"{ACTIVE_CALLS}?{page.next_link.partition('?')[2]}"
        return Outcome.INCOMPLETE, b""

    async def _asked(self, path: str, read: Callable[[bytes], object]) -> Answer:
        try:
            if time.monotonic() >= self._token_until_s:
                outcome = await self._renew()
                if outcome is not Outcome.GOOD:
                    return outcome, b""
            return await self._ask(path, read)
        except httpx.TimeoutException:
            return Outcome.TIMEOUT, b""
        except (httpx.HTTPError, httpx.InvalidURL):
            return Outcome.UNREACHABLE, b""

    async def _ask(self, path: str, read: Callable[[bytes], object]) -> Answer:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        status, body = await self._bounded("GET", path, self._answer_bytes_max, headers=headers)
        if body is None:
            return Outcome.TOO_LONG, b""
        if status == httpx.codes.FORBIDDEN and not path.startswith(ACTIVE_CALLS):
            return Outcome.REFUSED, b""
        outcome = outcome_of(status, body, read)
        if outcome is Outcome.UNAUTHORIZED:
            self._token_until_s = 0.0  # the next poll asks for a new one
        return outcome, body

    async def _renew(self) -> Outcome:
        self.renewals += 1
        form = {
            "client_id": self._access.client_id,
            "client_secret": self._access.client_secret.get_secret_value(),
            "grant_type": "client_credentials",
        }
        status, body = await self._bounded("POST", "/connect/token", TOKEN_BYTES_MAX, data=form)
        if status in {httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return Outcome.UNAUTHORIZED
        if status != httpx.codes.OK or body is None:
            return Outcome.BROKEN if status >= httpx.codes.INTERNAL_SERVER_ERROR else Outcome.REFUSED
        try:
            told = orjson.loads(body)
            token, life_s = told["access_token"], float(told.get("expires_in") or TOKEN_LIFE_S_DEFAULT)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            return Outcome.UNREADABLE
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            return Outcome.UNREADABLE
        self._token, self._token_until_s = token, time.monotonic() + life_s * TOKEN_LIFE_SHARE
        return Outcome.GOOD

    async def _bounded(
        self,
        method: str,
        path: str,
        bytes_max: int,
        headers: dict[str, str] | None = None,
        data: dict[str, str] | None = None,
    ) -> tuple[int, bytes | None]:
        """Status and body; null instead of a body that is longer than `bytes_max`."""
        async with self._client.stream(method, path, headers=headers, data=data) as answer:
            body = bytearray()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > bytes_max:
                    return answer.status_code, None
            return answer.status_code, bytes(body)


def _joined(pages: list[Page], body: bytes) -> Answer:
    """One answer of all pages; `body` itself, byte for byte, where it is the only one."""
    rows = [row for page in pages for row in page.rows]
    if not pages[-1]._replace(rows=rows).is_whole:
        return Outcome.INCOMPLETE, b""
    whole = body if len(pages) == 1 else orjson.dumps({"value": rows})
    return (Outcome.UNREADABLE, b"") if calls_of(whole) is None else (Outcome.GOOD, whole)
