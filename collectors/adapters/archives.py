"""What a venue's public archive is, as data: its data sets, how its files are named, listed and proven. Pure.

A venue that has one offers `ARCHIVE` in the module `archive` of its folder; its being there is the registration. What
fetches, proves and reads files (`collectors.files.archive`) knows no venue.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    import polars as pl

    from collectors.files.archive.rows import Reading

Period = Literal["daily", "monthly"]
Packing = Literal["zip", "gz", "tar.gz"]
Read = Callable[["pl.DataFrame", "Reading"], "pl.DataFrame"]
"""Lines as texts -> rows of the kind. Refuses, by the file's `Reading`, what is not as documented."""
LINES = ("#line", "#nth")
"""Identity of rows without ids: what they say, equal ones counted."""
BOTH: tuple[Period, ...] = ("daily", "monthly")


def _nothing(_date: str) -> Mapping[str, str]:
    return {}


class Symbols(msgspec.Struct, frozen=True):
    """What symbols are: as a regular expression, and one of them."""

    pattern: str
    example: str


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """One sort of file, which becomes one kind."""

    kind: str
    paths: Mapping[str, Mapping[Period, str]]
    """market_type -> period -> path below the base address; `{symbol}`, `{family}`, `{interval}`, `{date}` (2026-05-08,
    2026-05) and `{day}` (20260508, 202605) are filled in."""
    symbols: Mapping[str, Symbols] = {}
    """market_type -> of which symbols there are such files, if not of all of the archive's."""
    family: Callable[[str], str] | None = None
    """Symbol -> the family that it is of, where one file holds all symbols of a family."""
    header: Mapping[str, str]
    """market_type -> the names of its columns, which are a file's first line, or might be."""
    lines: Literal["csv", "json"] = "csv"
    """json: each line is an object, and the only column, `line`, its text."""
    base: str = ""
    """Where its files lie (and are listed), if not where the archive's others do."""
    varies: Callable[[str], Mapping[str, str]] = _nothing
    """Date -> what else of its path is filled in."""
    moved: tuple[str, str] | None = None
    """What in its paths is another text where files lie that the venue has not moved: looked for behind the others."""
    shift: int | None = None
    days_late: int | None = None
    first: dt.date | None = None
    """Where these are not those of the archive."""
    read: Read
    identity: tuple[str, ...]
    """What tells the rows of two versions of a file apart."""
    headed: bool = False
    """Whether a file always begins with its header."""
    optional: int = 0
    """So many of the last columns are only in some files; others may name them, and have them in no row."""
    units: Callable[[str, int], tuple[str, ...]]
    """(market_type, begin of the file in us) -> the units that its times may have, as documented."""
    intervals: Mapping[str, Mapping[str, int]] = {}
    """Of candles: market_type -> interval -> how long (us)."""
    monthly_only: tuple[str, ...] = ()
    """Intervals without daily files."""
    numbered: bool = False
    """Whether the venue's ids follow by one, in a file and from file to file."""
    sized: tuple[str, ...] = ()
    """Markets whose quantities are contracts, what one is worth not being in the files: it has to be told."""
    sizeable: tuple[str, ...] = ()
    """Markets where that is used if it is told."""
    streamed: bool = True
    """Whether its rows are those that a stream brings, by the same ids."""
    lines_numbered: bool = False
    """Whether its ids only number the lines of a file, from 1."""
    alone: bool = False
    """Whether nothing tells its rows from those of streams or of other files: of a time there are only the ones."""
    whole: bool = False
    """Whether its lines must be seen together; such files are small."""
    packing: Packing = "zip"
    decimals: tuple[str, ...] = ()
    """Columns of numbers that `read` takes as they are: as floats, where a block's bytes prove that it may."""
    unread: tuple[str, ...] = ()
    """Columns that `read` does not look at."""


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """What one venue publishes."""

    base: str
    listing: str | None
    """Where its folders are listed; None where they are nowhere: then each date is asked for."""
    lists: Literal["s3", "html", ""] = ""
    """How: pages of S3's XML, one page of links a folder."""
    query: str = "delimiter=/&prefix={prefix}"
    """Of S3's: what follows the address."""
    sums: Literal["sha256", "md5", ""] = ""
    """What `<file>.CHECKSUM` holds; "" where there is none: size, ETag and time of change tell a version."""
    member_named: bool = False
    """Whether the one file in a zip is named as the zip."""
    symbol: str
    """What a symbol is, as a regular expression."""
    example: str
    spelt: Callable[[str, str], str]
    """(market_type, symbol as the venue's API has it) -> as the archive's paths have it."""
    shift: int = 0
    """By so much (us) its days begin before those of UTC."""
    days_late: int = 1
    """A day is published so many days after it, at the earliest."""
    first: dt.date
    datasets: Sequence[Dataset]
    roots: tuple[str, ...] = ()
    """The first folders of all paths, which a local copy may lack."""

    def of(self, market_type: str, kind: str) -> list[Dataset]:
        """Its files of that kind and market, if it has any: each of other symbols."""
        return [each for each in self.datasets if each.kind == kind and market_type in each.paths]

    def symbols(self, market_type: str, dataset: Dataset) -> Symbols:
        """Of which symbols of a market there are such files."""
        return dataset.symbols.get(market_type) or Symbols(self.symbol, self.example)

    def dataset(self, market_type: str, kind: str, symbol: str) -> Dataset | None:
        """Its files of that kind, market and symbol, if it has any."""
        found = (
            each
            for each in self.of(market_type, kind)
            if re.fullmatch(self.symbols(market_type, each).pattern, symbol) is not None
        )
        return next(found, None)

    @property
    def markets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(market for each in self.datasets for market in each.paths))


def always(*units: str) -> Callable[[str, int], tuple[str, ...]]:
    """Files of any market and date have times in one of these units."""
    return lambda _market, _start: units


def unchanged(_market: str, symbol: str) -> str:
    """The archive spells symbols as the API does."""
    return symbol
