"""The door: which request gets in, and what it is answered (the design's section 2.2). A 2xx means durable."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import product
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from events import reading
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from events.tracing import Tracing
from ingest import accepted, answers, signatures
from ingest.accepted import Accepted
from ingest.answers import Answer
from ingest.authentication import client_address, is_known_secret, is_within
from ingest.forwarder import Clock, Forwarder
from ingest.ids import random_ids
from ingest.journal import Journal, JournalFullError
from ingest.openapi import document
from ingest.rates import Rates
from ingest.requests import Reply, Request
from ingest.settings import IngestSettings, Key, Network, networks_of, secrets_of
from ingest.tally import Tally

_FULL: Final = answers.unavailable("the journal is full until Kafka takes some; see INGEST_JOURNAL_BYTES_MAX")
_FAILING: Final = answers.unavailable("the journal's disk does not take it now")
_FORBIDDEN: Final = answers.problem(HTTPStatus.FORBIDDEN, "this address may not post; see INGEST_ALLOWED_NETWORKS")
_UNAUTHORIZED: Final = answers.problem(
    HTTPStatus.UNAUTHORIZED,
    "send the secret once, in the header X-Webhook-Secret, or sign the webhook",
    {"WWW-Authenticate": "Webhook-Secret"},
)
_NO_PBX: Final = answers.problem(HTTPStatus.NOT_FOUND, "no PBX of this name is configured; see PBX_CONFIG")
_NO_ROUTE: Final = answers.problem(HTTPStatus.NOT_FOUND, "see the README for the routes and their methods")
_ENCODED: Final = answers.problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body as it is, without Content-Encoding")
_TOO_FAST: Final = answers.problem(
    HTTPStatus.TOO_MANY_REQUESTS, "this PBX sends faster than its rate_max", {"Retry-After": "1"}
)
_NOWHERE: Final = "nowhere"
_REFUSALS: Final = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.TOO_MANY_REQUESTS,
)
_FAULTS: Final = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
_ALERTING: Final = [*product(["call-event"], _REFUSALS + _FAULTS), *product(["none"], _FAULTS)]
"""Answers that alerts ask for: counted from 0, so that the first one is seen as a step."""
_NAMED = re.compile(rb"/webhook/3cx/[^/]+/(call-event|test)")
_METHODS: Final[Mapping[str, bytes]] = {"GET": b"GET, HEAD", "POST": b"POST"}


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may post for one PBX: the PBX's own, else the settings'."""

    name: str
    pbx: Pbx
    secrets: tuple[bytes, ...]
    keys: signatures.Keys
    networks: tuple[Network, ...]


def rights_of(settings: IngestSettings, name: str, pbx: Pbx) -> Rights:
    """The rights of one PBX; raises ConfigurationError for a signature key that is none.

    Own secrets or keys replace the settings' secrets and keys together: a PBX that signs needs no common secret.
    """
    has_own = bool(pbx.webhook_secrets or pbx.signature_keys)
    return Rights(
        name,
        pbx,
        secrets_of(*pbx.webhook_secrets) if has_own else settings.secrets,
        signatures.keys_of(f"PBX_CONFIG: pbx.{name}.signature_keys", *pbx.signature_keys)
        if has_own
        else signatures.keys_of("INGEST_SIGNATURE_KEYS", settings.ingest_signature_keys),
        pbx.allowed_networks or networks_of(settings.ingest_allowed_networks),
    )


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers: a route of one PBX (`rights`), or one that needs none."""

    name: str
    method: str
    finish: Callable[[Request, Reply, "Route"], None]
    rights: Rights | None = None


class Door:
    """Begin and finish every request; one per process."""

    def __init__(
        self,
        settings: IngestSettings,
        pbxs: Mapping[str, Pbx],
        journal: Journal,
        forwarder: Forwarder,
        metrics: Metrics,
        clock: Clock,
        tracing: Tracing | None = None,
    ) -> None:
        """Raises ConfigurationError for a signature key that is none."""
        self._networks = networks_of(settings.ingest_allowed_networks)
        self._proxies = networks_of(settings.ingest_trusted_proxies)
        self._age_max_s = settings.ingest_journal_age_max_s
        self._key_is_agent = settings.ingest_key is Key.AGENT
        self._journal = journal
        self._forwarder = forwarder
        self._metrics = metrics
        self._clock = clock
        self._tracing = tracing
        self._rates = Rates()
        self._rate_max = settings.ingest_rate_max
        self._ids = random_ids()
        # A PBX that never sent anything is silent, not absent.
        self._tally = Tally(metrics)
        for name in pbxs:
            metrics.counter("accepted_total", name)
        for route, status in _ALERTING:
            metrics.counter("requests_total", route, str(status.value))
        self._failures_told = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._routes = self._all_routes([rights_of(settings, name, pbx) for name, pbx in pbxs.items()])
        self._openapi = answers.json(HTTPStatus.OK, document())
        self._loop = asyncio.get_running_loop()

    def _all_routes(self, rights: list[Rights]) -> dict[bytes, Route]:
        routes = {
            b"/webhook/3cx/health": Route("health", "GET", self._health),
            b"/metrics": Route("metrics", "GET", self._exposed),
            b"/openapi.json": Route("openapi", "GET", lambda _request, reply, _route: reply(self._openapi)),
        }
        for one in rights:
            for folder in (f"/{one.name}", "") if one.name == DEFAULT_PBX else (f"/{one.name}",):
                base = f"/webhook/3cx{folder}"
                routes[f"{base}/call-event".encode()] = Route("call-event", "POST", self._call_event, one)
                routes[f"{base}/test".encode()] = Route("test", "POST", self._test, one)
        return routes

    def _route(self, request: Request) -> Route | None:
        """Found once for each request."""
        if request.route is None:
            found = self._routes.get(request.target) or self._routes.get(path_of(request.target))
            request.route = found or _NOWHERE
        return request.route if isinstance(request.route, Route) else None

    def begin(self, request: Request) -> Answer | None:
        """Judge a head: route, address, secret, coding; null when its body is wanted."""
        route = self._route(request)
        if route is None:
            return self._unrouted(request)
        if request.method != route.method.encode() and not (route.method == "GET" and request.method == b"HEAD"):
            allow = _METHODS[route.method].decode()
            return answers.problem(HTTPStatus.METHOD_NOT_ALLOWED, f"this route takes {allow}", {"Allow": allow})
        if route.rights is None:
            return None
        if not self._is_near(request, route.rights.networks):
            return _FORBIDDEN
        if not self._may_be_known(request, route.rights):
            return _UNAUTHORIZED
        coding = request.values(b"content-encoding")
        return _ENCODED if coding and [one.lower() for one in coding] != [b"identity"] else None

    def _unrouted(self, request: Request) -> Answer:
        """An address that may not post learns nothing of which PBXs there are."""
        if not _NAMED.fullmatch(path_of(request.target)):
            return _NO_ROUTE
        if request.method != b"POST":
            return answers.problem(HTTPStatus.METHOD_NOT_ALLOWED, "this route takes POST", {"Allow": "POST"})
        return _NO_PBX if self._is_near(request, self._networks) else _FORBIDDEN

    def _is_near(self, request: Request, networks: tuple[Network, ...]) -> bool:
        if not networks:
            return True
        address = client_address(request.peer, request.headers, self._proxies)
        return address is not None and is_within(address, networks)

    def _may_be_known(self, request: Request, rights: Rights) -> bool:
        """The secret is right, or a signature is there, which is checked with the body."""
        if not rights.keys:
            return is_known_secret(request.headers, rights.secrets)
        return self._has_secret(request, rights) or signatures.is_signed(request.headers)

    @staticmethod
    def _has_secret(request: Request, rights: Rights) -> bool:
        return bool(rights.secrets) and is_known_secret(request.headers, rights.secrets)

    def _is_known(self, request: Request, rights: Rights) -> bool:
        return (
            not rights.keys
            or self._has_secret(request, rights)
            or signatures.is_valid(request.headers, request.body, rights.keys)
        )

    def finish(self, request: Request, reply: Reply) -> None:
        """A whole request whose head was let in."""
        route = self._route(request)
        if route is None:
            reply(_NO_ROUTE)
        elif route.rights is not None and not self._is_known(request, route.rights):
            reply(_UNAUTHORIZED)
        else:
            route.finish(request, reply, route)

    def _call_event(self, request: Request, reply: Reply, route: Route) -> None:
        """Into the journal; the answer when it is durable."""
        rights = route.rights
        if rights is None:
            raise AssertionError
        rate_max = self._rate_max if rights.pbx.rate_max is None else rights.pbx.rate_max
        if not self._rates.allows(rights.name, rate_max, request.began):
            reply(_TOO_FAST)
            return
        one = self._accepted(request, rights)
        try:
            self._journal.append(accepted.encode(one), partial(self._told, one, reply))
        except JournalFullError:
            reply(_FULL)

    def _told(self, one: Accepted, reply: Reply, sequence: int | None) -> None:
        """Answer what the journal tells; a reply that was answered was too late, and is not counted as accepted."""
        if sequence is not None:
            self._forwarder.knows(sequence, one)
        if reply.answer is None:
            reply(_FAILING if sequence is None else self._durable(one))

    def _accepted(self, request: Request, rights: Rights) -> Accepted:
        body, content_type = request.body, request.content_type
        refused = None if reading.has_fields(body, content_type) else reading.NO_FIELDS
        received_at = self._clock()
        key = rights.name
        if self._key_is_agent:
            extension = reading.agent_key(reading.read(body, content_type, received_at, rights.pbx))
            key = key if extension is None else f"{key}/{extension}"
        return Accepted(next(self._ids), rights.name, key, received_at, content_type, body, refused)

    def _durable(self, one: Accepted) -> Answer:
        if one.refused is not None:
            detail = f"{one.refused}; it is kept in the dead letters as {one.id}"
            return answers.problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        self._tally.accepted(one.pbx)
        if self._tracing is not None:
            began_s, ended_s = one.received_at.timestamp(), self._clock().timestamp()
            self._tracing.took("accept", one.id, began_s, ended_s, callstream__pbx=one.pbx)
        return answers.accepted(one.id)

    def _test(self, request: Request, reply: Reply, route: Route) -> None:
        """Tell how a body would be read; nothing is recorded."""
        if route.rights is None:
            raise AssertionError
        told = reading.explain(request.body, request.content_type, self._clock(), route.rights.pbx)
        said = {"status": "ok", **told.model_dump(mode="json")}
        reply(answers.json(HTTPStatus.OK, _without_surrogates(said)))

    def _health(self, _request: Request, reply: Reply, _route: Route) -> None:
        """Whether webhooks can be accepted, and how far behind Kafka is."""
        self._later(self._told_health(reply))

    def _exposed(self, _request: Request, reply: Reply, _route: Route) -> None:
        """Prometheus."""
        self._later(self._told_metrics(reply))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _told_health(self, reply: Reply) -> None:
        age_s = await self._oldest_age_s()
        refuses = "full" if self._journal.is_full else "failing" if self._journal.is_failing else None
        status = refuses or "ok"
        told = {
            "status": status,
            "journal": {
                "records": self._journal.depth,
                "bytes": self._journal.size,
                "bytes_max": self._journal.bytes_max,
                "oldest_age_s": round(age_s, 3),
                "age_max_s": self._age_max_s,
                "is_behind": age_s > self._age_max_s,
                "damaged_bytes": self._journal.damaged_bytes,
                "set_aside_files": self._journal.set_aside,
                "sync_failures": self._journal.failures,
            },
            "kafka": {"reachable": self._forwarder.reachable},
        }
        reply(answers.json(HTTPStatus.OK if refuses is None else HTTPStatus.SERVICE_UNAVAILABLE, told))

    async def _oldest_age_s(self) -> float:
        """Age of the first record that Kafka has not acknowledged; 0 when there is none."""
        oldest = await self._forwarder.oldest_waiting()
        return 0.0 if oldest is None else max(0.0, (self._clock() - oldest).total_seconds())

    async def _told_metrics(self, reply: Reply) -> None:
        self._tally.tell()
        self._metrics.gauge("journal_oldest_seconds").set(await self._oldest_age_s())
        self._metrics.gauge("journal_records").set(self._journal.depth)
        self._metrics.gauge("journal_bytes").set(self._journal.size)
        self._metrics.gauge("journal_bytes_limit").set(self._journal.bytes_max)
        self._metrics.gauge("journal_age_limit_seconds").set(self._age_max_s)
        self._metrics.gauge("journal_damaged_bytes").set(self._journal.damaged_bytes)
        self._metrics.gauge("journal_set_aside_files").set(self._journal.set_aside)
        self._metrics.gauge("journal_set_aside_bytes").set(self._journal.set_aside_bytes)
        failures, self._failures_told = self._journal.failures - self._failures_told, self._journal.failures
        self._metrics.counter("journal_sync_failures_total").inc(failures)
        reply(answers.of(HTTPStatus.OK, generate_latest(self._metrics.registry), CONTENT_TYPE_LATEST))

    def late(self, _request: Request) -> Answer:
        """Not durable in time: not accepted, whatever becomes of the record."""
        return _FAILING

    def answered(self, request: Request, answer: Answer) -> None:
        """Count and time an answer."""
        route = self._route(request)
        name = "none" if route is None else route.name
        self._tally.answered(name, answer.status, self._loop.time() - request.began)


def path_of(target: bytes) -> bytes:
    """The path of a request's target, escapes undone: `/a?b`, or `http://host/a`."""
    path = target.partition(b"?")[0].partition(b"#")[0]
    if not path.startswith(b"/"):
        try:
            path = urlsplit(path).path
        except ValueError:
            return b""
    return unquote_to_bytes(path) if b"%" in path else path


def _without_surrogates(said: object) -> object:
    """What JSON in UTF-8 can hold: a lone surrogate of the sender's becomes a question mark."""
    match said:
        case str():
            return said.encode("utf-8", "replace").decode()
        case dict():
            return {_without_surrogates(name): _without_surrogates(value) for name, value in said.items()}
        case list() | tuple():
            return [_without_surrogates(one) for one in said]
        case _:
            return said
