"""Texts of files as numbers and times: exact, or left to be refused."""

import polars as pl
import pytest

from collectors.files import texts
from collectors.files.reading import Stamp
from market.times import text


def times(form, held, zone="", base=""):
    stamp = Stamp(columns=(0,), form=form, zone=zone, base=base)
    return [text(value) for value in texts.times([pl.Series(held)], stamp).to_list()]


@pytest.mark.parametrize(
    "form, held, zone, told",
    [
        ("ymd", "2024-01-31 09:05:01.5+02:00", "", "2024-01-31T07:05:01.5Z"),
        ("ymd", "2024-01-31T09:05Z", "", "2024-01-31T09:05:00Z"),
        ("ymd", "2024/1/2", "America/New_York", "2024-01-02T05:00:00Z"),
        ("ymd", "2024-01-31 09:05:01", "Europe/Berlin", "2024-01-31T08:05:01Z"),
        ("ymd", "2024-07-31 09:05:01 GMT", "Europe/Berlin", "2024-07-31T09:05:01Z"),
        ("ymd", "2024-01-31 09:05:01", "", "-"),
        ("ymd", "2024-02-30", "UTC", "-"),
        ("ymd", "2024-03-31 02:30", "Europe/Berlin", "-"),
        ("ymd", "2024-10-27 02:30", "Europe/Berlin", "-"),
        ("compact", "20120201 000003660", "Etc/GMT+5", "2012-02-01T05:00:03.66Z"),
        ("compact", "20120201", "UTC", "2012-02-01T00:00:00Z"),
        ("dmy", "1/2/2024 3:05 PM", "UTC", "2024-02-01T15:05:00Z"),
        ("mdy", "1/2/2024 12:05 am", "UTC", "2024-01-02T00:05:00Z"),
        ("s", "1570752011.620", "", "2019-10-11T00:00:11.62Z"),
        ("ms", "1570752011620", "", "2019-10-11T00:00:11.62Z"),
        ("us", "1570752011620123", "", "2019-10-11T00:00:11.620123Z"),
        ("ns", "1570752011620123456", "", "2019-10-11T00:00:11.620123Z"),
        ("s", "soon", "", "-"),
    ],
)
def test_a_time_is_that_of_its_form_and_zone_or_none(form, held, zone, told):
    assert times(form, [held], zone) == [told]


def test_milliseconds_of_a_day_lie_in_that_day():
    held = ["0", "86399999", "86400000", "-1", "x"]
    assert times("of_day", held, "America/New_York", "2014-05-01") == [
        "2014-05-01T04:00:00Z", "2014-05-02T03:59:59.999Z", "-", "-", "-",
    ]  # fmt: skip


def test_numbers_keep_their_digits():
    held = ["1e-5", "+2", ".5", "5.", " 1.50 ", "0.015571269999999998", "", "null", "NaN", "1,5", "x"]
    assert texts.numbers(pl.Series(held)).to_list() == [
        "0.00001", "2", "0.5", "5", "1.50", "0.015571269999999998", None, None, "NaN", "1,5", "x",
    ]  # fmt: skip
    assert texts.numbers(pl.Series(["1,5"]), comma=True).to_list() == ["1.5"]
    assert texts.numbers(pl.Series(["13867600", "5", "NaN"]), scale=5).to_list() == ["138.676", "0.00005", "NaN"]


def test_days_and_months_are_those_of_the_calendar():
    begun = texts.times(
        [pl.Series(["2024-03-31", "2024-01-01"])], Stamp(columns=(0,), form="ymd", zone="Europe/Berlin")
    )
    day = texts.shifted(begun, "1d", "Europe/Berlin")
    assert [text(value) for value in day.to_list()] == ["2024-03-31T22:00:00Z", "2024-01-01T23:00:00Z"]
    month = texts.shifted(begun, "1M", "Europe/Berlin")
    assert text(month.to_list()[1]) == "2024-01-31T23:00:00Z"
