"""From webhooks to a partition: what is lost, repeated, late or out of order on the way, and how ingest fares."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from events import envelope
from events.envelope import Envelope, Type
from events.pbx import Pbx
from processors.rules import Rules
from processors.task import InputRecord
from tests.simulation.call_centre import CallCentre
from tests.simulation.facts import Step
from tests.simulation.printing import Printed, printed

BEGINNINGS = (
    datetime(2026, 11, 24, 9, 0, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 54, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 55, tzinfo=UTC),  # summer time ends at 01:00
    datetime(2026, 3, 29, 0, 55, tzinfo=UTC),  # and begins
)
RULES = (
    Rules(100, 60, 120, 10, 400, 10),
    Rules(100, 60, 120, 10, 400, 10),
    Rules(60, 90, 40, 5, 100, 10),
    Rules(250, 20, 60, 30, 150, 60),
)
"""In seconds: ceiling, grace, ringing, tolerance, kept, repeats. A feed of minutes goes beyond every one of them."""
PBXS = {
    "default": Pbx(shared_extensions=frozenset({"800"})),
    "geneva": Pbx(country="CH", timezone="Europe/Zurich", shared_extensions=frozenset({"800"})),
}
SILENCES_S = (4.0, 9.0, 11.0, 30.0, 130.0, 500.0, 26 * 3600.0)
EDGE_S = 10.0
"""The longest gap that counts; one that is longer by a hair does not."""
UNREADABLE = (b"nonsense", b'{"direction": "Inbound"}', b"[]", b"")


@dataclass(frozen=True, slots=True)
class Feed:
    """A partition: the same records for the real core and for the model, and the settings that both use."""

    rules: Rules
    shared_extensions: frozenset[str]
    records: list[InputRecord]
    steps: list[Step]


@dataclass(slots=True)
class Heard:
    """A record before it has an offset: `log_s` is when it reaches the log, `step` all but the offset."""

    log_s: float
    step: Step


@dataclass(slots=True)
class Ingest:
    """An ingest instance: up from and until, its clock, its silences, and when it could not forward."""

    name: str
    from_s: float
    until_s: float
    offset_s: float
    step_back_at_s: float
    step_back_s: float
    backlog: tuple[float, float]
    tick_s: float
    silences: list[tuple[float, float]] = field(default_factory=list)
    sequence: int = 0

    def is_up(self, at_s: float) -> bool:
        """Whether it is there to hear."""
        return self.from_s <= at_s < self.until_s and not any(begin <= at_s < end for begin, end in self.silences)

    def stamp_s(self, at_s: float) -> float:
        """Its clock at that time."""
        return at_s + self.offset_s - (self.step_back_s if at_s >= self.step_back_at_s else 0.0)


def feed_of(seed: int) -> Feed:
    """The feed of a seed: the same one always."""
    random = Random(seed)
    t0 = random.choice(BEGINNINGS)
    span_s = random.choice((120.0, 250.0, 450.0))
    by_agent = random.random() < 0.06
    silence = _silence(random, span_s)
    ingests = _ingests(random, span_s, silence)
    sent = _sent(random, t0, span_s, silence)
    heard = [one for ingest in ingests for one in _heard(random, ingest, t0, sent, ingests, by_agent=by_agent)]
    heard.sort(key=lambda one: one.log_s)
    steps = [_at(one.step, offset) for offset, one in enumerate(heard)]
    records = [_record(step) for step in steps]
    return Feed(random.choice(RULES), frozenset({"800"}), records, steps)


def _silence(random: Random, span_s: float) -> tuple[float, float]:
    """When the whole site's ingest is away; the world goes on meanwhile."""
    begin_s = random.uniform(0, span_s)
    return (begin_s, begin_s + random.choice(SILENCES_S)) if random.random() < 0.5 else (begin_s, begin_s)


def _ingests(random: Random, span_s: float, silence: tuple[float, float]) -> list[Ingest]:
    until_s = max(span_s, silence[1]) + random.choice((20.0, 130.0, 450.0))
    change_s = random.uniform(0, span_s)
    spans = {
        "one": [(0.0, until_s)],
        "two": [(0.0, until_s), (change_s, until_s)],
        "handover": [(0.0, change_s), (change_s + random.choice((0.0, 2.0, 15.0)), until_s)],
    }[random.choice(("one", "one", "two", "handover"))]
    found = []
    for name, (begin_s, end_s) in zip("ab", spans, strict=False):
        late_s = random.uniform(0, span_s)
        ingest = Ingest(
            name=name,
            from_s=begin_s,
            until_s=end_s,
            offset_s=random.choice((0.0, 0.0, 0.0, 0.4, -3.0, 40.0)) if name == "b" else 0.0,
            step_back_at_s=random.uniform(0, span_s) if random.random() < 0.15 else 1e12,
            step_back_s=random.choice((0.5, 5.0, 90.0)),
            backlog=(late_s, late_s + (random.choice((5.0, 60.0, 250.0)) if random.random() < 0.2 else 0.0)),
            tick_s=random.choice((2.0, 7.0, 8.5, 9.3, 9.7)),
            silences=[silence] if silence[1] > silence[0] else [],
        )
        found.append(ingest)
    return found


def _sent(
    random: Random, t0: datetime, span_s: float, silence: tuple[float, float]
) -> list[tuple[float, str, Printed]]:
    """Every request that reaches the door, with its time: the PBXs' webhooks with the faults of the way."""
    pbxs = random.choice((["default"], ["geneva"], ["default", "geneva"]))
    told = [one for pbx in pbxs for one in CallCentre(random, pbx, span_s).work(18 // len(pbxs))]
    loses, repeats, delays = (random.choice((0.0, 0.05, 0.2)) for _ in range(3))
    varies = random.choice((0.0, 0.2, 0.8))
    arrived: list[tuple[float, str, Printed]] = []
    for one in told:
        if random.random() < loses:
            continue
        if silence[1] - silence[0] > 3600 and one.at_s > silence[1]:
            continue  # nobody waits a day for a call's end
        at_s = one.at_s
        if random.random() < delays:
            at_s += random.choice((0.5, 3.0, 20.0, 70.0, 150.0, 480.0))
        if silence[0] <= at_s < silence[1] and random.random() < 0.5:
            at_s = silence[1] + random.uniform(0, 3)  # the PBX tries again
        times = [at_s]
        while random.random() < repeats:
            times.append(times[-1] + random.choice((0.01, 2.0, 9.9, 12.0, 59.0, 300.0)))
        plain = random.random() >= varies
        body = printed(random, one, t0, PBXS[one.pbx].country, last_s=times[-1], plain=plain)
        if random.random() < 0.01:
            body = Printed(random.choice(UNREADABLE), None)
        arrived += [(time_s, one.pbx, body) for time_s in times]
    arrived.sort(key=lambda one: one[0])
    return arrived


def _heard(
    random: Random,
    ingest: Ingest,
    t0: datetime,
    sent: list[tuple[float, str, Printed]],
    ingests: list[Ingest],
    *,
    by_agent: bool,
) -> list[Heard]:
    """What this instance puts into the log, in its order: webhooks and ticks, some twice."""
    share = Random(len(sent))  # which instance takes a request: the same choice for each of them
    moments: list[tuple[float, tuple[str, Printed] | None]] = []
    for at_s, pbx, body in sent:
        up = [one for one in ingests if one.is_up(at_s)]
        if up and share.choice(up) is ingest:
            moments.append((at_s, (pbx, body)))
    at_s = ingest.from_s
    while at_s < ingest.until_s:
        if ingest.is_up(at_s) and not ingest.backlog[0] <= at_s < ingest.backlog[1]:
            moments.append((at_s, None))
        if ingest.silences and at_s < ingest.silences[0][1] - 100 and at_s > ingest.silences[0][0]:
            at_s = ingest.silences[0][1] - 50
        at_s += EDGE_S if random.random() < 0.03 else ingest.tick_s * random.uniform(0.9, 1.05)
        at_s = round(at_s + random.choice((0.0, 0.00001)), 6)
    moments.sort(key=lambda one: one[0])
    heard: list[Heard] = []
    for at_s, request in moments:
        log_s = ingest.backlog[1] if ingest.backlog[0] <= at_s < ingest.backlog[1] else at_s
        heard.append(Heard(log_s, _step(ingest, t0, at_s, request, len(heard), by_agent=by_agent)))
    return _again(random, heard)


def _again(random: Random, heard: list[Heard]) -> list[Heard]:
    """Now and then the forwarder crashed after it had sent: its last webhooks come again, with the same sequences."""
    if random.random() >= 0.25 or not heard:
        return heard
    place = random.randrange(len(heard))
    webhooks = [one for one in heard[: place + 1] if one.step.sequence is not None][-random.choice((1, 3, 10)) :]
    log_s = heard[place].log_s
    return [*heard[: place + 1], *(Heard(log_s, one.step) for one in webhooks), *heard[place + 1 :]]


def _step(
    ingest: Ingest, t0: datetime, at_s: float, request: tuple[str, Printed] | None, count: int, *, by_agent: bool
) -> Step:
    received_at = t0 + timedelta(microseconds=round(ingest.stamp_s(at_s) * 1_000_000))
    if request is None:
        return Step(0, f"{ingest.name}-tick-{count}", "default", "default", received_at, ingest.name, None, b"", None)
    pbx, body = request
    ingest.sequence += 1
    extension = body.said.extension if body.said is not None else None
    key = f"{pbx}/{extension}" if by_agent and extension is not None else pbx
    identity = f"{ingest.name}-{ingest.sequence}"
    return Step(0, identity, key, pbx, received_at, ingest.name, ingest.sequence, body.body, body.said)


def _at(step: Step, offset: int) -> Step:
    return Step(
        offset, step.ce_id, step.key, step.pbx, step.received_at, step.instance, step.sequence, step.body, step.said
    )


def _record(step: Step) -> InputRecord:
    """The record as ingest writes it."""
    is_tick = step.sequence is None
    said = Envelope(
        id=step.ce_id,
        pbx=step.pbx,
        type=Type.CLOCK_TICK if is_tick else Type.WEBHOOK_RECEIVED,
        time=step.received_at,
        content_type=None if is_tick else "application/json",
        ingest=step.instance,
        ingest_sequence=step.sequence,
    )
    return InputRecord(0, step.offset, step.key.encode(), step.body, tuple(envelope.encode(said)))
