"""Which archives there are, and the files of one: by venue, market, kind, symbol and date. Pure.

The directory is the registry: a venue has an archive because its folder has a module `archive`.
"""

from __future__ import annotations

import datetime as dt
import functools
import importlib
import importlib.util
import re
from collections.abc import Iterable, Iterator

import msgspec

from collectors import exchanges
from collectors.adapters.archives import Archive, Dataset, Period
from lake.errors import WrongQuestion
from market.times import Interval, date_of, day_start

_DATE = re.compile(r"\d{4}-\d{2}(?:-\d{2})?")


@functools.cache
def names() -> tuple[str, ...]:
    """Venues whose archives are read, sorted."""
    return tuple(each for each in exchanges.names() if importlib.util.find_spec(_module(each)) is not None)


@functools.cache
def load(exchange: str) -> Archive:
    """The archive of that venue. Raises WrongQuestion naming those there are."""
    if exchange not in names():
        raise WrongQuestion(f"no archive of {exchange} is read", f"use one of {', '.join(names())}")
    found = importlib.import_module(_module(exchange)).ARCHIVE
    assert isinstance(found, Archive), exchange
    return found


def published(exchange: str, market_type: str, kind: str) -> str:
    """Which files of a kind any venue publishes, in words; "" where no archive of it is read."""
    there = load(exchange).of(market_type, kind) if exchange in names() else []
    sorts = (("families: " if each.family else "") + ", ".join(each.paths[market_type]) for each in there)
    return "; ".join(sorts)


def alone(exchange: str, market_type: str, kind: str) -> bool:
    """Whether nothing tells rows of a venue's files from those of streams."""
    return exchange in names() and any(each.alone for each in load(exchange).of(market_type, kind))


def _module(exchange: str) -> str:
    return f"{exchanges.__name__}.{exchange}.archive"


class Series(msgspec.Struct, frozen=True, order=True):
    """The files of one symbol and kind, of candles of one interval."""

    exchange: str
    market_type: str
    kind: str
    symbol: str
    interval: str = ""

    @property
    def archive(self) -> Archive:
        return load(self.exchange)

    @property
    def dataset(self) -> Dataset:
        found = self.archive.dataset(self.market_type, self.kind, self.symbol)
        assert found is not None, self
        return found

    @property
    def family(self) -> str:
        """Whose symbols are all in one file; "" where a file is of one symbol."""
        return self.dataset.family(self.symbol) if self.dataset.family is not None else ""

    @property
    def periods(self) -> tuple[Period, ...]:
        """Which files there are of it."""
        there = self.dataset.paths[self.market_type]
        return tuple(each for each in there if each == "monthly" or self.interval not in self.dataset.monthly_only)

    @property
    def shift(self) -> int:
        """By so much (us) its days begin before those of UTC."""
        own = self.dataset.shift
        return self.archive.shift if own is None else own

    @property
    def days_late(self) -> int:
        own = self.dataset.days_late
        return self.archive.days_late if own is None else own

    @property
    def first(self) -> dt.date:
        """The first day that it may have."""
        return self.dataset.first or self.archive.first

    @property
    def width(self) -> int:
        """Of its candles, us; 0 of other kinds."""
        return self.dataset.intervals.get(self.market_type, {}).get(self.interval, 0)

    def path(self, period: Period, date: str) -> str:
        """Below the archive's base address; `date` may be empty: how paths of the folder begin."""
        template = self.dataset.paths[self.market_type][period]
        symbol = self.archive.spelt(self.market_type, self.symbol)
        more = self.dataset.varies(date)
        return template.format(
            symbol=symbol, family=self.family, interval=self.interval, date=date, day=date.replace("-", ""), **more
        )

    def folder(self, period: Period) -> str:
        """Where its files of a period lie. Only archives that list have one folder for all dates."""
        return self.path(period, "").rpartition("/")[0]

    def begins(self, period: Period, day: dt.date) -> str:
        """How the path of the file of that day or month begins: paths sort by date."""
        date = date_in(day, period)
        return self.path(period, date).partition(date)[0] + date

    def dates(self, keys: Iterable[str], period: Period) -> set[str]:
        """Which of these paths are files of the series, by date; where there are CHECKSUMs, those that have one."""
        return {date for date, proven in self._dated(keys, period) if proven}

    def bare(self, keys: Iterable[str], period: Period) -> set[str]:
        """Dates of those that lack the CHECKSUM which the archive has of each."""
        return {date for date, proven in self._dated(keys, period) if not proven}

    def _dated(self, keys: Iterable[str], period: Period) -> Iterator[tuple[str, bool]]:
        held = set(keys)
        for key in held:
            proven = not self.archive.sums or f"{key}{SUM}" in held
            dates = {match[0] for match in _DATE.finditer(key) if period_of(match[0]) == period}
            yield from ((date, proven) for date in dates if _is_date(date) and self.path(period, date) == key)


SUM = ".CHECKSUM"


class ArchiveFile(msgspec.Struct, frozen=True, order=True):
    """One file: `date` is YYYY-MM-DD or YYYY-MM, as its name has it."""

    date: str
    series: Series

    @property
    def period(self) -> Period:
        return period_of(self.date)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def member(self) -> str | None:
        """The only file in it, where that is known."""
        return self.name.removesuffix("zip") + "csv" if self.series.archive.member_named else None

    @property
    def path(self) -> str:
        """Below the archive's base address."""
        return self.series.path(self.period, self.date)

    @property
    def places(self) -> tuple[str, ...]:
        """Where it may lie, below the archive's base address: `path` first."""
        moved = self.series.dataset.moved
        return (self.path, self.path.replace(*moved)) if moved is not None else (self.path,)

    @property
    def span(self) -> Interval:
        """[start, end) of what it holds, us of UTC."""
        first = dt.date.fromisoformat(self.date if self.period == "daily" else f"{self.date}-01")
        after = first + dt.timedelta(days=1) if self.period == "daily" else next_month(first)
        shift = self.series.shift
        return Interval(day_start(first) - shift, day_start(after) - shift)


def file_at(series: Series, at: int, period: Period = "daily") -> ArchiveFile:
    """The file of a series that holds `at` (us)."""
    return ArchiveFile(date_in(date_of(at + series.shift), period), series)


def series_of(exchange: str, market_type: str, kind: str, symbol: str, interval: str | None = None) -> Series:
    """What is asked for. Raises WrongQuestion, with what there is, where the archive has no such thing."""
    archive = load(exchange)
    if market_type not in archive.markets:
        raise WrongQuestion(
            f"the archive of {exchange} has no market {market_type}", f"use one of {', '.join(archive.markets)}"
        )
    sorts = archive.of(market_type, kind)
    if not sorts:
        there = dict.fromkeys(each.kind for each in archive.datasets if market_type in each.paths)
        what = f"the archive of {exchange} {market_type} has no {kind}"
        raise WrongQuestion(what, f"use one of {', '.join(there)}")
    dataset = archive.dataset(market_type, kind, symbol)
    if dataset is None:
        examples = " or ".join(archive.symbols(market_type, each).example for each in sorts)
        what = f"{symbol!r} is no symbol of {exchange} {market_type} with files of {kind}"
        raise WrongQuestion(what, f"as the venue spells it, e.g. {examples}")
    known = dataset.intervals.get(market_type, {})
    if not known and interval is not None:
        raise WrongQuestion(f"--interval is of candles, not of {kind}", "leave it out")
    if known and interval not in known:
        said = f"--interval {interval} is none of {exchange} {market_type}" if interval else "--interval is missing"
        raise WrongQuestion(said, f"use one of {', '.join(known)}")
    return Series(exchange, market_type, kind, symbol, interval or "")


def period_of(date: str) -> Period:
    return "daily" if len(date) == 10 else "monthly"


def date_in(day: dt.date, period: Period) -> str:
    """How names of files say the day, or its month."""
    return f"{day:%Y-%m-%d}" if period == "daily" else f"{day:%Y-%m}"


def _is_date(date: str) -> bool:
    try:
        dt.date.fromisoformat(date if len(date) == 10 else f"{date}-01")
    except ValueError:
        return False
    return True


def next_month(day: dt.date) -> dt.date:
    """The first day of the month after that of `day`."""
    return dt.date(day.year + day.month // 12, day.month % 12 + 1, 1)
