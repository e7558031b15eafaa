"""The door's HTTP: the routes of the design's section 2.2. A 2xx means durable; an answer comes within 5 s."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from events import bodies, reading, serving
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from events.serving import RETRY_AFTER_S, Refused, Served, exposition
from ingest import accepted
from ingest.accepted import Accepted
from ingest.authentication import client_address, is_known_secret, is_within
from ingest.forwarder import Clock, Forwarder
from ingest.journal import Journal, JournalFailedError, JournalFullError
from ingest.rates import Rates
from ingest.settings import IngestSettings, Key, Network, networks_of, secrets_of

DURABLE_TIMEOUT_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may post for one PBX: the PBX's own, else the settings'."""

    pbx: Pbx
    secrets: tuple[bytes, ...]
    networks: tuple[Network, ...]


def rights_of(settings: IngestSettings, pbx: Pbx) -> Rights:
    """The rights of one PBX."""
    networks = pbx.allowed_networks or networks_of(settings.ingest_allowed_networks)
    return Rights(pbx, secrets_of(*pbx.webhook_secrets) or settings.secrets, networks)


class Door:
    """What the routes need; one per process."""

    def __init__(
        self,
        settings: IngestSettings,
        pbxs: Mapping[str, Pbx],
        journal: Journal,
        forwarder: Forwarder,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Only keeps what it is given."""
        self._settings = settings
        self._rights = {name: rights_of(settings, pbx) for name, pbx in pbxs.items()}
        self._proxies = networks_of(settings.ingest_trusted_proxies)
        self._journal = journal
        self._forwarder = forwarder
        self._metrics = metrics
        self._clock = clock
        self._rates = Rates(settings.ingest_rate_max)
        self._number = journal.next_sequence
        for name in pbxs:  # a PBX that never sent anything is silent, not absent
            metrics.counter("accepted_total", name)

    async def call_event(self, request: Request) -> Response:
        """Accept a webhook: authenticated, read whole, durable, 202."""
        name, rights = self._let_in(request)
        if not self._rates.allows(name, time.monotonic()):
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS, "this PBX sends faster than INGEST_RATE_MAX", {"Retry-After": "1"}
            )
        if self._journal.is_full:
            raise _full()
        body = await self._body(request)
        content_type = request.headers.get("content-type")
        refused = reading.NO_FIELDS if bodies.fields_of(body, content_type) is None else None
        received_at = self._clock()
        self._number = max(self._number + 1, self._journal.next_sequence)
        one = Accepted(
            id=accepted.id_of(f"{self._journal.instance}/{received_at.isoformat()}", self._number),
            pbx=name,
            key=self._key(name, rights.pbx, body, content_type, received_at),
            received_at=received_at,
            content_type=content_type,
            body=body,
            refused=refused,
        )
        await self._make_durable(one)
        if refused is not None:
            self._metrics.counter("refused_total", "body").inc()
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{refused}; it is kept in the dead letters as {one.id}")
        self._metrics.counter("accepted_total", name).inc()
        return JSONResponse({"status": "accepted", "id": one.id}, HTTPStatus.ACCEPTED)

    async def test(self, request: Request) -> Response:
        """Tell how a body would be read; nothing is recorded."""
        _, rights = self._let_in(request)
        body = await self._body(request)
        told = reading.explain(body, request.headers.get("content-type"), self._clock(), rights.pbx)
        return JSONResponse({"status": "ok", **told.model_dump(mode="json")})

    async def health(self, _request: Request) -> Response:
        """Whether webhooks can be accepted, and how far behind Kafka is."""
        age_s = await self._oldest_age_s()
        status = "full" if self._journal.is_full else "failing" if self._journal.is_failing else "ok"
        told = {
            "status": status,
            "journal": {
                "records": self._journal.depth,
                "bytes": self._journal.size,
                "bytes_max": self._journal.bytes_max,
                "oldest_age_s": round(age_s, 3),
                "sync_failures": self._journal.failures,
            },
            "kafka": {"reachable": self._forwarder.reachable},
        }
        return JSONResponse(told, HTTPStatus.OK if status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _oldest_age_s(self) -> float:
        """Age of the first record that Kafka has not acknowledged; 0 when there is none."""
        oldest = await self._journal.read(self._journal.acknowledged, 1) if self._journal.depth else []
        if not oldest:
            return 0.0
        return max(0.0, (self._clock() - accepted.decode(oldest[0][1]).received_at).total_seconds())

    async def metrics(self, _request: Request) -> Response:
        """Prometheus."""
        self._metrics.gauge("journal_oldest_seconds").set(await self._oldest_age_s())
        self._metrics.gauge("journal_records").set(self._journal.depth)
        self._metrics.gauge("journal_bytes").set(self._journal.size)
        self._metrics.gauge("journal_bytes_limit").set(self._journal.bytes_max)
        return exposition(self._metrics)

    def _let_in(self, request: Request) -> tuple[str, Rights]:
        """The PBX and its rights, once address and secret are right; raises Refused."""
        name = request.path_params.get("pbx", DEFAULT_PBX)
        rights = self._rights.get(name)
        networks = rights.networks if rights is not None else networks_of(self._settings.ingest_allowed_networks)
        if networks:
            peer = request.client.host if request.client is not None else ""
            address = client_address(peer, request.headers.raw, self._proxies)
            if address is None or not is_within(address, networks):
                raise Refused(HTTPStatus.FORBIDDEN, "this address may not post; see INGEST_ALLOWED_NETWORKS")
        if rights is None:
            raise Refused(HTTPStatus.NOT_FOUND, "no PBX of this name is configured; see PBX_CONFIG")
        if not is_known_secret(request.headers.raw, rights.secrets):
            raise Refused(HTTPStatus.UNAUTHORIZED, "send the secret once, in the header X-Webhook-Secret")
        return name, rights

    async def _body(self, request: Request) -> bytes:
        """The whole body, within its limits of bytes and time; raises Refused."""
        limit = self._settings.ingest_body_bytes_max
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.ingest_body_timeout_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    chunks.append(chunk)
        except TimeoutError:
            raise Refused(
                HTTPStatus.REQUEST_TIMEOUT,
                "the body came too slowly; see INGEST_BODY_TIMEOUT_S",
                {"Connection": "close"},
            ) from None
        return b"".join(chunks)

    def _key(self, name: str, pbx: Pbx, body: bytes, content_type: str | None, received_at: datetime) -> str:
        if self._settings.ingest_key is Key.PBX:
            return name
        extension = reading.agent_key(reading.read(body, content_type, received_at, pbx))
        return name if extension is None else f"{name}/{extension}"

    async def _make_durable(self, one: Accepted) -> None:
        try:
            async with asyncio.timeout(DURABLE_TIMEOUT_S):
                await asyncio.shield(self._journal.append(accepted.encode(one)))
        except JournalFullError:
            raise _full() from None
        except (JournalFailedError, TimeoutError):
            self._metrics.counter("journal_sync_failures_total").inc()
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the journal's disk does not take it now",
                {"Retry-After": RETRY_AFTER_S},
            ) from None


def _full() -> Refused:
    detail = "the journal is full until Kafka takes some; see INGEST_JOURNAL_BYTES_MAX"
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": RETRY_AFTER_S})


def _too_large(limit: int) -> Refused:
    detail = f"a body may have {limit} bytes; see INGEST_BODY_BYTES_MAX"
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, {"Connection": "close"})


def application(door: Door, metrics: Metrics) -> Starlette:
    """The routes of the design's section 2.2."""
    served = [
        Served("POST", "/webhook/3cx/call-event", "call-event", door.call_event),
        Served("POST", "/webhook/3cx/test", "test", door.test),
        Served("GET", "/webhook/3cx/health", "health", door.health),
        Served("POST", "/webhook/3cx/{pbx}/call-event", "call-event", door.call_event),
        Served("POST", "/webhook/3cx/{pbx}/test", "test", door.test),
        Served("GET", "/metrics", "metrics", door.metrics),
    ]
    gone: dict[type[Exception], tuple[HTTPStatus, str]] = {
        ClientDisconnect: (HTTPStatus.BAD_REQUEST, "the client went away before its body was whole")
    }
    return serving.application(metrics, served, gone, "see the README for the routes and their methods")
