"""Days on which markets trade: a weekend is no hole, a missing Tuesday is one."""

import datetime as dt

import pytest

from market.calendars import NEW_YORK, easter, holidays, missing, trades


def day(text):
    return dt.date.fromisoformat(text)


@pytest.mark.parametrize(
    "year, wanted",
    [
        (1980, "01-01 02-18 04-04 05-26 07-04 09-01 11-27 12-25"),
        (2004, "01-01 01-19 02-16 04-09 05-31 06-11 07-05 09-06 11-25 12-24"),
        (2012, "01-02 01-16 02-20 04-06 05-28 07-04 09-03 10-29 10-30 11-22 12-25"),
        (2022, "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26"),
        (2026, "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25"),
    ],
)
def test_holidays_of_new_york_are_those_that_it_published(year, wanted):
    assert sorted(f"{one:%m-%d}" for one in holidays(year)) == wanted.split()


def test_easter_is_where_it_was():
    assert [easter(year).isoformat() for year in (2000, 2008, 2011, 2024)] == [
        "2000-04-23", "2008-03-23", "2011-04-24", "2024-03-31",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "market, zone, at, wanted",
    [
        ("spot", "UTC", "2024-03-30", True), ("fx", "UTC", "2024-03-30", False), ("fx", "UTC", "2024-03-31", None),
        ("fx", "UTC", "2024-03-29", True), ("fx", "UTC", "2023-12-25", None), ("equity", "UTC", "2024-03-30", False),
        ("equity", NEW_YORK, "2024-03-29", False), ("equity", "Europe/Berlin", "2024-03-29", True),
        ("equity", NEW_YORK, "1975-07-04", True),
    ],
)  # fmt: skip
def test_a_day_is_one_of_trade_or_not_or_nobody_knows(market, zone, at, wanted):
    assert trades(market, "x", zone, day(at)) is wanted


def test_missing_are_trading_days_between_the_first_and_the_last():
    held = [day("2024-03-27"), day("2024-04-03")]
    assert [one.isoformat() for one in missing("equity", "nyse", "UTC", held)] == [
        "2024-03-28",
        "2024-04-01",
        "2024-04-02",
    ]
    assert [one.day for one in missing("fx", "x", "UTC", held)] == [28, 29, 1, 2]
    assert len(missing("spot", "x", "UTC", held)) == 6
    assert missing("fx", "x", "UTC", []) == []
