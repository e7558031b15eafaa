"""The campaign of fault runs: what is due next, and what its table counts."""

from tests.chaos import campaign
from tests.chaos.campaign import NO_VERDICT, ROOT, Result, Row, due, results_in, table

ROWS = (Row("kills", ("kill",), 5, 3), Row("freezes", ("freeze",), 2, 2))


def made(row: str, recovery_s: list[float], violations: list[str] | None = None) -> Result:
    return {
        "row": row,
        "command": f"python -m tests.chaos --only {row}",
        "recovery_s": {row: recovery_s},
        "counts": {"attempts": 1000, "session events": 2000},
        "slowest_answer_s": 0.5,
        "violations": violations or [],
    }


def test_the_row_that_is_furthest_behind_is_due_until_all_are_made() -> None:
    results: list[Result] = []
    order = []
    while (next_one := due(ROWS, results)) is not None:
        row, faults, number = next_one
        order.append((row.name, faults, number))
        results.append(made(row.name, [1.0] * faults))
    assert order == [("kills", 3, 0), ("freezes", 2, 0), ("kills", 2, 1)]


def test_a_run_that_was_red_stays_in_the_table_and_its_violations_are_counted() -> None:
    red = [
        "1 every 2xx is in threecx.webhooks: lost-write (2): a; b",
        "3 sessions: duplicate (1): c",
        "kill: not caught up",
    ]
    lines = table(ROWS, [made("kills", [1.0, 2.0, 9.0]), made("kills", [3.0, 4.0], red)])
    assert len(lines) == 3, "no line for what was not made, and none for all where there is one"
    assert (
        "| kills | 5, 5 | 2, 1, 1 of 2,000 requests, 4,000 session events (1 of 2 runs red) | 3.0 / 9.0 / 9.0 s |"
        in lines[2]
    )


def test_the_last_line_is_of_all() -> None:
    lines = table(ROWS, [made("kills", [1.0, 9.0]), made("freezes", [3.0, 4.0], ["kill: not caught up"])])
    assert (
        "| all of these | 4, 7 | 0, 0, 1 of 2,000 requests, 4,000 session events (1 of 2 runs red)"
        " | 3.5 / 9.0 / 9.0 s |" in lines[-1]
    )


def test_the_readme_has_the_table_of_what_was_made() -> None:
    wanted = table(campaign.ROWS, results_in(campaign.RESULTS))
    assert "\n".join(wanted) in (ROOT / "README.md").read_text(), "put there what python -m tests.chaos.campaign prints"


def test_a_run_without_a_verdict_is_red_made_nothing_and_holds_nobody_up() -> None:
    nothing = {"row": "kills", "command": "python -m tests.chaos --only kills", **NO_VERDICT}
    row, faults, number = due(ROWS, [nothing]) or (None, 0, 0)
    assert (row, faults, number) == (ROWS[1], 2, 0)
    row, faults, number = due(ROWS, [nothing, made("freezes", [1.0, 1.0])]) or (None, 0, 0)
    assert (row, faults, number) == (ROWS[0], 3, 1), "with another seed"
    line = table(ROWS, [nothing])[2]
    assert "| 0, 5 | 0, 0, 0 of 0 requests, 0 session events (1 more runs came to no verdict) | - | - | 0.0 s |" in line
