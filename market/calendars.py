"""On which days a market trades, so that a weekend or a holiday without rows is no hole. Pure.

Crypto trades always. Forex rests from Friday 17:00 to Sunday 17:00 in New York, so that of a Sunday nothing is certain.
Shares trade on weekdays; the holidays of New York's exchanges are known from 1980 on (source: the rules that NYSE
publishes, and its closings by proclamation), those of others are not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from functools import cache

SATURDAY, SUNDAY = 5, 6
NEW_YORK = "America/New_York"
NEW_YORKS = frozenset({"nyse", "nasdaq", "amex", "arca", "bats", "iex"})
"""Names of exchanges that keep its holidays."""
FIRST_YEAR = 1980
_ONE_DAY = dt.timedelta(days=1)
_CLOSED = (
    "1985-09-27", "1994-04-27", "2001-09-11", "2001-09-12", "2001-09-13", "2001-09-14", "2004-06-11", "2007-01-02",
    "2012-10-29", "2012-10-30", "2018-12-05", "2025-01-09",
)  # fmt: skip
"""Storms, mourning, and September 2001."""


def trades(market_type: str, exchange: str, zone: str, day: dt.date) -> bool | None:
    """Whether a market trades on a day of that zone's calendar: yes, no, or None where nobody can say."""
    if market_type not in ("fx", "equity"):
        return True
    weekday = day.weekday()
    if market_type == "fx":
        if weekday == SATURDAY:
            return False
        quiet = weekday == SUNDAY or (day.month, day.day) in ((12, 25), (1, 1))
        return None if quiet else True
    if weekday in (SATURDAY, SUNDAY):
        return False
    return day not in holidays(day.year) if holidays_known(exchange, zone, day.year) else True


def holidays_known(exchange: str, zone: str, year: int) -> bool:
    """Whether the holidays of a market of shares are known here."""
    return (zone == NEW_YORK or exchange in NEW_YORKS) and year >= FIRST_YEAR


def missing(market_type: str, exchange: str, zone: str, held: Collection[dt.date]) -> list[dt.date]:
    """Days between the first and the last of `held` on which the market trades, and that are not in it."""
    if not held:
        return []
    there = set(held)
    return [
        day for day in _between(min(there), max(there))
        if day not in there and trades(market_type, exchange, zone, day)
    ]  # fmt: skip


def _between(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    day = first
    while day <= last:
        yield day
        day += _ONE_DAY


@cache
def holidays(year: int) -> frozenset[dt.date]:
    """Weekdays of a year on which New York's exchanges do not trade."""
    found = [dt.date.fromisoformat(day) for day in _CLOSED if int(day[:4]) == year]
    found += [
        _nth(year, 2, 0, 3), easter(year) - 2 * _ONE_DAY, _nth(year, 5, 0, -1), _observed(dt.date(year, 7, 4)),
        _nth(year, 9, 0, 1), _nth(year, 11, 3, 4), _observed(dt.date(year, 12, 25)),
    ]  # fmt: skip
    if dt.date(year, 1, 1).weekday() != SATURDAY:  # then no other day is taken for it
        found.append(_observed(dt.date(year, 1, 1)))
    if year >= 1998:
        found.append(_nth(year, 1, 0, 3))
    if year >= 2022:
        found.append(_observed(dt.date(year, 6, 19)))
    return frozenset(found)


def _nth(year: int, month: int, weekday: int, count: int) -> dt.date:
    """The count-th such weekday of a month; -1 is the last."""
    if count < 0:
        last = (dt.date(year, month, 28) + 4 * _ONE_DAY).replace(day=1) - _ONE_DAY
        return last - (last.weekday() - weekday) % 7 * _ONE_DAY
    first = dt.date(year, month, 1)
    return first + ((weekday - first.weekday()) % 7 + 7 * (count - 1)) * _ONE_DAY


def _observed(day: dt.date) -> dt.date:
    """The Friday before a Saturday, the Monday after a Sunday."""
    return day + {SATURDAY: -1, SUNDAY: 1}.get(day.weekday(), 0) * _ONE_DAY


def easter(year: int) -> dt.date:
    """Easter Sunday (Gregorian; the rule of Meeus, Jones and Butcher)."""
    a, b, c = year % 19, year // 100, year % 100
    d = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    e = (32 + 2 * (b % 4) + 2 * (c // 4) - d - c % 4) % 7
    f = d + e - 7 * ((a + 11 * d + 22 * e) // 451) + 114
    return dt.date(year, f // 31, f % 31 + 1)
