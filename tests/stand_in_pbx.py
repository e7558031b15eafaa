"""A stand-in for a 3CX: the endpoints that polling needs, as public code shows them, with faults.

No real PBX was at hand. Only the newest token is active, as 3CX has it. `fault`: a status and a body for the list.
`page_rows_max`: of what is asked for, so many rows come at once, with the link to the rest that OData gives.
`trickles`: so many blanks come before an answer, each a tenth of a second after the last.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deploy.local.broker import HOST, free_port


@dataclass
class StandInPbx:
    """Its calls, its tokens and its faults."""

    client_id: str = "callstream"
    client_secret: str = "secret of the client"
    token_life_s: float = 60.0
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    past: list[dict[str, Any]] = field(default_factory=list)
    refuses_history: bool = False
    fault: tuple[int, bytes] | None = None
    refuses_every_token: bool = False
    slow_s: float = 0.0
    page_rows_max: int | None = None
    trickles: int = 0
    asked: int = 0
    tokens: int = 0
    refused: int = 0
    port: int = field(default_factory=free_port)
    _token: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """The variables of a poller of this PBX."""
        return {
            "POLLING_ENABLED": "true",
            "POLLING_URL": self.url,
            "POLLING_CLIENT_ID": self.client_id,
            "POLLING_CLIENT_SECRET": self.client_secret,
            "POLLING_INTERVAL_S": "0.2",
            "POLLING_PORT": "0",
        }

    def begin(self, caller: str, callee: str, status: str = "Talking") -> int:
        """A call is there; its id."""
        number = next(self._numbers)
        now = datetime.now(UTC).isoformat()
        self.calls[number] = {
            "Id": number, "Caller": caller, "Callee": callee, "Status": status,
            "LastChangeStatus": now, "EstablishedAt": now if status == "Talking" else None,
        }  # fmt: skip
        return number

    def end(self, number: int) -> None:
        """The call is not there any more; the history has it: from a trunk to an extension, answered at once."""
        call, now = self.calls.pop(number), datetime.now(UTC)
        (trunk, _, outside), extension = call["Caller"].partition(" "), call["Callee"].split(" ")[0]
        began = datetime.fromisoformat(call["LastChangeStatus"])
        self.past.append({
            "SegmentId": number, "SegmentStartTime": began.isoformat(), "SegmentEndTime": now.isoformat(),
            "SrcDn": trunk, "SrcCallerNumber": outside, "SrcInternal": False, "DstDn": extension,
            "DstCallerNumber": extension, "DstInternal": True, "CallAnswered": True,
            "CallTime": f"PT{(now - began).total_seconds():.6f}S",
        })  # fmt: skip

    async def history(self, request: Request) -> Response:
        """The calls that are over; of a client without the role: 403. What the filter asks for is given."""
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return Response(status_code=401)
        if self.refuses_history:
            return Response(status_code=403)
        since = datetime.fromisoformat(request.query_params["$filter"].removeprefix("SegmentEndTime ge "))
        ended = [row for row in self.past if datetime.fromisoformat(row["SegmentEndTime"]) >= since]
        ended.sort(key=lambda row: datetime.fromisoformat(row[request.query_params["$orderby"]]))
        columns = request.query_params["$select"].split(",")
        return self._page(request, [{name: row[name] for name in columns} for row in ended])

    def _page(self, request: Request, rows: list[dict[str, Any]]) -> Response:
        """What the query asks for, a page of it at most; the link names the PBX as it calls itself."""
        query = request.query_params
        skip, top = int(query.get("$skip", 0)), int(query.get("$top", len(rows)))
        wanted = rows[skip : skip + top]
        told: dict[str, Any] = {"value": wanted[: self.page_rows_max]}
        if (left := len(wanted) - len(told["value"])) > 0:
            rest = dict(query) | {"$skip": skip + len(told["value"]), "$top": left}
            told["@odata.nextLink"] = f"https://pbx.invalid{request.url.path}?{urlencode(rest)}"
        return StreamingResponse(self._trickling(json.dumps(told)), media_type="application/json")

    async def _trickling(self, text: str) -> AsyncIterator[str]:
        for _ in range(self.trickles):
            yield " "
            await asyncio.sleep(0.1)
        yield text

    async def token(self, request: Request) -> Response:
        """A new token; the last one is active no more."""
        form = dict(parse_qsl((await request.body()).decode()))
        known = (form.get("client_id"), form.get("client_secret"), form.get("grant_type"))
        self.tokens += 1
        if self.refuses_every_token or known != (self.client_id, self.client_secret, "client_credentials"):
            return JSONResponse({"error": "invalid_client"}, 401)
        self._token = f"token-{self.tokens}"
        return JSONResponse({"access_token": self._token, "expires_in": self.token_life_s, "token_type": "Bearer"})

    async def active_calls(self, request: Request) -> Response:
        """The calls, or the fault."""
        self.asked += 1
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if request.headers.get("authorization") != f"Bearer {self._token}":
            self.refused += 1
            return Response(status_code=401)
        if self.fault is not None:
            return Response(self.fault[1], self.fault[0])
        now = datetime.now(UTC).isoformat()
        return self._page(request, [{**call, "ServerNow": now} for call in self.calls.values()])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["StandInPbx"]:
        """Serve for the length of the block."""
        routes = [
            Route("/connect/token", self.token, methods=["POST"]),
            Route("/xapi/v1/ActiveCalls", self.active_calls),
            Route("/xapi/v1/CallHistoryView", self.history),
        ]
        config = uvicorn.Config(Starlette(routes=routes), host=HOST, port=self.port, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it by a flag
            await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = True
            server.force_exit = True
            await task
