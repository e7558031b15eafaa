"""The wallboard in a real Chromium: accessible, in three languages, light and dark, and hostile text stays text."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from events.kafka import KafkaSettings
from tests.browser import chromium
from tests.builders import zulu
from tests.system import System

PIECES = (
    "<script>window.pwned={}</script>", "<img src=x onerror=window.pwned={}>", '"><svg onload=window.pwned={}>',
    "<iframe srcdoc='<script>parent.pwned={}</script>'>", "<a href=javascript:window.pwned={}>x</a>",
    "javascript:window.pwned={}", "data:text/html,<script>window.pwned={}</script>", "</td><b>{}</b>",
)  # fmt: skip
PAYLOADS = tuple(PIECES[n % len(PIECES)].replace("{}", str(n)) for n in range(200))
LANGUAGES = {"en": "Calls in progress", "de": "Laufende Gespräche", "fr": "Appels en cours"}


@pytest.fixture
async def system(kafka: KafkaSettings, tmp_path: Path) -> AsyncIterator[System]:
    """Everything, ready."""
    running = System(kafka, tmp_path)
    running.start()
    await running.ready()
    yield running
    running.kill()


async def fill_with(system: System, texts: tuple[str, ...]) -> None:
    at = zulu(datetime.now(UTC))
    async with httpx.AsyncClient() as client:
        for number, text in enumerate(texts):
            body: dict[str, Any] = {
                "caller": text, "callee": text, "agentExt": f"{number} {text}"[:60], "agentMail": text,
                "direction": "Inbound", "startTime": at,
            }  # fmt: skip
            if number % 2:
                body |= {"callId": text, "duration": "00:00:05", "wav": text, "endUtc": at}
            answer = await client.post(f"{system.door}/webhook/3cx/call-event", json=body)
            assert answer.status_code == httpx.codes.ACCEPTED


async def test_two_hundred_hostile_texts_in_every_field_stay_text(system: System) -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        await page.goto(system.board)
        await fill_with(system, PAYLOADS)
        await expect(page.locator("#agents > li")).to_have_count(len(PAYLOADS), timeout=30_000)
        await expect(page.locator("#open tr")).to_have_count(len(PAYLOADS) // 2, timeout=30_000)
        assert await page.evaluate("window.pwned") is None
        assert await page.locator("main :is(script, img, svg, iframe, a, b)").count() == 0
        assert complaints == []


async def test_the_page_is_accessible_in_light_and_dark_and_speaks_three_languages(system: System) -> None:
    await fill_with(system, ("+41225550001", "+41225550002", "+41225550003"))
    async with chromium() as browser:
        for theme in ("light", "dark"):
            for language, title in LANGUAGES.items():
                page = await browser.new_page()
                await page.goto(f"{system.board}/?theme={theme}&lang={language}")
                await expect(page.locator("body")).not_to_have_class("stale", timeout=20_000)
                await expect(page.locator("#open tr")).not_to_have_count(0, timeout=20_000)
                await expect(page.locator("#open-title")).to_have_text(title)
                found = await Axe().run(page)
                assert found.violations_count == 0, found.generate_report()
                await page.close()


async def test_a_choice_of_language_and_colours_is_kept_and_made_with_the_keyboard(system: System) -> None:
    async with chromium() as browser:
        context = await browser.new_context(locale="fr-CH")
        page = await context.new_page()
        await page.goto(system.board)
        await expect(page.locator("#agents-title")).to_have_text("Agents")
        await expect(page.locator("html")).to_have_attribute("lang", "fr")
        for _ in range(3):
            await page.keyboard.press("Tab")
        await expect(page.locator("#language")).to_be_focused()
        await page.keyboard.type("D")
        await expect(page.locator("html")).to_have_attribute("lang", "de")
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("lang", "de")
