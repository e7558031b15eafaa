"""A party forgotten: out of the views and their history, after a rebuild, too; in any spelling."""

import json
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import numbers
from events.session import Status
from processors.task import InputRecord
from projections.call_log import told_in
from projections.forgetting import Forgotten, entries_of
from projections.retention import Retention
from projections.settings import ProjectionsSettings
from projections.views import Views
from tests.builders import DID, T0, Log, X, Y, at, end, run, start
from tests.test_rebuilding import Site
from tests.test_rebuilding import site as site  # noqa: PLC0414 - a fixture
from tests.test_views import some_calls, views_of
from tests.views_folded import stored_rows
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)
SALT = "00" * 16
SPELLINGS = (X, "0041 22 555 12 34", "022 555 12 34", "+41 (0)22 555-12-34", "5551234")
DIGITS = st.text("0123456789", min_size=1, max_size=14)
DAY_S = 86_400


def test_every_spelling_covers_every_spelling_and_nobody_else() -> None:
    for spelling in SPELLINGS:
        who = Forgotten(SALT, entries_of(spelling, "CH", SALT, at(0)))
        assert all(who.covers(other, at(0)) for other in SPELLINGS), spelling
        assert not any(who.covers(other, at(0)) for other in (Y, DID, "+41445551235", "anonymous", None, "201"))
        assert not who.covers(X, at(1)), "who calls again later is shown"


@given(DIGITS, DIGITS)
def test_who_is_covered_is_who_is_the_same_everywhere(one: str, other: str) -> None:
    who = Forgotten(SALT, entries_of(one, None, SALT, at(0)))
    same = numbers.compare(numbers.party(one, None), numbers.party(other, None)) is numbers.Comparison.SAME
    assert who.covers(other, at(0)) == same


def test_nothing_but_the_number_its_recording_and_what_changed_of_it_goes() -> None:
    who = Forgotten(SALT, entries_of(X, None, SALT, at(9_999)))
    told = [one for seed in range(5) for one in some_calls(seed)]
    touched = [one for one in told if X in one.value.decode()]
    assert touched
    for one in told:
        after = who.redacted(one)
        assert X not in after.value.decode()
        if one not in touched:
            assert after is one
            continue
        before, now = json.loads(one.value), json.loads(after.value)
        for name in ("caller", "caller_e164", "recording_url"):
            assert before["session"].pop(name) is not None or name == "recording_url"
            assert now["session"].pop(name) is None
        before.pop("changed", None)
        now.pop("changed", None)
        assert before == now


def test_a_number_that_a_correction_replaced_goes_from_what_changed() -> None:
    event = next(one.event for seed in range(9) for one in some_calls(seed) if one.event["type"] == "call.corrected")
    change = {"caller": {"before": X, "after": Y}, "recording_url": {"before": "a", "after": "b"}}
    session = {**event["session"], "caller": Y, "caller_e164": Y}
    told = told_in(0, json.dumps({**event, "session": session, "changed": change}).encode())
    after = json.loads(Forgotten(SALT, entries_of(X, None, SALT, at(9_999))).redacted(told).value)
    assert after["changed"] == {
        "caller": {"before": None, "after": Y},
        "recording_url": {"before": None, "after": None},
    }
    assert after["session"]["caller"] == Y


def records_of(log: Log) -> list[InputRecord]:
    out = [one for batch in run(log.records).batches for one in batch.session_events]
    return [InputRecord(1, number, one.key, one.value, one.headers) for number, one in enumerate(out)]


def traffic() -> tuple[list[InputRecord], int, int]:
    """Calls of two parties; a late correction of each; a call of the first after the forgetting. Where these begin."""
    rng, log = random.Random(5), Log()
    for number in range(12):
        party = (X, "022 555 12 34", Y)[number % 3]
        log.webhook(number * 30 + 1, start(str(201 + rng.randrange(3)), party, t=number * 30))
        log.webhook(number * 30 + 9, end("200", party, t=number * 30 + 8, duration=5, callId=f"c{number}", wav="w"))
    early = len(records_of(log))
    log.webhook(400, end("200", X, t=8, duration=5, callId="c0", wav="https://x/late"))
    late = len(records_of(log))
    tomorrow_s = (datetime.now(UTC) - T0) // timedelta(seconds=1) + DAY_S  # `forget` covers what came until it is run
    log.silence(tomorrow_s).webhook(tomorrow_s + 1, start("201", X, t=tomorrow_s))
    return records_of(log), early, late


async def forget(site: Site) -> str:
    """Run the command to its end; what it said."""
    command = site.command("forget", "022 5551234")

    async def ended() -> int | None:
        return command.returncode

    assert await eventually(ended, lambda seen: seen is not None, 150) == 0, command.log.read_text()
    return command.log.read_text()


async def test_a_forgotten_party_is_in_no_row_and_no_rebuild_brings_it_back(site: Site, tmp_path: Path) -> None:
    records, early, late = traffic()
    await site.append(records[:early])
    site.system.start("projections")
    await site.caught_up()
    before = await stored_rows(site.store)
    assert "5551234" in repr(before)
    await site.rebuild()  # leaves a version with the number in it
    views = views_of(site.store)
    figures = await figures_of(views)

    said = await forget(site)
    after = await stored_rows(site.store)
    assert not named(after)
    assert "old_calls" not in await site.tables()
    assert len(after["calls"]) == len(before["calls"])
    assert await figures_of(views) == figures, "the calls stay, and are counted"
    events = sum("5551234" in repr(row).replace(" ", "") for row in before["revisions"])
    assert re.search(rf"forgotten in \d+ calls \({events} revisions\)", said), said
    assert re.search(rf"call-sessions: {events} events, until 20\d\d-\d\d-\d\d at the latest", said), said
    assert re.search(r"webhooks: \d+ webhooks, until 20\d\d-\d\d-\d\d at the latest", said), said
    assert "5551234" not in said
    for path in tmp_path.glob("views.sqlite*"):
        assert b"5551234" not in path.read_bytes(), f"{path} still holds it"

    await site.append(records[early:late])
    await site.caught_up()
    assert not named(await stored_rows(site.store)), "nor does a late correction"
    await site.append(records[late:])
    await site.caught_up()
    shown = named(await stored_rows(site.store))
    await site.rebuild()
    assert named(await stored_rows(site.store)) == shown
    assert {Status.OPEN.value in row for row in shown if len(row) > 5} == {True}, "who calls again is shown"


async def test_a_party_goes_from_calls_whose_history_is_gone_too(site: Site, tmp_path: Path) -> None:
    records, early, _ = traffic()
    await site.append(records[:early])
    site.system.start("projections")
    await site.caught_up()
    before = await stored_rows(site.store)
    keep = Retention(ProjectionsSettings(projections_revisions_kept_days=1, data_dir=tmp_path), {})
    assert (await keep.expire(site.store, at(2 * 86_400)))["revisions"]
    emptied = await stored_rows(site.store)
    kept = {row[0] for row in emptied["revisions"]}
    assert [row for row in named(emptied) if row[0] not in kept], "calls that only the call log names"

    said = await forget(site)
    after = await stored_rows(site.store)
    assert not named(after)
    assert len(after["calls"]) == len(before["calls"])
    calls = {row[0] for row in named(before)}
    assert f"forgotten in {len(calls)} calls" in said
    gone = len(calls - kept)
    assert re.search(
        rf"call-sessions: \d+ events and those of {gone} calls without a history here, up to \d+ days", said
    )
    for path in tmp_path.glob("views.sqlite*"):
        assert b"5551234" not in path.read_bytes(), f"{path} still holds it"
    await site.rebuild()
    folded = await stored_rows(site.store)
    assert not named(folded)
    assert folded["calls"] == after["calls"], "as a fold that knows of it makes them"


def named(rows: dict[str, list[tuple[object, ...]]]) -> list[tuple[object, ...]]:
    """The rows of calls and revisions that name X in any spelling."""
    return [row for name in ("calls", "revisions") for row in rows[name] if "5551234" in repr(row).replace(" ", "")]


async def figures_of(views: Views) -> object:
    async with views.store.reading() as connection:
        return await views.today(connection), await views.open_calls(connection)
