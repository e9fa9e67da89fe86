"""Retention as a pure function: what may go and, above all, what may not yet."""

import pytest

from compactor.retention import SLACK, DayState, Keep, clock_went_back, plan, rehash_due
from lake.rows import FileRow, SegmentRow
from market.session import Gap
from market.times import DAY, HOUR, MINUTE

DAY0 = 1_763_596_800_000_000
"""2025-11-20T00:00:00Z."""
DATE = "2025-11-20"
KEEP = Keep(grace=15 * MINUTE, forget=7 * DAY, rehash=DAY, raw=2 * DAY, frames=30 * DAY)
TRADE = ("binance", "spot", "trade")
WHOLE = {(TRADE, DATE): DayState(DAY0 + DAY + HOUR, rehashed=True, backed_up=True)}


def segment(kind="trade", state="transformed", at=DAY0 + HOUR, rows=5, **more):
    held = {"event_min": at, "event_max": at + MINUTE - 1} if rows else {}
    return SegmentRow(
        path=f"raw/{kind}/{at}", exchange="binance", market_type="spot", kind=kind, state=state, period_start=at,
        period_end=at + MINUTE, rows=rows, **(held | more),
    )  # fmt: skip


def gap(start, end, state="open"):
    return Gap(
        gap_id="g", exchange="binance", market_type="spot", kind="trade", symbol="A", ts_from=start, ts_to=end,
        id_from=None, id_to=None, cause="cut", proof="interval", state=state, session=None, detected_at=start,
    )  # fmt: skip


def gone(segments, days=WHOLE, gaps=(), now=DAY0 + 10 * DAY):
    return plan([], segments, days, gaps, now, KEEP).segments


def test_raw_of_a_closed_and_rehashed_day_goes_after_its_time():
    assert gone([segment()]) == [segment().path]
    assert gone([segment()], now=DAY0 + DAY) == []


@pytest.mark.parametrize(
    "days",
    [
        {},
        {(TRADE, DATE): DayState()},
        {(TRADE, DATE): DayState(DAY0 + DAY, rehashed=False, backed_up=True)},
        {(TRADE, DATE): DayState(DAY0 + DAY, rehashed=True, backed_up=False)},
    ],
    ids=["unknown day", "not closed", "not read again", "in no copy of the manifest"],
)
def test_raw_stays_until_its_day_is_proven(days):
    assert gone([segment()], days) == []


def test_raw_whose_rows_belong_to_two_days_needs_both():
    two = segment(event_min=DAY0 + DAY - 1, event_max=DAY0 + DAY)
    assert gone([two]) == []
    both = WHOLE | {(TRADE, "2025-11-21"): DayState(DAY0 + 2 * DAY, rehashed=True, backed_up=True)}
    assert gone([two], both) == [two.path]


def test_nothing_goes_that_an_open_gap_still_needs():
    assert gone([segment()], gaps=[gap(DAY0 + HOUR + 5, DAY0 + HOUR + 6)]) == []
    assert gone([segment()], gaps=[gap(DAY0, None)]) == []
    assert gone([segment()], gaps=[gap(DAY0, DAY0 + HOUR - MINUTE)]) == [segment().path]


@pytest.mark.parametrize("state", ["open", "sealed", "quarantined", "deleting", "deleted"])
def test_raw_that_is_not_transformed_stays(state):
    assert gone([segment(state=state)]) == []


def test_frames_go_by_age_alone():
    frames = segment(kind="frames", state="sealed")
    assert gone([frames], {}, now=DAY0 + 20 * DAY) == []
    assert gone([frames], {}, now=DAY0 + 31 * DAY) == [frames.path]


def test_replaced_files_stay_for_their_grace_time():
    row = FileRow(
        path="hot/x", exchange="binance", market_type="spot", kind="trade", level="part", symbol=None, date=DATE,
        hour=1, revision=0, rows=1, bytes=1, sha256="", ts_min=DAY0, ts_max=DAY0, state="retired", retired_at=DAY0,
    )  # fmt: skip
    assert plan([row], [], {}, [], DAY0 + 15 * MINUTE - 1, KEEP).files == []
    assert plan([row], [], {}, [], DAY0 + 15 * MINUTE, KEEP).files == ["hot/x"]


def test_days_are_read_again_once_after_their_time_oldest_first():
    days = {
        (TRADE, "2025-11-21"): DayState(DAY0 + DAY),
        (TRADE, DATE): DayState(DAY0),
        (TRADE, "2025-11-22"): DayState(DAY0 + 5 * DAY),
        (TRADE, "2025-11-19"): DayState(DAY0, rehashed=True),
        (TRADE, "2025-11-18"): DayState(),
    }
    assert rehash_due(days, DAY0 + 2 * DAY, KEEP) == [(TRADE, DATE), (TRADE, "2025-11-21")]


def test_a_clock_before_what_was_written_down_says_nothing_of_ages():
    assert not clock_went_back(DAY0, None)
    assert not clock_went_back(DAY0, DAY0 + SLACK)
    assert clock_went_back(DAY0, DAY0 + SLACK + 1)
