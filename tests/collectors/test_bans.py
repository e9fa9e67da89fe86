"""Bans: how long silence is, who keeps it, and what is left of it after a restart or a step of the clock."""

from __future__ import annotations

import pytest

from collectors.bans import LONGEST_SECONDS, Bans, wait_seconds
from lake.rows import BanRow
from market import times
from market.times import DAY, SECOND
from tests.support.clock import ManualClock

T0 = times.parse("2026-11-20T13:45:10Z")
IN_90_SECONDS = "Fri, 20 Nov 2026 13:46:40 GMT"


@pytest.mark.parametrize(
    "status, said, seconds",
    [
        (429, {}, 60.0),
        (418, {}, 132.0),
        (429, {"retry-after": "7"}, 7.0),
        (418, {"retry-after": "100"}, 110.0),
        (429, {"retry-after": "0"}, 1.0),
        (429, {"retry-after": "-5"}, 60.0),
        (429, {"retry-after": "nan"}, 60.0),
        (429, {"retry-after": "soon"}, 60.0),
        (429, {"retry-after": "999999999"}, LONGEST_SECONDS),
        (418, {"retry-after": "999999999"}, LONGEST_SECONDS * 1.1),
        (429, {"retry-after": IN_90_SECONDS}, 90.0),
        (418, {"retry-after": IN_90_SECONDS}, 99.0),
        (429, {"retry-after": "Fri, 20 Nov 2026 13:45:00 GMT"}, 1.0),
        (429, {"retry-after": IN_90_SECONDS, "date": "Fri, 20 Nov 2026 13:46:10 GMT"}, 30.0),
        (429, {"retry-after": IN_90_SECONDS, "date": "yesterday"}, 90.0),
        (429, {"retry-after": "Fri, 99 Nov 2026 99:99:99 GMT"}, 60.0),
    ],
)
def test_silence_lasts_as_long_as_the_answer_says(status: int, said: dict[str, str], seconds: float) -> None:
    assert wait_seconds(status, said, T0) == pytest.approx(seconds)


def ban(clock: ManualClock, seconds: float, **changed: object) -> BanRow:
    until = clock.now() + round(seconds * SECOND)
    held = {"exchange": "binance", "host": "fapi.test", "until": until, "status": 418, "at": clock.now()}
    return BanRow(**(held | {"pool": "futures"} | changed))


async def test_a_ban_silences_its_host_and_whoever_shares_its_pool() -> None:
    clock, written = ManualClock(T0), []
    bans = Bans(clock, on_ban=written.append)
    bans.impose("binance", "linear", "fapi.test", "futures", 418, {"retry-after": "100"})
    assert written == [ban(clock, 110)]
    assert bans.left("fapi.test", "") == bans.left("dapi.test", "futures") == pytest.approx(110)
    assert bans.left("api.test", "spot") <= 0
    assert bans.left("api.test", "") <= 0
    await clock.advance(110.1)
    assert bans.left("fapi.test", "futures") <= 0


async def test_answers_that_were_under_way_together_are_one_ban() -> None:
    clock, written = ManualClock(T0), []
    bans = Bans(clock, on_ban=written.append)
    for wait in ("100", "99", "100"):
        bans.impose("binance", "linear", "fapi.test", "futures", 429, {"retry-after": wait})
    assert len(written) == 1
    bans.impose("binance", "linear", "fapi.test", "futures", 418, {"retry-after": "1000"})
    assert [row.status for row in written] == [429, 418]
    assert bans.left("fapi.test", "futures") == pytest.approx(1100)


async def test_a_start_keeps_the_silence_that_an_earlier_run_was_told() -> None:
    clock, written = ManualClock(T0), []
    over = ban(clock, -1, host="api.test", pool="spot")
    bans = Bans(clock, [ban(clock, 50), over], written.append)
    assert bans.left("dapi.test", "futures") == pytest.approx(50)
    assert bans.left("api.test", "spot") <= 0
    assert written == [], "it is written down already"


async def test_a_clock_that_was_wrong_silences_nobody_for_years() -> None:
    clock = ManualClock(T0)
    bans = Bans(clock, [ban(clock, 400 * 86_400)])
    assert bans.left("fapi.test", "futures") == pytest.approx(LONGEST_SECONDS * 1.1)


async def test_a_step_of_the_wall_clock_moves_no_ban() -> None:
    clock = ManualClock(T0)
    bans = Bans(clock)
    bans.impose("binance", "linear", "fapi.test", "futures", 429, {"retry-after": "100"})
    clock.step(DAY)
    assert bans.left("fapi.test", "futures") == pytest.approx(100)
    clock.step(-2 * DAY)
    assert bans.left("fapi.test", "futures") == pytest.approx(100)
