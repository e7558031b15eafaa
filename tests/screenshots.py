"""``python -m tests.screenshots``: the pictures of the documentation, of a simulated day on the real services.

A call centre's last hours are posted at once, with the times at which they would have happened, then its present as it
comes. Broker: `KAFKA_BOOTSTRAP_SERVERS`, else a local one.
"""

import asyncio
import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx
from playwright.async_api import Browser, Page, expect

from deploy.local.brokers import running
from deploy.local.call_centre import CallCentre, Scenario
from events.kafka import KafkaSettings, ensure_topics
from tests.browser import chromium
from tests.system import System, noon_zone

FOLDER: Final = Path(__file__).parent.parent / "docs" / "wallboard"
PAST_S: Final = 6 * 3600
TARGETS: Final = "answered>=900, missed<=80, average_handling_s<=200, inferred_share<=0.05"
SCENARIO: Final = Scenario(seed=7, agents=24, calls_per_minute=3.2, talk_median_s=150)
# Name, width, height, scale, theme, address.
PICTURES: Final = (
    ("tv", 1920, 1080, 1, "dark", "/"),
    ("laptop", 1440, 900, 1, "light", "/"),
    ("phone", 390, 844, 2, "light", "/?lang=de"),
    ("calls", 1440, 1100, 1, "light", "/calls"),
    ("why", 1440, 900, 1, "dark", "/calls?inferred=true"),
)


@contextlib.contextmanager
def _broker(folder: Path) -> Iterator[str]:
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    with running(folder) as broker:
        yield broker.bootstrap_servers


async def _post(system: System, caught_up: asyncio.Event) -> None:
    """Every webhook of the simulated centre, those of the past at once, until cancelled."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    centre = CallCentre(SCENARIO, datetime.now(UTC) - timedelta(seconds=PAST_S))
    async with httpx.AsyncClient() as client:
        for webhook in centre.webhooks():
            ahead_s = webhook.due_s - PAST_S - (loop.time() - began_s)
            if ahead_s > 0:
                caught_up.set()
                await asyncio.sleep(ahead_s)
            await client.post(f"{system.door}/webhook/3cx/call-event", content=webhook.body)


async def _take(browser: Browser, url: str, picture: tuple[str, int, int, int, str, str]) -> None:
    name, width, height, scale, theme, address = picture
    page = await browser.new_page(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme="dark" if theme == "dark" else "light",
    )
    await page.goto(url + address)
    await _shown(page, name)
    await page.screenshot(path=FOLDER / f"{name}.png")
    await page.close()


async def _shown(page: Page, name: str) -> None:
    """Wait until all is there that the picture is to show."""
    await expect(page.locator("#figures .tile")).not_to_have_count(0, timeout=30_000)
    if name == "why":
        await page.locator("#calls button").first.click()
        await expect(page.locator("#why-body .history > li")).not_to_have_count(0)
    elif name == "calls":
        await expect(page.locator(".plot canvas")).to_have_count(2)
    else:
        await expect(page.locator("body.stale")).not_to_be_attached(timeout=30_000)
        await expect(page.locator("#figures a[href]")).not_to_have_count(0)
        await expect(page.locator("#last tr")).not_to_have_count(0)
        await page.wait_for_timeout(1_500)  # the clocks of the agents


async def main() -> None:
    """Start, post, take the pictures, stop."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _broker(Path(folder) / "kafka") as servers:
        prefix = f"pictures-{uuid.uuid4().hex[:8]}"
        settings = KafkaSettings(kafka_bootstrap_servers=servers, kafka_topic_prefix=prefix, kafka_topic_partitions=4)
        await ensure_topics(settings)
        # A call whose end got lost is to end with the agent's next one now, not in a quarter of an hour.
        said = {"PROJECTIONS_TARGETS": TARGETS, "PROCESSORS_SUPERSEDED_GRACE_S": "1"}
        system = System(settings, Path(folder), PBX_TIMEZONE=noon_zone(datetime.now(UTC)), **said)
        system.start()
        caught_up = asyncio.Event()
        try:
            await system.ready()
            posting = asyncio.create_task(_post(system, caught_up))
            await caught_up.wait()
            async with chromium() as browser:
                for picture in PICTURES:
                    await _take(browser, system.board, picture)
            posting.cancel()
        finally:
            system.kill()
    print(f"{len(PICTURES)} pictures in {FOLDER}")


if __name__ == "__main__":
    asyncio.run(main())
