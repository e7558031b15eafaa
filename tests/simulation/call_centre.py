"""A call centre from a seed: true calls of agents and outside parties, and the webhooks that the PBX tells of them."""

from dataclasses import replace
from random import Random

from tests.simulation.printing import Told, says_an_end

AGENTS = ("201", "202", "203", "0204", "00")
QUEUE = "800"
PARTIES = ("X", "X", "Y", "Y", "Z", "ZURICH", "PARIS", "NAME", "")
EMAILS = {"201": "ann@x.ch", "202": "bob@x.ch", "203": "Cai@x.ch"}
IN_WORDS = ("Inbound", "Inbound", "Inbound", "in")
OUT_WORDS = ("Outbound", "outgoing")
NO_WORDS = ("sideways", "", "[CallDirection]", None)
DAY_S = 86_400


class CallCentre:
    """The PBX at work; `told` are its webhooks. `skew_s`: how far its clock is ahead."""

    def __init__(self, random: Random, pbx: str, span_s: float) -> None:
        self.random = random
        self.pbx = pbx
        self.span_s = span_s
        self.skew_s = random.choice((0, 0, 0, 0.25, -7, 45, 180, -300))
        self.told: list[Told] = []
        self.next_id = random.randrange(5)
        self.has_ids = random.choice((0.0, 0.3, 0.9))
        self.has_emails = random.choice((0.0, 0.3, 0.9))
        self.has_times = random.choice((0.5, 0.9, 1.0))

    def work(self, calls: int) -> list[Told]:
        """So many situations at random times, each one to some calls."""
        situations = (
            self.plain, self.plain, self.plain, self.plain, self.not_taken, self.missed_meanwhile, self.ring_all,
            self.ring_all, self.transfer, self.transfer, self.ping_pong, self.call_waiting, self.redial, self.queued,
            self.very_long, self.internal, self.recorded_later, self.only_one_told, self.restart, self.twice_at_once,
            self.called_again, self.recorded_by_another, self.ended_together,
        )  # fmt: skip
        for _ in range(calls):
            self.random.choice(situations)(self.random.uniform(0, self.span_s), self.random.choice(AGENTS[:4]))
        return self.told

    # Situations

    def plain(self, at_s: float, agent: str) -> None:
        self.call(agent, self.party(), at_s, self.ringing(), self.talking())

    def not_taken(self, at_s: float, agent: str) -> None:
        self.call(agent, self.party(), at_s, self.ringing() + 1, None, starts=self.random.random() < 0.6)

    def missed_meanwhile(self, at_s: float, agent: str) -> None:
        self.call(agent, self.party(), at_s, 2, 90)
        ringing_s = self.random.choice((5, 30, 75))
        self.call(agent, self.party(), at_s + 10, ringing_s, None, starts=self.random.random() < 0.7)

    def ring_all(self, at_s: float, agent: str) -> None:
        """Starts for several, one end: of any of them, taken or missed."""
        party, word = self.party(), self.random.choice(IN_WORDS)
        ringing_s, talked_s = self.ringing(), self.random.choice((None, self.talking()))
        others = self.random.sample([one for one in AGENTS if one != agent], self.random.choice((1, 2, 2, 3)))
        apart_s = self.random.choice((0, 0, 1))
        for number, one in enumerate(others):
            self.call(one, party, at_s + number * apart_s, ringing_s, talked_s, word=word, ends=False)
        ends = self.random.random() < 0.9
        starts = self.random.random() < 0.9
        self.call(agent, party, at_s, ringing_s, talked_s, word=word, starts=starts, ends=ends)

    def transfer(self, at_s: float, agent: str) -> None:
        """Blind: the first leg ends as the second begins; attended: they overlap, and the first may end last."""
        party, word = self.party(), self.random.choice((*IN_WORDS, *OUT_WORDS))
        other = self.random.choice([one for one in AGENTS if one != agent])
        first_s, overlap_s = self.random.choice((8, 25, 70)), self.random.choice((-2, 0, 3, 20, 60))
        self.call(agent, party, at_s, 2, first_s + overlap_s, word=word, ends=self.random.random() < 0.5)
        ends = self.random.random() < 0.8
        self.call(other, party, at_s + 2 + first_s, 1, self.talking(), word=word, ends=ends)

    def ping_pong(self, at_s: float, agent: str) -> None:
        """From one to another and back, more than once."""
        party, word = self.party(), self.random.choice(IN_WORDS)
        other = self.random.choice([one for one in AGENTS if one != agent])
        for turn in range(self.random.choice((3, 3, 4))):
            one = (agent, other)[turn % 2]
            step_s = self.random.choice((6, 15, 30))
            self.call(one, party, at_s, 1, step_s, word=word, ends=self.random.random() < 0.5)
            at_s += step_s

    def call_waiting(self, at_s: float, agent: str) -> None:
        """Two calls at once, of which either ends first; perhaps a third."""
        self.call(agent, self.party(), at_s, 3, self.random.choice((40, 90, 130)), ends=self.random.random() < 0.8)
        taken = self.random.choice((None, 20, 90))
        self.call(agent, self.party(), at_s + 15, 3, taken, ends=self.random.random() < 0.9)
        if self.random.random() < 0.3:
            self.call(agent, self.party(), at_s + 25, 2, self.talking())

    def redial(self, at_s: float, agent: str) -> None:
        """The same two again within seconds, perhaps under the same id; the ends come in either order."""
        party, word = self.party(), self.random.choice((*IN_WORDS, *OUT_WORDS))
        first_s = self.random.choice((3, 10))
        self.call(agent, party, at_s, 1, first_s, word=word, late_s=self.random.choice((0, 0, 45)))
        if self.random.random() < 0.3:
            self.next_id -= 1
        self.call(agent, party, at_s + 1 + first_s + self.random.choice((0, 1, 4)), 1, 20, word=word)

    def called_again(self, at_s: float, agent: str) -> None:
        """Missed, of which only the end is told, and the next try within the tolerance; its start says no time."""
        party, word = self.party(), self.random.choice(IN_WORDS)
        self.call(agent, party, at_s, 9, None, word=word, starts=False)
        self.call(agent, party, at_s + 9 + self.random.choice((1, 4, 9, 25)), 2, self.talking(), word=word)
        for one in self.told[-2:]:
            one.started_s = None

    def twice_at_once(self, at_s: float, agent: str) -> None:
        """The same party on both lines of an agent within the same second, told apart by an id at most."""
        party, word = self.party(), self.random.choice(IN_WORDS)
        for talked_s in (20, self.random.choice((20, 21, 50))):
            self.call(agent, party, at_s, 1, talked_s, word=word)

    def queued(self, at_s: float, agent: str) -> None:
        """Through the queue, which tells of the call too; it may die there, with a duration of zero."""
        party, word = self.party(), self.random.choice(IN_WORDS)
        waits_s = self.random.choice((5, 40, 100))
        self.call(QUEUE, party, at_s, waits_s, self.random.choice((0, 0, None)), word=word)
        if self.random.random() < 0.7:
            self.call(agent, party, at_s + waits_s, 3, self.talking(), word=word)

    def very_long(self, at_s: float, agent: str) -> None:
        """Beyond every limit: minutes where the rules count in seconds, or 26 hours begun the day before."""
        talked_s = self.random.choice((150, 400, 26 * 3600))
        self.call(agent, self.party(), at_s - (DAY_S if talked_s > DAY_S else 0), 2, talked_s)

    def internal(self, at_s: float, agent: str) -> None:
        other = self.random.choice([one for one in AGENTS if one != agent])
        talked_s = self.talking()
        self.call(agent, other, at_s, 1, talked_s, word="Internal")
        if self.random.random() < 0.3:
            self.call(other, agent, at_s, 1, talked_s, word="Internal")

    def recorded_later(self, at_s: float, agent: str) -> None:
        """The recording in a later message: the same end again with more, or no time at all in it."""
        for gap_s in (0, 20)[: self.random.choice((1, 1, 2))]:
            self.call(agent, self.party(), at_s + gap_s, 1, self.random.choice((10, 60)), ends=True)
            end = self.told[-1]
            late = self.copy(end, end.at_s + self.random.choice((1, 15, 130)))
            late.recording_url = f"https://pbx/{self.next_id}.wav"
            if self.random.random() < 0.6:
                late.ended_s = late.duration_s = None
            if self.random.random() < 0.3:
                self.told.append(self.copy(late, late.at_s + self.random.choice((2, 30))))
            self.told.append(late)

    def recorded_by_another(self, at_s: float, agent: str) -> None:
        """A plug-in tells the recording and no time: before the end or after it, perhaps in the next call."""
        party, word = self.party(), self.random.choice((*IN_WORDS, *OUT_WORDS))
        self.call(agent, party, at_s, 1, 20, word=word, starts=self.random.random() < 0.8)
        recorded = self.copy(self.told[-1], at_s + 21 + self.random.choice((-2, 0, 1, 9)))
        recorded.recording_url = f"https://pbx/{self.next_id}.wav"
        recorded.started_s = recorded.ended_s = recorded.duration_s = None
        self.told.append(recorded)
        if self.random.random() < 0.3:
            self.told.append(self.copy(recorded, recorded.at_s + 3))
        if self.random.random() < 0.7:
            self.call(agent, party, at_s + 21 + self.random.choice((2, 5)), 1, 30, word=word)

    def ended_together(self, at_s: float, agent: str) -> None:
        """Two of a party end in one second; the first end comes again, and only then says when its call began."""
        party, word = self.party(), self.random.choice((*IN_WORDS, *OUT_WORDS))
        self.call(agent, party, at_s, 1, 20, word=word)
        first = self.told[-1]
        again = self.copy(first, first.at_s + 0.5)
        self.call(agent, party, at_s + 11, 1, 9, word=word, starts=self.random.random() < 0.5, late_s=3)
        second = self.told[-1]
        first.started_s, again.started_s, second.started_s = None, self.clock(at_s), self.clock(at_s + 11)
        first.ended_s = again.ended_s = second.ended_s = self.clock(at_s + 21)
        second.duration_s = None
        self.told.append(again)

    def only_one_told(self, at_s: float, agent: str) -> None:
        """A start whose end is never told, or an end without a start."""
        starts = self.random.random() < 0.5
        self.call(agent, self.party(), at_s, 2, self.talking(), starts=starts, ends=not starts)

    def restart(self, at_s: float, agent: str) -> None:
        """The PBX restarts: starts that never end, then new starts for the same agents; call ids begin again."""
        for one in dict.fromkeys((agent, *self.random.sample(AGENTS, 2))):
            self.call(one, self.party(), at_s, 1, 30, ends=False)
        self.next_id = 0
        for one in dict.fromkeys((agent, self.random.choice(AGENTS))):
            self.call(one, self.party(), at_s + 10, 1, self.talking())

    # Telling

    def party(self) -> str:
        return self.random.choice(PARTIES)

    def ringing(self) -> float:
        return self.random.choice((0, 1, 4, 9, 35, 110))

    def talking(self) -> int:
        return self.random.choice((0, 1, 8, 30, 55, 55, 95, 140))

    def call(
        self,
        agent: str,
        party: str,
        at_s: float,
        ringing_s: float,
        talked_s: int | None,
        *,
        word: str | None = "",
        starts: bool = True,
        ends: bool = True,
        late_s: float = 0,
    ) -> None:
        """A leg: begins at `at_s`, rings, is talked on (null: not taken), ends; `late_s` delays the end's telling."""
        random = self.random
        if word == "":
            word = random.choice((*IN_WORDS, *IN_WORDS, *OUT_WORDS, *OUT_WORDS, *NO_WORDS))
        is_out = word in OUT_WORDS
        own = agent if is_out else random.choice(("DID", "DID", agent))
        caller, callee = (own, party) if is_out else (party, own)
        call_id = str(self.next_id % 7)
        self.next_id += 1
        begun_s, ended_s = at_s, at_s + ringing_s + (talked_s or 0)
        started = Told(begun_s + random.uniform(0, 1), self.pbx, agent, word, caller, callee)
        started.started_s = self.clock(begun_s)
        end = Told(ended_s + late_s + random.uniform(0, 2), self.pbx, agent, word, caller, callee, is_end=True)
        end.ended_s, end.duration_s = self.clock(ended_s), talked_s
        if talked_s is None and word in (*IN_WORDS, *OUT_WORDS):
            end.word = random.choice(("Notanswered", "Unanswered")) if is_out else "Missed"
            end.duration_s = random.choice((None, 0))
        if random.random() < 0.1:
            end.started_s = started.started_s
        for one, is_told, has_id in ((started, starts, 0.3), (end, ends, 1.0)):
            if random.random() < self.has_ids * has_id:
                one.call_id = call_id
            if is_told:
                self.vary(one)
                self.told.append(one)

    def vary(self, told: Told) -> None:
        """What one webhook of a call says otherwise than the next, or not at all."""
        random = self.random
        if random.random() < self.has_emails:
            told.email = EMAILS.get(told.extension or "")
        if told.email is not None and random.random() < 0.3:
            told.extension = None
            told.email = told.email.upper() if random.random() < 0.2 else told.email
        if random.random() < 0.02:
            told.extension = told.email = None
        if random.random() < 0.06 and told.word not in {"Missed", "Notanswered", "Unanswered"}:
            told.word = random.choice(NO_WORDS)
        if random.random() < 0.06 and told.callee == "DID":
            told.callee = random.choice((told.extension or "", ""))
        if random.random() < 0.04:
            told.caller = ""
        if random.random() > self.has_times:
            told.started_s = told.ended_s = None
        if told.is_end:
            self.vary_end(told)

    def vary_end(self, told: Told) -> None:
        """What an end may lack; it stays one."""
        random = self.random
        if told.duration_s and random.random() < 0.1:
            told.recording_url = f"https://pbx/{self.next_id}.wav"
        if random.random() < 0.1:
            told.duration_s = None
        if not says_an_end(told):
            told.ended_s = self.clock(told.at_s)

    def clock(self, at_s: float) -> float:
        """The PBX's clock: whole seconds, now and then with a fraction."""
        shown = at_s + self.skew_s
        return round(shown, 2) if self.random.random() < 0.1 else float(int(shown))

    @staticmethod
    def copy(told: Told, at_s: float) -> Told:
        """The same told at another time."""
        return replace(told, at_s=at_s)
