"""A wallboard without a picture: it follows the event stream, comes back with `Last-Event-ID`, and holds the state.

It also leaves by itself every few seconds: with no fault in the way, too, it has to be told all that it missed.
"""

import asyncio
from random import Random
from typing import Any

import httpx
import orjson

RETRY_S = 0.3
STAYS_S = (2.0, 8.0)
"""So long it follows at a time."""
Json = dict[str, Any]


class Follower:
    """What a client holds, as of `position`.

    `problems`: what the stream must not do. `resumed`, `anew`: how it went on after a break. `stays`: it does not leave
    by itself any more.
    """

    def __init__(self, board: str, seed: int = 0) -> None:
        """`board`: URL of the projections."""
        self._url = f"{board}/api/v1/stream"
        self._random = Random(seed)
        self._last = ""
        self.stays = False
        self.position = -1
        self.agents: dict[tuple[str, str], Json] = {}
        self.calls: dict[str, Json] = {}
        self.problems: list[str] = []
        self.breaks = 0
        self.resumed = 0
        self.anew = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        async with httpx.AsyncClient(timeout=httpx.Timeout(15.0, connect=3.0)) as client:
            while True:
                try:
                    async with asyncio.timeout(None if self.stays else self._random.uniform(*STAYS_S)):
                        await self._follow(client)
                except httpx.HTTPError:
                    self.breaks += 1
                except TimeoutError:
                    pass
                await asyncio.sleep(RETRY_S)

    async def _follow(self, client: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": self._last} if self._last else {}
        async with client.stream("GET", self._url, headers=headers) as answer:
            answer.raise_for_status()
            fields: dict[str, str] = {}
            first = bool(self._last)
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                    continue
                if "data" in fields:
                    if first:
                        self.anew += fields["event"] == "snapshot"
                        self.resumed += fields["event"] != "snapshot"
                        first = False
                    self._hear(fields["id"], fields["event"], orjson.loads(fields["data"]))
                fields = {}

    def _hear(self, identity: str, event: str, data: Json) -> None:
        life, _, number = identity.rpartition("-")
        held_life, _, held_number = self._last.rpartition("-")
        if event != "snapshot" and (life != held_life or int(number) != int(held_number) + 1):
            self.problems.append(f"after {self._last} came {event} {identity}: a gap or a repeat")
        self._last = identity
        self.position = data.get("position", self.position)
        if event == "snapshot":
            self.agents, self.calls = {}, {}
        for agent in data.get("agents", []):
            self.agents[agent["pbx"], agent["extension"]] = agent
        for call in data.get("calls", []):
            held = self.calls.get(call["session_id"])
            if held is None or call["revision"] >= held["revision"]:
                self.calls[call["session_id"]] = call
