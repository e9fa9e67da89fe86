"""F63: days of the real daemon on virtual time, with faults of every kind drawn from a seed.

A failure prints the command that repeats it. `scripts/virtual_soak.py` runs any number of days.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.virtual import judge, soak
from tests.support.virtual.world import Settings

DAYS, FAULTS, SEED = 3.0, 20, 20
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_f63_days_of_mixed_faults_leave_nothing_lost_unsaid_and_nothing_twice(place: Path) -> None:
    report = soak.run(DAYS, FAULTS, Settings(seed=SEED), place)
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    assert report.findings == [], report.replay
    assert report.errors_in_callbacks == [], report.replay
    assert sum(report.faults.values()) == FAULTS
    assert report.missing, "no fault took anything"
    assert report.days_closed == int(DAYS) - 1, "the last day is not over"
    assert report.handovers, "no connection lived for a day"


def test_f63_the_same_seed_takes_the_same_course(place: Path) -> None:
    kinds = ("kill", "cut", "drop_ids")
    first, again = (soak.dump(0.1, 3, Settings(seed=SEED), place / name, kinds=kinds) for name in ("first", "again"))
    assert first["segments"]
    assert judge.differences(first, again) == []
