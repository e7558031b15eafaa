"""The pages of a server that wants a token, in a real Chromium: one is typed, or the server comes to take theirs."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from events.kafka import KafkaSettings
from tests.browser import chromium
from tests.system import System, post
from tests.test_calls_page import find
from tests.test_wallboard import ended

TOKEN, LATER = "the-token-of-today", "the-token-of-tomorrow"
PAGES = ("/", "/calls", "/parity")


@pytest.fixture
async def guarded(kafka: KafkaSettings, tmp_path: Path) -> AsyncIterator[System]:
    """Everything, ready; the API wants a token."""
    async with System(kafka, tmp_path, PROJECTIONS_API_TOKENS=TOKEN) as running:
        yield running


async def test_after_a_token_was_typed_the_pages_of_the_log_turn_both_ways(guarded: System) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        for number in range(51):
            await post(client, guarded, ended("201", f"+4122555{number:04}", 5))
        page = await browser.new_page()
        await page.goto(f"{guarded.board}/calls")
        await page.locator("#token-text").fill(TOKEN)
        await page.locator("#token-text").press("Enter")
        await expect(page.locator("#token")).not_to_be_visible()
        await find(page, 50)
        await page.locator("#older").click()
        await find(page, 1)
        await page.locator("#newer").click()
        await find(page, 50)
        await page.go_back()
        await find(page, 1)
        await expect(page.locator("#newer")).to_be_enabled()


async def test_a_refused_page_says_so_and_lives_as_soon_as_its_token_is_taken(guarded: System) -> None:
    async with chromium() as browser:
        context = await browser.new_context()
        pages = {path: await context.new_page() for path in PAGES}
        for path, page in pages.items():
            await page.goto(f"{guarded.board}{path}?access_token={LATER}")
            await expect(page.locator("#token")).to_contain_text("trying again")
        await expect(pages["/calls"].locator("#banner")).to_contain_text("trying again")
        guarded.services["projections"].stop()
        guarded.environment["PROJECTIONS_API_TOKENS"] = LATER
        guarded.start("projections")
        await expect(pages["/"].locator("#feed")).to_have_attribute("data-status", "live", timeout=60_000)
        await expect(pages["/calls"].locator("#found")).to_have_text("0 calls", timeout=60_000)
        await expect(pages["/parity"].locator("#nothing")).to_contain_text("No phone system", timeout=90_000)
        for page in pages.values():
            await expect(page.locator("#token")).not_to_be_visible()
