"""The reference: the design's table (section 4) in the plainest words. Lists, looked through from end to end.

It knows nothing of `processors`, of reading or of number parsing: it takes the facts of a feed and tells the session
events as they stand in JSON. Where the real core says something else, one of the two is wrong, and the design decides.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.simulation.calls import End, Inference, Leg, Mark, Origin, Start, changes, rfc3339, told_of, when_begun
from tests.simulation.comparing import Proof, compare, is_withheld
from tests.simulation.facts import Said, Step
from tests.simulation.live import Clock
from tests.simulation.proving import Pair, Spans, best, is_late_recording, is_overtaken_end, is_same_end, is_same_start

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
NOT_TAKEN = ("missed", "not_answered")
Event = dict[str, Any]


class Model:
    """One partition; `told` are the values on the session topic, in order."""

    def __init__(self, spans: Spans, shared_extensions: frozenset[str]) -> None:
        self.spans = spans
        self.shared = shared_extensions
        self.legs: list[Leg] = []
        self.told: list[Event] = []
        self.emails: dict[tuple[str, str], str] = {}
        self.clock = Clock()
        self.seen: set[tuple[str, int]] = set()
        self.received: dict[str, datetime] = {}

    def take(self, step: Step) -> None:
        """Repeat of ingest's, live time, deadlines, the record itself, progress: in this order."""
        if step.sequence is not None:
            if (step.instance, step.sequence) in self.seen:
                return
            self.seen.add((step.instance, step.sequence))
        before_s = self.clock.live_us // SECOND_US
        self.clock.hear(step.instance, (step.received_at - EPOCH) // timedelta(microseconds=1))
        self.fire()
        if step.sequence is not None:
            self.received[step.pbx] = max(self.received.get(step.pbx, step.received_at), step.received_at)
        if step.said is not None:
            self.webhook(step, step.said)
        if self.clock.live_us // SECOND_US > before_s:
            self.tell_progress(step)

    def webhook(self, step: Step, said: Said) -> None:
        """A start or an end; the agent of one that only names an e-mail is the extension last seen with it."""
        extension = said.extension
        if said.email is not None:
            owner = (step.key, said.email.lower())
            if extension is None:
                extension = self.emails.get(owner)
            else:
                self.emails[owner] = extension
        origin = Origin(step.offset, step.ce_id, step.received_at, step.body)
        identity = hashlib.blake2b(step.ce_id.encode(), digest_size=12, person=b"session").hexdigest()
        leg = Leg(
            session_id=identity,
            key=step.key,
            pbx=step.pbx,
            extension=extension,
            email=said.email,
            direction=said.direction,
            caller=said.caller,
            callee=said.callee,
            call_id=said.call_id,
            opened_us=self.clock.live_us,
            first_received_at=step.received_at,
        )
        if said.is_end:
            leg.end = End(origin, said.started_at, said.ended_at, said.duration_s, said.outcome, said.recording_url)
            self.on_end(leg, leg.end)
        else:
            leg.start = Start(origin, said.started_at)
            self.on_start(leg, leg.start)

    # A start

    def on_start(self, new: Leg, start: Start) -> None:
        mine = self.of_agent(new)
        if any(leg.session_id == new.session_id for leg in self.legs):
            return
        if any(is_same_start(leg, new, start, self.spans) for leg in mine):
            return
        ended = [Pair(leg, start, leg.end) for leg in mine if leg.start is None and leg.end is not None]
        found = best(ended, new, self.spans, taken=True)
        if found is None:
            self.legs.append(new)
            self.tell("started", None, new, [start.origin])
        else:
            leg, end = found.leg, found.end
            before = leg.copy()
            leg.fill(new)
            leg.start = start
            self.tell("start_after_end", before, leg, [end.origin, start.origin])
            if end.outcome in NOT_TAKEN:
                return
            new = leg
        self.mark_superseded(new, start)
        self.move(new, start)

    def mark_superseded(self, new: Leg, start: Start) -> None:
        """The grace of every older open call of the agent runs, and of the new one if it is the older."""
        if (new.extension is None and new.email is None) or new.extension in self.shared:
            return
        for leg in self.of_agent(new):
            if leg.is_open and leg is not new and leg.begun <= start.moment and leg.mark is None:
                leg.mark = Mark(self.clock.live_us, start)
        newer = self.newer_than(new)
        if newer and new.is_open:
            new.mark = Mark(self.clock.live_us, min(newer, key=when_begun).started)

    def move(self, new: Leg, start: Start) -> None:
        """The party starts with another agent: earlier legs moved; a late start may have moved, or left, itself."""
        others = self.with_party(new)
        for leg in others:
            if leg.is_open and leg.begun <= start.moment:
                self.infer(leg, Inference("moved", leg.begun, start.moment, start.origin), new)
        if not new.is_open:
            return
        later = [leg for leg in others if leg.start is not None and leg.begun > start.moment]
        left = [leg for leg in others if leg.end is not None and leg.end.moment >= start.moment]
        if later:
            first = min(later, key=when_begun)
            self.infer(new, Inference("moved", start.moment, first.begun, first.started.origin), first)
        elif left:
            first = min(left, key=lambda leg: leg.ended.moment)  # of equals the first come: they are in that order
            self.infer(new, Inference("party_left", start.moment, first.ended.moment, first.ended.origin), first)

    # An end

    def on_end(self, new: Leg, end: End) -> None:
        mine = self.of_agent(new)
        for leg in mine:
            if is_same_end(leg, new, end, self.spans):
                self.more_detail(leg, new, end)
                return
        open_ones = [Pair(leg, leg.start, end) for leg in mine if leg.start is not None and leg.end is None]
        found = best(open_ones, new, self.spans, taken=end.outcome not in NOT_TAKEN)
        recorded = [leg for leg in mine if is_late_recording(leg, new, end, self.spans)]
        if found is None:
            recorded += [leg for leg in mine if is_overtaken_end(leg, new, end, self.spans)]
        else:  # a recording is of the call whose end was told with its time, unless an id says otherwise
            by_id = found.reason == "end_matched_by_call_id"
            told = [leg for leg in recorded if leg.ended.ended_at is not None and leg.outcome not in NOT_TAKEN]
            recorded = [] if by_id else told
        if recorded:
            known = [leg for leg in recorded if leg.ended.recording_url is not None]
            last = max(known or recorded, key=lambda leg: (leg.ended.moment, leg.first_received_at, leg.session_id))
            self.more_detail(last, new, end)
            return
        if found is None:
            if any(leg.session_id == new.session_id for leg in self.legs):
                return
            new.closed_us = self.clock.live_us
            self.legs.append(new)
            self.tell("not_taken" if end.outcome in NOT_TAKEN else "end_without_start", None, new, [end.origin])
            self.party_left(new, end)
            return
        leg = found.leg
        before = leg.copy()
        causes = [leg.started.origin, end.origin]
        if leg.inference is not None and leg.inference.contradiction is not None:
            causes.append(leg.inference.contradiction)
        leg.fill(new)
        leg.end, leg.inference, leg.mark, leg.closed_us = end, None, None, self.clock.live_us
        self.tell(found.reason if before.is_open else "true_end", before, leg, causes)
        if end.outcome in NOT_TAKEN:
            self.withdraw(leg)
        self.party_left(leg, end)

    def withdraw(self, missed: Leg) -> None:
        """A call that was not taken supersedes nothing: the grace runs from the next that may have been, if any."""
        for leg in self.of_agent(missed):
            if not leg.is_open or leg.mark is None or leg.mark.start is not missed.start:
                continue
            following = min(self.newer_than(leg), key=when_begun, default=None)
            leg.mark = None if following is None else Mark(following.opened_us, following.started)

    def newer_than(self, leg: Leg) -> list[Leg]:
        """The agent's calls that began later and were not found untaken, whether they go on or not."""
        mine = [other for other in self.of_agent(leg) if other.start is not None and other.outcome not in NOT_TAKEN]
        return [other for other in mine if other.begun > leg.begun]

    def party_left(self, told: Leg, end: End) -> None:
        """The party's end came with another agent: its open legs that began not after it have ended too."""
        for leg in self.with_party(told):
            if leg.is_open and leg.begun <= end.moment:
                self.infer(leg, Inference("party_left", leg.begun, end.moment, end.origin), told)

    def more_detail(self, leg: Leg, new: Leg, again: End) -> None:
        """The same end again: nothing, unless it says what was not known."""
        before = leg.copy()
        kept = leg.ended
        leg.fill(new)
        leg.end = End(
            kept.origin,
            kept.started_at or again.started_at,
            kept.ended_at or again.ended_at,
            again.duration_s if kept.duration_s is None else kept.duration_s,
            again.outcome if kept.outcome == "unknown" else kept.outcome,
            kept.recording_url or again.recording_url,
        )
        if changes(told_of(before), told_of(leg)):
            causes = [kept.origin, again.origin]
            self.tell("more_detail", before, leg, causes + ([leg.start.origin] if leg.start is not None else []))

    # Time

    def fire(self) -> None:
        """What is due, in the order (deadline, session id)."""
        due = [leg for leg in self.legs if self.deadline_us(leg) <= self.clock.live_us]
        for leg in sorted(due, key=lambda leg: (self.deadline_us(leg), leg.session_id)):
            if not leg.is_open:
                self.legs.remove(leg)
            elif leg.mark is not None and self.grace_end_us(leg.mark) <= self.ceiling_us(leg):
                latest = max(leg.mark.start.moment, leg.begun)
                self.infer(leg, Inference("superseded", leg.begun, latest, leg.mark.start.origin), None)
            else:
                self.infer(leg, Inference("timeout", leg.begun, None, None), None)

    def deadline_us(self, leg: Leg) -> int:
        if leg.closed_us is not None:
            return leg.closed_us + self.spans.closed_kept_s * SECOND_US
        ceiling_us = self.ceiling_us(leg)
        return ceiling_us if leg.mark is None else min(ceiling_us, self.grace_end_us(leg.mark))

    def ceiling_us(self, leg: Leg) -> int:
        return leg.opened_us + self.spans.call_duration_max_s * SECOND_US

    def grace_end_us(self, mark: Mark) -> int:
        return mark.since_us + self.spans.superseded_grace_s * SECOND_US

    # Who

    def of_agent(self, event: Leg) -> list[Leg]:
        """The kept calls of the event's agent; with extension and e-mail known, those of the e-mail alone too."""
        names = [(event.extension, None if event.extension is not None else event.mail)]
        if event.extension is not None and event.email is not None:
            names.append((None, event.mail))
        found = [
            leg
            for leg in self.legs
            if leg.key == event.key and (leg.extension, None if leg.extension is not None else leg.mail) in names
        ]
        return sorted(found, key=lambda leg: (leg.first_received_at, leg.session_id))

    def with_party(self, event: Leg) -> list[Leg]:
        """The kept calls of the same external party, known and not withheld, with another agent."""
        party = event.party
        if party is None or is_withheld(party):
            return []
        found = [
            leg
            for leg in self.legs
            if leg.key == event.key
            and leg.party is not None
            and compare(leg.party, party) is Proof.SAME
            and not _one_agent(leg, event)
        ]
        return sorted(found, key=lambda leg: (leg.first_received_at, leg.session_id))

    # Telling

    def infer(self, leg: Leg, inference: Inference, proof: Leg | None) -> None:
        """The call cannot be open any more; `proof` is the other agent's leg that shows it."""
        before = leg.copy()
        leg.inference, leg.mark, leg.closed_us = inference, None, self.clock.live_us
        leg.linked = None if proof is None else proof.session_id
        causes = [leg.started.origin]
        if inference.contradiction is not None:
            causes.append(inference.contradiction)
        self.tell(inference.reason, before, leg, causes)

    def tell(self, reason: str, before: Leg | None, leg: Leg, origins: Sequence[Origin]) -> None:
        leg.revision += 1
        causes = sorted({one.offset: one for one in origins}.values(), key=lambda one: one.offset)
        text = "\n".join([leg.session_id, str(leg.revision), *(one.ce_id for one in causes)])
        session = told_of(leg)
        event: Event = {
            "id": hashlib.blake2b(text.encode(), digest_size=16, person=b"session-event").hexdigest(),
            "time": rfc3339(causes[-1].received_at),
            "session_id": leg.session_id,
            "revision": leg.revision,
            "reason": reason,
            "session": session,
            "causes": [{"partition": 0, "offset": one.offset, "ce_id": one.ce_id} for one in causes],
        }
        if before is not None and not before.is_open:
            event |= {"type": "call.corrected", "changed": changes(told_of(before), session)}
        elif leg.is_open:
            event["type"] = "call.started"
        else:
            event["type"] = "call.ended" if leg.end is not None else "call.end_missed"
        self.told.append(event)

    def tell_progress(self, step: Step) -> None:
        self.told.append(
            {
                "type": "threecx.feed.progress",
                "id": hashlib.blake2b(step.ce_id.encode(), digest_size=16, person=b"feed-progress").hexdigest(),
                "time": rfc3339(step.received_at),
                "live_time_us": self.clock.live_us,
                "stream_time": rfc3339(EPOCH + timedelta(microseconds=self.clock.head_us)),
                "received_at": {pbx: rfc3339(at) for pbx, at in self.received.items()},
            }
        )


def _one_agent(leg: Leg, event: Leg) -> bool:
    """Whether what is known of both agents says that they are one."""
    if leg.extension is not None and event.extension is not None:
        return leg.extension == event.extension
    if leg.email is not None and event.email is not None:
        return leg.mail == event.mail
    return {leg.extension, event.extension, leg.email, event.email} == {None}
