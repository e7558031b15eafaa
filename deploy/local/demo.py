"""``python -m deploy.local.demo``: a simulated call centre posts to the running ingest, so that the wallboard moves."""

import argparse
import asyncio
import contextlib
import signal
from datetime import UTC, datetime
from typing import Final

import httpx

from deploy.local.call_centre import CallCentre, Scenario, Webhook
from events.settings import load
from ingest.settings import IngestSettings

IN_FLIGHT_MAX: Final = 50
RETRY_S: Final = 1.0
RETRIES_MAX: Final = 60
REPORT_S: Final = 30.0


class Sender:
    """Posts webhooks, and posts again what was not accepted: a lost webhook is a lost call."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        """`url` is the one that 3CX would be given."""
        self._client = client
        self._url = url
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self.accepted = 0
        self.refused = 0

    async def send(self, webhook: Webhook) -> None:
        """Post until accepted, refused for good, or given up."""
        async with self._slots:
            for _ in range(RETRIES_MAX):
                with contextlib.suppress(httpx.TransportError):
                    answer = await self._client.post(self._url, content=webhook.body)
                    if answer.is_success:
                        self.accepted += 1
                        return
                    if answer.is_client_error:
                        break
                await asyncio.sleep(RETRY_S)
            self.refused += 1


async def main(scenario: Scenario, duration_s: float | None) -> None:
    """Post in real time until cancelled, or for `duration_s`."""
    settings = load(IngestSettings)
    url = f"http://{settings.ingest_host}:{settings.ingest_port}/webhook/3cx/call-event"
    headers = {"Content-Type": "application/json"}
    if settings.secrets:
        headers["X-Webhook-Secret"] = settings.secrets[0].decode()
    loop = asyncio.get_running_loop()
    began_s = last_report_s = loop.time()
    async with httpx.AsyncClient(headers=headers, timeout=10.0) as client, asyncio.TaskGroup() as sending:
        sender = Sender(client, url)
        for webhook in CallCentre(scenario, datetime.now(UTC)).webhooks():
            if duration_s is not None and webhook.due_s > duration_s:
                return
            await asyncio.sleep(max(0.0, began_s + webhook.due_s - loop.time()))
            sending.create_task(sender.send(webhook))
            if loop.time() - last_report_s > REPORT_S:
                last_report_s = loop.time()
                print(f"{sender.accepted} webhooks accepted, {sender.refused} refused", flush=True)


def scenario_of(arguments: list[str] | None = None) -> tuple[Scenario, float | None]:
    """The scenario and its length, from the command line."""
    usual = Scenario()
    parser = argparse.ArgumentParser(prog="deploy.local.demo", description=__doc__)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--agents", type=int, default=usual.agents)
    parser.add_argument("--calls-per-minute", type=float, default=usual.calls_per_minute)
    parser.add_argument("--duration-s", type=float, default=None, help="default: until stopped")
    given = parser.parse_args(arguments)
    chosen = Scenario(seed=given.seed, agents=given.agents, calls_per_minute=given.calls_per_minute)
    return chosen, given.duration_s


async def _until_stopped() -> None:
    task = asyncio.ensure_future(main(*scenario_of()))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(_until_stopped())
