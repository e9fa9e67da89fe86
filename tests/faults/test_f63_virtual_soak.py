"""F63: days of the real daemon on virtual time, with faults of every kind drawn from a seed.

A failure prints the command that repeats it. `scripts/virtual_soak.py` runs any number of days.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from scripts import figures
from tests.support.virtual import campaign, judge, soak
from tests.support.virtual.world import VENUES, Settings

DAYS, FAULTS = 1.6, 10
SEEDS = {VENUES[:3]: 20, VENUES[3:]: 21}
"""Of three venues each: together they are all, in two lives of one and a half days."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("venues", SEEDS, ids=",".join)
def test_f63_days_of_mixed_faults_leave_nothing_lost_unsaid_and_nothing_twice(
    place: Path, venues: tuple[str, ...]
) -> None:
    report = soak.run(DAYS, FAULTS, Settings(seed=SEEDS[venues], venues=venues), place)
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    assert report.findings == [], report.replay
    assert report.errors_in_callbacks == [], report.replay
    assert sum(report.faults.values()) == FAULTS
    assert report.missing, "no fault took anything"
    assert min(report.stored_of[name] for name in venues) > 0, "nothing of a venue was stored"
    assert report.days_closed == 1, "the second day is not over"
    assert report.handovers, "no connection lived for a day"


def test_f63_the_same_seed_takes_the_same_course(place: Path) -> None:
    kinds = ("kill", "cut", "drop_ids")
    settings = Settings(seed=20, venues=("kraken", "okx"))
    first, again = (soak.dump(0.1, 3, settings, place / name, kinds=kinds) for name in ("first", "again"))
    assert first["segments"]
    assert judge.differences(first, again) == []


def test_f63_a_campaign_adds_up_what_its_lakes_show(capsys: pytest.CaptureFixture[str]) -> None:
    planned = campaign.lanes(4, 30, 200)
    assert [lane.days for lane in planned] == [30, 30, 2, 2], "the longest first, and as many as there are cores"
    assert sorted(planned[0].venues + planned[1].venues) == list(VENUES), "every venue lives the whole month"
    assert [lane.venues for lane in planned[2:]] == [VENUES, VENUES], "and in one lake with all the others"
    assert sum(lane.faults for lane in planned) == 200
    assert len({lane.seed % 3 for lane in planned}) == 3, "every market of every venue"
    small = [campaign.Lane(4, 0.1, 1), campaign.Lane(5, 0.1, 0, VENUES[:3])]
    reports, seconds = campaign.run(small, 2, print, rate=0.8)
    found = campaign.measured(reports, seconds)
    assert found["virtual days of one lake"] == (0.1, "days, 0.2 of all lakes")
    assert found["virtual faults"][0] == 1
    assert reports[0].replay.endswith("--rate 0.8")
    assert "--rate 0.4 " in reports[1].replay, "half of the venues have half of it"
    assert found["findings of the virtual soak"][0] == 0
    assert set(found) <= set(figures.asked())
    assert "seed 5 binance,bybit,coinbase: 0.1 days" in capsys.readouterr().out


def test_f63_a_campaign_has_more_events_unless_its_rate_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[list[campaign.Lane], list[str], float]] = []

    def noted(
        planned: list[campaign.Lane], processes: int, tell: object, options: list[str], rate: float
    ) -> tuple[list[soak.Report], float]:
        ran.append((planned, options, rate))
        return [soak.Report(seed=1, days=lane.days) for lane in planned], 1.0

    monkeypatch.setattr(campaign, "run", noted)
    asked = ["--campaign", "--seed", "4", "--days", "30", "--faults", "200"]
    assert soak.main(asked) == 0
    assert soak.main([*asked, "--rate", "0.8", "--wide", "--frames", "--venues", "okx"]) == 0
    assert [(options, rate) for _, options, rate in ran] == [([], campaign.RATE), (["--wide", "--frames"], 0.8)]
    assert {lane.venues for lane in ran[1][0]} == {("okx",)}
    drawn = sum(lane.days * len(lane.venues) / len(VENUES) for lane in ran[0][0]) * 86_400 * campaign.RATE
    assert drawn > 1_220_000, "with aggregates, marks and candles over twice as many happen"
