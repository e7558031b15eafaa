"""The call-log page in a real Chromium: every filter is in the address, and every call says why it reads as it does."""

import asyncio
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from playwright.async_api import Page, Route, expect

from projections.api import ASSETS, WALLBOARD
from tests.browser import accessible, chromium, watched
from tests.builders import zulu
from tests.system import System, calls_of, noon_zone, post
from tests.test_wallboard import begun, ended
from tests.waiting import eventually

VENDOR = WALLBOARD / "vendor"
ADDRESS = re.compile(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.IGNORECASE)


def test_what_others_wrote_is_what_they_published_and_has_its_licence() -> None:
    lines = [line.split("  ") for line in (VENDOR / "SHA256SUMS").read_text("utf-8").splitlines()]
    sums = {name: wanted for wanted, name in lines}
    files = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert set(sums) == files
    for name, wanted in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == wanted, f"{name} is not as published"
    for folder in {Path(name).parent for name in files}:
        assert (VENDOR / folder / "LICENSE").is_file(), f"{folder} has no licence"


def test_the_pages_name_no_outside_host_and_no_inline_script() -> None:
    pages = [path for path in WALLBOARD.rglob("*") if path.suffix in {*ASSETS, ".html"} and VENDOR not in path.parents]
    assert len(pages) > 15
    for path in pages:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not ADDRESS.search(text), path
        assert not re.search(
            r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|\son[a-z]+=|<script>|style=", text
        ), path


async def find(page: Page, count: int) -> None:
    await expect(page.locator("#calls tr")).to_have_count(count)


async def test_each_filter_is_in_the_address_and_an_address_fills_in_the_filters(
    shared_system: System, site: str
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    async with httpx.AsyncClient() as client, chromium() as browser:
        await post(client, shared_system, ended("201", "+41225550001", 30), site)
        await post(client, shared_system, ended("202", "+41225550002", 0) | {"direction": "Missed"}, site)
        await post(client, shared_system, begun("203", "+41225550003", now - timedelta(hours=3)), site)
        await eventually(lambda: calls_of(client, shared_system, pbx=site), lambda seen: len(seen) == 3)
        page = await browser.new_page()
        complaints = watched(page)
        await page.goto(f"{shared_system.board}/calls?pbx={site}")
        await find(page, 3)
        for name, value in (("agent", "201"), ("number", "022 555 00 02")):
            await page.locator(f"[name={name}]").fill(value)
            await page.locator(f"[name={name}]").press("Enter")
            await find(page, 1)
            await page.reload()
            await find(page, 1)
            await expect(page.locator(f"[name={name}]")).to_have_value(value)
            await page.locator(f"[name={name}]").fill("")
            await page.locator(f"[name={name}]").press("Enter")
            await find(page, 3)
        chosen = (
            ("direction", "outbound", 0), ("status", "open", 1), ("outcome", "missed", 1), ("inferred", "true", 0),
            ("closed", "true", 2), ("has_duration", "false", 1),
        )  # fmt: skip
        for name, value, count in chosen:
            await page.locator(f"[name={name}]").select_option(value)
            await find(page, count)
            assert f"{name}={value}" in page.url
            await page.locator(f"[name={name}]").select_option("")
            await find(page, 3)
        edge = (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
        await page.locator("[name=from]").fill(edge)
        await find(page, 2)
        assert "from=" in page.url
        await page.locator("[name=from]").fill("")
        await page.locator("[name=to]").fill(edge)
        await find(page, 1)
        await page.locator("#clear").click()
        await expect(page.locator("[name=pbx]")).to_have_value("")
        assert page.url.endswith("/calls")
        assert complaints == []


async def test_the_hour_that_comes_twice_stays_the_one_that_the_address_says(shared_system: System) -> None:
    second = "2026-10-25T01:30:00Z"  # 02:30, as an hour before
    async with chromium() as browser:
        page = await browser.new_page(timezone_id="Europe/Zurich")
        await page.goto(f"{shared_system.board}/calls?pbx=none&from={second}")
        await expect(page.locator("[name=from]")).to_have_value("2026-10-25T02:30")
        await page.locator("[name=direction]").select_option("inbound")
        await expect(page).to_have_url(re.compile("direction=inbound"))
        assert httpx.URL(page.url).params["from"] == second


async def test_the_why_of_a_call_tells_rules_changes_and_raw_records(shared_system: System, site: str) -> None:
    now = datetime.now(UTC)
    party = "+41225550001"
    async with httpx.AsyncClient() as client, chromium() as browser:
        first = await post(client, shared_system, begun("201", party, now - timedelta(seconds=90)), site)
        second = await post(client, shared_system, begun("202", party, now - timedelta(seconds=30)), site)
        await eventually(lambda: calls_of(client, shared_system, pbx=site, inferred="true"), bool)
        true_end = ended("201", party, 50, wav="https://pbx.example.com/1.wav") | {"endUtc": zulu(now)}
        third = await post(client, shared_system, true_end, site)
        (call,) = await eventually(lambda: calls_of(client, shared_system, pbx=site, agent="201", status="ended"), bool)
        page = await browser.new_page()
        await page.goto(f"{shared_system.board}/calls?pbx={site}&agent=201&call={call['session_id']}")
        history = page.locator("#why-body .history > li")
        await expect(history).to_have_count(3)
        assert [await one.get_attribute("data-type") for one in await history.all()] == [
            "call.started", "call.end_missed", "call.corrected",
        ]  # fmt: skip
        for place, causes in enumerate(((first,), (second,), (third,))):
            for cause in causes:
                await expect(history.nth(place).locator(".causes")).to_contain_text(cause)
        await expect(history.nth(1)).to_contain_text("The same party began a call with another agent")
        changed = history.nth(2).locator("tr", has_text="Status")
        await expect(changed.locator("td")).to_have_text(["Status", "end inferred", "ended"])
        link = page.locator("#why-body .recording")
        await expect(link).to_have_attribute("href", "https://pbx.example.com/1.wav")
        await page.locator("#why-records").click()
        bodies = page.locator("#why-body .records pre")
        await expect(bodies).to_have_count(3)
        assert json.loads(await bodies.nth(2).inner_text()) == true_end
        await page.locator("#why-close").click()
        assert "call=" not in page.url


class Late:
    """The answers to those requests of the page, once it is `over`."""

    def __init__(self) -> None:
        """Nothing is late yet."""
        self._over = asyncio.Event()

    async def hold(self, route: Route) -> None:
        """A request that waits."""
        await self._over.wait()
        await route.continue_()

    async def over(self, page: Page, url: str) -> None:
        """Let them come, and the page hear the one of `url`."""
        async with page.expect_response(url) as answered:
            self._over.set()
        await (await answered.value).finished()
        await page.evaluate("fetch('/health').then((answer) => answer.text())")


async def test_what_comes_late_is_not_shown_for_what_is_open_now(shared_system: System, site: str) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        for number in range(2):
            await post(client, shared_system, ended(f"20{number}", f"+4122555000{number}", 5), site)
        found = await eventually(lambda: calls_of(client, shared_system, pbx=site), lambda seen: len(seen) == 2)
        second, first = (call["session_id"] for call in found)
        page, late = await browser.new_page(), Late()
        for slow in (f"**/calls/{first}/why", "**/series?*agent=200*"):
            await page.route(slow, late.hold)
        await page.goto(f"{shared_system.board}/calls?pbx={site}&agent=200")
        await page.locator("[name=agent]").fill("")
        await page.locator("[name=agent]").press("Enter")
        await find(page, 2)
        async with page.expect_request(f"**/calls/{first}/why"):
            await page.locator(f'[data-key="{first}"] button').click()
        await page.keyboard.press("Escape")
        await page.locator(f'[data-key="{second}"] button').click()
        await expect(page.locator("#why-body")).to_contain_text(second)
        await late.over(page, f"**/calls/{first}/why")
        await expect(page.locator("#why-body")).to_contain_text(second)
        await expect(page.locator("#why-body")).not_to_contain_text(first)
        await page.set_viewport_size({"width": 1000, "height": 900})  # the charts are drawn anew
        await page.evaluate("new Promise(requestAnimationFrame)")
        await expect(page.locator("#series .plot")).to_have_attribute("aria-label", re.compile(": 2 calls"))


async def test_a_why_is_gone_as_soon_as_another_call_is_open(shared_system: System, site: str) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        for number in range(2):
            await post(client, shared_system, ended("201", f"+4122555000{number}", 5), site)
        found = await eventually(lambda: calls_of(client, shared_system, pbx=site), lambda seen: len(seen) == 2)
        second, first = (call["session_id"] for call in found)
        page, late = await browser.new_page(), Late()
        await page.route(f"**/calls/{first}/why", late.hold)
        await page.goto(f"{shared_system.board}/calls?pbx={site}&call={second}")
        await expect(page.locator("#why-body")).to_contain_text(second)
        await page.keyboard.press("Escape")
        await page.locator(f'[data-key="{first}"] button').click()
        await expect(page.locator("#why-body")).to_have_text("Loading …")
        await late.over(page, f"**/calls/{first}/why")
        await expect(page.locator("#why-body")).to_contain_text(first)


async def test_pages_go_on_without_a_repeat_and_downloads_hold_what_is_filtered(
    shared_system: System, site: str
) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        await post(client, shared_system, ended("201", "+41225559999", 5))  # of another PBX: not in the downloads
        for number in range(120):
            await post(client, shared_system, ended("201", f"+4122555{number:04}", 5), site)
        await eventually(lambda: calls_of(client, shared_system, pbx=site), lambda seen: len(seen) == 120)
        page = await browser.new_page()
        await page.goto(f"{shared_system.board}/calls?pbx={site}")
        seen: list[str] = []
        for count in (50, 50, 20):
            await find(page, count)
            keys = [str(await one.get_attribute("data-key")) for one in await page.locator("#calls tr").all()]
            seen += keys
            if count == 50:
                await page.locator("#older").click()
                await expect(page.locator(f'[data-key="{keys[0]}"]')).not_to_be_attached()
        assert len(set(seen)) == 120
        await page.locator("#newer").click()
        await expect(page.locator("#calls tr").first).to_have_attribute("data-key", seen[50])
        for name, count in (("csv", 121), ("csv-raw", 121), ("ndjson", 120)):
            async with page.expect_download() as waiting:
                await page.locator(f"#{name}").click()
            text = Path(await (await waiting.value).path()).read_text("utf-8")
            assert len(text.splitlines()) == count
            assert name != "ndjson" or {json.loads(line)["pbx"] for line in text.splitlines()} == {site}


async def test_the_charts_add_up_and_have_a_table_that_says_the_same(shared_system: System, site: str) -> None:
    now = datetime.now(UTC)
    async with httpx.AsyncClient() as client, chromium() as browser:
        for number in range(40):
            began = now - timedelta(minutes=20 * (number % 12) + 5)
            body = begun(str(number), f"+4122555{number:04}", began)
            await post(client, shared_system, body, site)
            if number % 4:
                end = {"endUtc": zulu(began + timedelta(seconds=number * 3))}
                await post(client, shared_system, ended(str(number), f"+4122555{number:04}", number * 3) | end, site)
        await eventually(
            lambda: calls_of(client, shared_system, pbx=site, status="ended"), lambda seen: len(seen) == 30
        )
        page = await browser.new_page()
        await page.goto(f"{shared_system.board}/calls?pbx={site}")
        await expect(page.locator(".plot canvas")).to_have_count(2)
        await expect(page.locator("#series .plot")).to_have_attribute(
            "aria-label", re.compile("quarter hour.*: 40 calls")
        )
        for figure, expected in (("series", 40), ("durations", 30)):
            await page.locator(f"#{figure} summary").click()
            counts = await page.locator(f"#{figure} .scroll tbody td:nth-child(2)").all_inner_texts()
            assert sum(map(int, counts)) == expected, figure
        row = page.locator("#series .scroll tbody tr").first
        count = int(await row.locator("td").nth(1).inner_text())
        await row.locator("a").click()
        await find(page, count)
        assert await _is_drawn(page)


async def test_the_chart_of_a_day_holds_its_calls_wherever_the_screen_is(shared_system: System, site: str) -> None:
    now = datetime.now(UTC)
    here = now.astimezone(ZoneInfo(noon_zone(now)))
    midnight = here.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    async with httpx.AsyncClient() as client, chromium() as browser:
        for hour in (0, 6, 12, 18, 23):
            over = {"endUtc": zulu((midnight + timedelta(hours=hour, minutes=30)).astimezone(UTC))}
            await post(client, shared_system, ended("201", f"+412255500{hour:02}", 10) | over, site)
        await eventually(lambda: calls_of(client, shared_system, pbx=site), lambda seen: len(seen) == 5)
        for zone in ("Pacific/Auckland", "America/Los_Angeles"):
            page = await browser.new_page(timezone_id=zone)
            await page.goto(f"{shared_system.board}/calls?pbx={site}&day={midnight.date().isoformat()}")
            await find(page, 5)
            await expect(page.locator("#series .plot")).to_have_attribute("aria-label", re.compile(": 5 calls"))
            await page.close()


async def _is_drawn(page: Page) -> bool:
    """Whether the first chart shows more than one colour."""
    script = """() => {
      const canvas = document.querySelector("#series canvas");
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      const colours = new Set();
      for (let at = 0; at < pixels.length; at += 4)
        if (pixels[at + 3] === 255) colours.add(pixels.slice(at, at + 3).join());
      return colours.size;
    }"""
    return int(await page.evaluate(script)) > 1


async def test_the_call_log_is_accessible_in_light_and_dark_with_the_why_open_and_closed(
    shared_system: System, site: str
) -> None:
    async with httpx.AsyncClient() as client, chromium() as browser:
        for number in range(3):
            await post(client, shared_system, ended("201", f"+4122555000{number}", 5, wav="https://a.example/1"), site)
        await post(client, shared_system, ended("9", "+41225550009", 0) | {"direction": "Missed"}, site)
        await eventually(lambda: calls_of(client, shared_system, pbx=site), lambda seen: len(seen) == 4)
        page = await browser.new_page()
        for theme in ("light", "dark"):
            await page.goto(f"{shared_system.board}/calls?pbx={site}&theme={theme}")
            await find(page, 4)
            for figure in ("series", "durations"):
                await page.locator(f"#{figure} summary").click()
            await accessible(page)
            await page.locator("#calls button").first.click()
            await expect(page.locator("#why-body .history > li")).not_to_have_count(0)
            await accessible(page)
