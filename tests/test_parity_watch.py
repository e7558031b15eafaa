"""What the page and the metrics say of polling and webhooks, from observations and a call log on both databases."""

import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from events.metrics import Metrics
from events.session import Status
from projections.call_log import Told, told_in
from projections.parity_sources import sessions_between
from projections.parity_watch import ParityWatch
from projections.polled import Observation
from projections.settings import ProjectionsSettings
from projections.store import Store
from tests.builders import Log, X, Y, Z, at, end, run, start, zulu
from tests.plans import analyzed, plans_of, scans
from tests.test_parity import seen
from tests.test_views import like, put, some_calls

ANN, BOB, CAI = (1, f"10000 {X}", "201 Ann"), (2, f"10000 {Y}", "202 Bob"), (3, f"10000 {Z}", "203 Cai")


def watch_of(store: Store, folder: Path) -> tuple[ParityWatch, Metrics]:
    metrics = Metrics("projections")
    settings = ProjectionsSettings(data_dir=folder, projections_parity_window_s=3_600)
    return ParityWatch(settings, store, metrics), metrics


async def two_calls(store: Store) -> None:
    log = Log().webhook(100, start("201", X, 100)).webhook(160, end("201", X, 160, 55))
    log.webhook(200, start("202", Y, 200)).webhook(300, end("202", Y, 300, 90)).webhook(400, end("204", X, 400, 1))
    await put(store, [told_in(0, event.model_dump_json().encode()) for event in run(log.records).events])


async def test_it_tells_of_each_pbx_who_saw_what_and_what_is_missing(store: Store, tmp_path: Path) -> None:
    await two_calls(store)
    watch, metrics = watch_of(store, tmp_path)
    while_active = ((ANN, 100, 160), (BOB, 200, 300), (CAI, 500, 560))
    for second in range(60, 1_000, 2):
        watch.take(seen(second, *(call for call, begin, over in while_active if begin < second < over)))
    watch.take(Observation("geneva", at(50), ()))
    await watch.compare(at(1_400))
    assert watch.compared.at == at(1_400)
    default, geneva = watch.compared.pbxs
    assert (default["pbx"], default["both"], default["missing"], default["holds"]) == ("default", 2, 1, False)
    assert (default["from"], default["to"], default["interval_s"]) == (at(60), at(998), 2.0)
    assert [call["extensions"] for call in default["missing_calls"]] == [["10000", "203"]]
    assert default["webhook_only"] == {"shorter_than_interval": 1}
    assert (geneva["verdict"], geneva["completeness"]) == ("no call was polled: nothing can be said", None)
    counts = {name: metrics.gauge("parity_calls", "default", name)._value.get() for name in ("both", "missing")}
    assert counts == {"both": 2, "missing": 1}
    ratios = [metrics.gauge("parity_completeness_ratio", one)._value.get() for one in ("default", "geneva")]
    assert ratios[0] == 2 / 3
    assert math.isnan(ratios[1])


async def test_what_began_too_lately_or_too_long_ago_is_not_compared(store: Store, tmp_path: Path) -> None:
    await two_calls(store)
    watch, _ = watch_of(store, tmp_path)
    for second in range(60, 600, 2):
        watch.take(seen(second, *((CAI,) if second > 500 else ())))
    await watch.compare(at(600))
    assert watch.compared.pbxs[0]["missing"] == 0, "its webhook may be on the way"
    await watch.compare(at(60) + timedelta(hours=2))
    assert (watch.compared.pbxs[0]["both"], watch.compared.pbxs[0]["webhook_only"]) == (0, {})


async def test_only_the_calls_around_the_time_asked_for_are_looked_at_however_long_the_log(store: Store) -> None:
    ended = next(one for one in some_calls(1) if one.session["status"] == Status.ENDED)
    opened = next(one for one in some_calls(1) if one.session["status"] == Status.OPEN)

    def call(name: str, began_h: float, lasted_h: float | None) -> Told:
        times: dict[str, Any] = {
            "started_at": zulu(at(began_h * 3_600)),
            "first_received_at": zulu(at(began_h * 3_600)),
        }
        if lasted_h is None:
            return like(opened, name, **times)
        return like(ended, name, **times, ended_at=zulu(at((began_h + lasted_h) * 3_600)))

    hourly = [call(f"hour{number:05}", number, 0.1) for number in range(-5_000, 50)]
    odd = [call("open", -2_000, None), call("long", -10, 11), call("later", 30, None), call("over", -20, 1)]
    await put(store, [*hourly, *odd])
    await analyzed(store)
    with plans_of(store) as plans:
        found = await sessions_between(store, at(0), at(24 * 3_600))
    assert [one.session_id for one in found] == ["open", "long", *(f"hour{number:05}" for number in range(-4, 28))]
    assert {one.session_id for one in found if one.closed_at is None} == {"open"}
    assert scans(plans) == []
    bounded = r"began_at>\?.*began_at<\?|began_at >= .*began_at < |Index Cond: \(\(?status|\(status=\?"
    assert [plan for plan in plans if not re.search(bounded, plan)] == []
