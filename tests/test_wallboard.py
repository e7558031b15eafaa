"""The wallboard in a real Chromium: as fast as it is promised, never quietly wrong, and hostile text stays text."""

import re
import sqlite3
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from playwright.async_api import Page, expect

from events.pbx import DEFAULT_PBX
from tests.browser import accessible, chromium, watched
from tests.builders import zulu
from tests.relay import relaying
from tests.system import System, calls_of, post
from tests.waiting import eventually

PIECES = (
    "<script>window.pwned={}</script>", "<img src=x onerror=window.pwned={}>", '"><svg onload=window.pwned={}>',
    "<iframe srcdoc='<script>parent.pwned={}</script>'>", "<a href=javascript:window.pwned={}>x</a>",
    "javascript:window.pwned={}", "data:text/html,<script>window.pwned={}</script>", "</td><b>{}</b>",
)  # fmt: skip
PAYLOADS = tuple(PIECES[n % len(PIECES)].replace("{}", str(n)) for n in range(200))
FOUND = re.compile(r"^\d+ calls?$")
LANGUAGES = {"en": "In progress", "de": "Laufende Gespräche", "fr": "Appels en cours"}
# What the page hears, as it hears it.
HEARING = """
window.heard = [];
const Real = EventSource;
window.EventSource = class extends Real {
  constructor(url) {
    super(url);
    for (const name of ["snapshot", "change", "feeds"])
      this.addEventListener(name, (message) => heard.push(message.lastEventId));
  }
};
"""


def begun(agent: str, party: str, at: datetime | None = None, **more: str) -> dict[str, Any]:
    """The webhook of a call that begins."""
    began = zulu(at or datetime.now(UTC))
    return {
        "caller": party,
        "callee": "+41225555678",
        "agentExt": agent,
        "direction": "Inbound",
        "startTime": began,
    } | more


def ended(agent: str, party: str, duration_s: int, **more: str) -> dict[str, Any]:
    """The webhook of a call that ends now."""
    duration = f"00:{duration_s // 60:02}:{duration_s % 60:02}"
    body = {"caller": party, "callee": "+41225555678", "agentExt": agent, "direction": "Inbound", "duration": duration}
    return body | {"endUtc": zulu(datetime.now(UTC))} | more


async def open_board(page: Page, url: str, site: str) -> None:
    """The board of one PBX, live."""
    await page.goto(f"{url}/?pbx={site}")
    await expect(page.locator("#feed")).to_have_attribute("data-status", "live", timeout=20_000)


def card(page: Page, site: str, agent: str) -> Any:
    return page.locator(f'[data-key="{site}/{agent}"]')


async def test_an_agent_changes_within_a_second_of_the_webhook(shared_system: System, site: str) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        page = await browser.new_page()
        await post(client, shared_system, begun("200", "+41225550000"), site)
        await open_board(page, shared_system.board, site)
        took_s: list[float] = []
        for number in range(1, 6):
            agent, party = str(200 + number), f"+4122555000{number}"
            for body, status in ((begun(agent, party), "on_call"), (ended(agent, party, 5), "available")):
                await post(client, shared_system, body, site)
                began = time.monotonic()
                await expect(card(page, site, agent)).to_have_attribute("data-status", status, timeout=5000)
                took_s.append(time.monotonic() - began)
        assert statistics.median(took_s) < 1, took_s
        await expect(page.locator("#last tr")).to_have_count(5)
        await expect(card(page, site, "201")).to_contain_text(re.compile(r"50001(0 calls|1 call) · "))  # 0: a new day


async def test_a_broken_line_is_shown_and_nothing_is_missed(shared_system: System, site: str) -> None:
    async with (
        httpx.AsyncClient() as client,
        chromium() as browser,
        relaying(shared_system.board) as (relay, url),
    ):
        page = await browser.new_page()
        await page.add_init_script(HEARING)
        await post(client, shared_system, begun("1", "+41225550001"), site)
        await open_board(page, url, site)
        await expect(card(page, site, "1")).to_have_attribute("data-status", "on_call")
        relay.cut()
        await expect(page.locator("body.stale")).to_be_attached(timeout=3000)
        await expect(page.locator("#banner")).to_contain_text("no longer up to date")
        await expect(page.locator("#feed")).to_have_text("disconnected")
        for number in range(2, 5):
            await post(client, shared_system, begun(str(number), f"+4122555000{number}"), site)
        await eventually(lambda: calls_of(client, shared_system, pbx=site), lambda seen: len(seen) == 4)
        relay.mend()
        await expect(card(page, site, "4")).to_have_attribute("data-status", "on_call", timeout=10_000)
        await expect(page.locator("body.stale")).not_to_be_attached()
        numbers = [int(one.rpartition("-")[2]) for one in await page.evaluate("heard")]
        # A snapshot out of turn would tell a number again: the page was told what it had missed, one by one.
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
        relay.silence()
        await expect(page.locator("body.stale")).to_be_attached(timeout=10_000)
        relay.mend()
        await expect(page.locator("body.stale")).not_to_be_attached(timeout=10_000)


async def test_a_phone_systems_last_calls_stay_however_busy_another_one_is(shared_system: System, site: str) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        await post(client, shared_system, ended("201", "+41225550001", 5), site)
        page = await browser.new_page()
        await open_board(page, shared_system.board, site)
        await expect(page.locator("#last tr")).to_have_count(1)
        for number in range(51):
            await post(client, shared_system, ended("202", f"+4122556{number:04}", 5))
        await page.locator("#pbx").select_option(DEFAULT_PBX)
        await expect(page.locator("#last")).to_contain_text("+41225560050")
        await page.locator("#pbx").select_option(site)
        await expect(page.locator("#last tr")).to_have_count(1)
        await open_board(page, shared_system.board, site)
        await expect(page.locator("#last tr")).to_have_count(1)


async def test_a_row_that_stays_keeps_the_focus_when_another_one_goes(shared_system: System, site: str) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        page = await browser.new_page()
        await open_board(page, shared_system.board, site)
        for agent in ("201", "202", "203"):
            await post(client, shared_system, begun(agent, f"+41225550{agent}"), site)
        await expect(page.locator("#open tr")).to_have_count(3)
        link = page.locator("#open tr", has_text="+41225550201").locator("a")
        await link.focus()
        await post(client, shared_system, ended("203", "+41225550203", 5), site)
        await expect(page.locator("#open tr")).to_have_count(2)
        await expect(link).to_be_focused()


async def test_agents_stand_by_their_numbers_and_no_collator_is_made_for_each_pair(
    shared_system: System, site: str
) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        for agent in ("1000", "201", "9", "reception"):
            await post(client, shared_system, begun(agent, f"+4122555{agent}"), site)
        page = await browser.new_page()
        await page.add_init_script("""
            const compare = String.prototype.localeCompare;
            window.made = 0;
            String.prototype.localeCompare = function (...given) {
              made += 1;
              return compare.apply(this, given);
            };
        """)
        await open_board(page, shared_system.board, site)
        await expect(page.locator("#agents .name")).to_have_text(["9", "201", "1000", "reception"])
        assert await page.evaluate("made") == 0


async def test_what_is_not_of_today_is_as_of_a_date(system: System) -> None:
    for name in ("processors", "projections"):
        system.services.pop(name).stop()
    with sqlite3.connect(system.data_dir / "projections.sqlite") as database:
        database.execute("update offsets set stream_time = datetime(stream_time, '-2 days')")
    system.start("projections")
    async with chromium() as browser:
        page = await browser.new_page(locale="de-CH")
        await system.ready(with_feed=False)
        for path in ("/", "/calls"):
            await page.goto(f"{system.board}{path}")
            await expect(page.locator("#as-of")).to_have_text(re.compile(r"\d\d\.\d\d\.\d\d \d\d:\d\d:\d\d$"))


async def test_a_server_that_was_killed_is_found_again(system: System) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        page = await browser.new_page()
        await open_board(page, system.board, "default")
        system.services["projections"].kill()
        await expect(page.locator("body.stale")).to_be_attached(timeout=10_000)
        await post(client, system, begun("777", "+41791112233"))
        system.start("projections")
        await expect(page.locator("body.stale")).not_to_be_attached(timeout=60_000)
        await expect(card(page, "default", "777")).to_have_attribute("data-status", "on_call", timeout=20_000)


async def test_two_hundred_hostile_texts_in_every_field_stay_text(shared_system: System, site: str) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        page = await browser.new_page()
        complaints = watched(page)
        await open_board(page, shared_system.board, site)
        for number, text in enumerate(PAYLOADS):
            agent = f"{number} {text}"[:60]
            body = ended(agent, text, 5, callId=text, wav=text) if number % 2 else begun(agent, text)
            await post(client, shared_system, body | {"callee": text, "agentMail": text}, site)
        await expect(page.locator("#agents > li")).to_have_count(len(PAYLOADS), timeout=30_000)
        await expect(page.locator("#open tr")).to_have_count(len(PAYLOADS) // 2, timeout=30_000)
        await expect(page.locator("#last tr")).not_to_have_count(0)
        for payload in PIECES[1::2]:
            assert payload.partition("{")[0] in await page.locator("#last").inner_text()
        await _only_text(page)
        await page.goto(f"{shared_system.board}/calls?pbx={site}")
        await expect(page.locator("#calls tr")).to_have_count(50)
        await _read_whys(page)
        for _ in range(len(PAYLOADS) // 50 - 1):
            await _only_text(page)
            before = await page.locator("#calls tr").first.get_attribute("data-key")
            await page.locator("#older").click()
            await expect(page.locator("#calls tr").first).not_to_have_attribute("data-key", str(before))
        await expect(page.locator("#older")).to_be_disabled()
        await _only_text(page)
        for payload in PIECES:
            await page.goto(
                str(httpx.URL(f"{shared_system.board}/calls", params={"agent": payload, "number": payload}))
            )
            await expect(page.locator("[name=agent]")).to_have_value(payload)
            await expect(page.locator("#found")).to_have_text("0 calls")
        assert await page.evaluate("window.pwned") is None
        assert complaints == []


async def _read_whys(page: Page) -> None:
    """Open the why of a call with each kind of payload."""
    for place in range(0, 50, 7):
        row = page.locator("#calls tr").nth(place)
        text = await row.locator(".caller").inner_text()
        await row.locator("button").click()
        await expect(page.locator("#why-body")).to_contain_text(text)
        await expect(page.locator("#why-body .history > li")).not_to_have_count(0)
        await _only_text(page)
        await page.keyboard.press("Escape")


async def _only_text(page: Page) -> None:
    assert await page.locator("main :is(script, img, svg, iframe, b), main a[href^=javascript]").count() == 0
    assert await page.locator("main a:not([href^='/'], [href^='http']):is([href])").count() == 0


async def test_the_board_is_accessible_in_light_and_dark_and_speaks_three_languages(
    shared_system: System, site: str
) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        for number in range(4):
            await post(client, shared_system, begun(str(number), f"+4122555000{number}"), site)
        for number in range(3):
            await post(
                client, shared_system, ended(str(number), f"+4122555000{number}", 3, wav="https://a.example/1"), site
            )
        await post(client, shared_system, ended("9", "+41225550009", 0) | {"direction": "Missed"}, site)
        page = await browser.new_page()
        for theme in ("light", "dark"):
            await open_board(page, f"{shared_system.board}", f"{site}&theme={theme}")
            await expect(page.locator("#last tr")).to_have_count(4, timeout=20_000)
            await expect(page.locator("#figures a[href]")).not_to_have_count(0)
            await accessible(page)
        for language, title in LANGUAGES.items():
            await open_board(page, f"{shared_system.board}", f"{site}&lang={language}")
            await expect(page.locator("#open-title")).to_have_text(title)
            await expect(page.locator("html")).to_have_attribute("lang", language)
            await expect(page.locator("#last tr")).to_have_count(4)
            fits = "(table) => table.scrollWidth <= table.parentElement.clientWidth"
            assert await page.locator(".last table").evaluate(fits), "the links to the recordings are cut off"
        words = [await page.evaluate(PATHS, language) for language in LANGUAGES]
        assert words[0] == words[1] == words[2], "every language has every word"


# The names of all words of a language, as paths.
PATHS = """async (language) => {
  const paths = (one, at) => Object.entries(one).flatMap(([name, value]) =>
    typeof value === "object" ? paths(value, at + name + ".") : [at + name + ":" + typeof value]);
  return paths((await import(`/wallboard/words.${language}.js`))[language], "").sort();
}"""


async def test_a_tile_says_how_many_rows_its_link_lists(shared_system: System, site: str) -> None:
    now = datetime.now(UTC)
    async with httpx.AsyncClient() as client, chromium() as browser:
        for number in range(56):
            agent, party = str(200 + number % 7), f"+4122555{number:04}"
            await post(client, shared_system, ended(agent, party, number + 1), site)
        for number in range(3):
            await post(client, shared_system, ended("300", f"+4122556{number:04}", 0) | {"direction": "Missed"}, site)
            await post(client, shared_system, begun(f"40{number}", f"+4122557{number:04}"), site)
        # A party that begins with another agent has left the first: its end is inferred.
        await post(client, shared_system, begun("500", "+41225580000", now - timedelta(seconds=60)), site)
        await post(client, shared_system, begun("501", "+41225580000", now), site)
        page = await browser.new_page()
        await open_board(page, shared_system.board, site)
        expected = {"calls": 64, "open": 4, "answered": 56, "missed": 3, "not_answered": 0}
        for name, count in expected.items():
            await expect(page.locator(f"[data-figure={name}] .value")).to_have_text(str(count), timeout=20_000)
        await expect(page.locator("[data-figure=missed]")).to_have_attribute("data-met", "false")
        await expect(page.locator("[data-figure=calls]")).to_have_attribute("data-met", "true")
        await expect(page.locator("#inferred")).to_have_text("≈ 1.7% of ends inferred")
        tiles = page.locator("#figures a[href], #inferred[href]")
        await expect(tiles).to_have_count(8)
        links = [str(await one.get_attribute("href")) for one in await tiles.all()]
        rows = [await _rows(page, shared_system.board + link) for link in links]
        talk_s = sum(range(1, 57))
        assert [len(one) for one in rows] == [1, *expected.values(), 56, 59], links
        assert sum(rows[6]) == sum(rows[7]) == talk_s
        await open_board(page, shared_system.board, site)
        await expect(page.locator("[data-figure=talk_s] .value")).to_have_text(f"{talk_s // 60}:{talk_s % 60:02}")
        mean = round(talk_s / 56)
        await expect(page.locator("[data-figure=average_handling_s] .value")).to_have_text(f"0:{mean:02}")


async def _rows(page: Page, url: str) -> list[int]:
    """The talk times in seconds of all rows that the call-log page lists there, over all its pages."""
    await page.goto(url)
    found: list[int] = []
    while True:
        await expect(page.locator("#found")).to_have_text(FOUND)
        for text in await page.locator("#calls td.talk").all_inner_texts():
            minutes, _, seconds = text.partition(":")
            found.append(int(minutes) * 60 + int(seconds) if seconds else 0)
        if await page.locator("#older").is_disabled():
            return found
        before = await page.locator("#calls tr").first.get_attribute("data-key")
        await page.locator("#older").click()
        await expect(page.locator("#calls tr").first).not_to_have_attribute("data-key", str(before))


async def test_the_keyboard_alone_leads_from_a_tile_to_the_why_of_a_call(shared_system: System, site: str) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        for number in range(3):
            await post(client, shared_system, ended("201", f"+4122555000{number}", 5), site)
        context = await browser.new_context(locale="fr-CH")
        page = await context.new_page()
        await open_board(page, shared_system.board, site)
        await expect(page.locator("html")).to_have_attribute("lang", "fr")
        await _tab_to(page, "#menu summary")
        await page.keyboard.press("Enter")
        await _tab_to(page, "#language")
        await page.keyboard.type("E")
        await expect(page.locator("html")).to_have_attribute("lang", "en")
        await page.keyboard.press("Escape")
        await expect(page.locator("#menu summary")).to_be_focused()
        await expect(page.locator("#figures a[href]")).to_have_count(7)
        await _tab_to(page, "[data-figure=answered] a")
        await page.keyboard.press("Enter")
        await expect(page.locator("#calls tr")).to_have_count(3)
        await expect(page.locator("html")).to_have_attribute("lang", "en")  # the choice is kept
        await _tab_to(page, "[name=number]")
        await page.keyboard.type("022 555 00 01")
        await page.keyboard.press("Enter")
        await expect(page.locator("#calls tr")).to_have_count(1)
        await page.go_back()
        await expect(page.locator("#calls tr")).to_have_count(3)
        await _tab_to(page, "#calls tr")
        await page.keyboard.press("Home")
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#calls tr").nth(1)).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#why-body")).to_contain_text("+41225550001")
        await page.keyboard.press("Escape")
        await expect(page.locator("#why")).not_to_be_visible()
        await expect(page.locator("#calls tr").nth(1)).to_be_focused()


SHOWS_FOCUS = """() => {
  const one = document.activeElement;
  return one === document.body || getComputedStyle(one).outlineStyle !== "none";
}"""


async def _tab_to(page: Page, wanted: str) -> None:
    """Press Tab until that has the focus, and see that whatever has it shows it."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        assert await page.evaluate(SHOWS_FOCUS), await page.evaluate("document.activeElement.outerHTML")
        if await page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
            return
    message = f"{wanted} is not in the order of the Tab key"
    raise AssertionError(message)
