"""docs/jobs.md says what the code does: states, calls, numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from collectors.backfill import AT_ONCE as PARTS_AT_ONCE
from daemon import control
from daemon.job_calls import CALLS
from daemon.jobs import JobsService
from lake import job_standing, migrations
from lake.job_book import JobBook
from lake.job_plan import AT_ONCE, ATTEMPTS, KEPT, pause_after
from lake.job_standing import CANDLES, GAPS, LONG, PARTS
from lake.jobs import JobState
from lake.writer import LakeWriter
from market.times import DAY, MINUTE
from tests.support.clock import NOON, ManualClock

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "jobs.md").read_text(encoding="utf-8")


def test_every_state_has_its_line() -> None:
    for state in get_args(JobState):
        assert f"| `{state}` |" in PAGE, state


def test_every_call_of_the_control_port_is_told_there_and_in_the_port_itself(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "box", NOON) as writer:
        calls = JobsService(writer, JobBook(writer), ManualClock(), {}, lambda: False).control()
    table = PAGE.split("## For programs")[1]
    for name in (*calls, "backfill", *CALLS):
        assert f"`{name}`" in table, name
        assert name in (control.__doc__ or ""), name


def test_the_numbers_are_the_codes() -> None:
    tries = [pause_after(number) // MINUTE for number in range(1, ATTEMPTS)]
    assert tries == [1, 4, 16]
    assert ATTEMPTS == 4
    assert "after 1, 4 and 16 minutes, four attempts in all" in PAGE
    assert AT_ONCE == PARTS_AT_ONCE == 4
    assert "four at a time" in PAGE
    assert "four parts are asked for side by side" in PAGE
    assert KEPT == 30 * DAY
    assert (LONG, PARTS, job_standing.KEPT) == (DAY, 500, 5)
    assert "until that is a day old or has 500 parts" in PAGE
    assert "the last five of these jobs are kept" in PAGE
    assert f"`{GAPS}-…`" in PAGE
    assert f"`{CANDLES}-…`" in PAGE
    assert "over for 30 days is forgotten" in PAGE


def test_the_manifests_page_is_of_this_version_and_names_every_table() -> None:
    page = (DOCS / "format" / "manifest.md").read_text(encoding="utf-8")
    assert page.startswith(f"# manifest.db, version {migrations.VERSION}\n")
    made = re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", " ".join(one for each in migrations.MIGRATIONS for one in each))
    for table in set(made) - {"told", "told_of", "segments_anew"}:
        assert f"| `{table}` |" in page, table
