"""Which files of an archive answer a request: a whole month as one file, days at the edges; what none answers. Pure."""

from __future__ import annotations

import datetime as dt
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit

import msgspec

from collectors.adapters.archives import Period
from collectors.files.archive.series import ArchiveFile, Series, next_month
from lake.errors import WrongQuestion
from market import times
from market.times import DAY, Interval, date_of, day_start, union

MOST_FILES = 20_000
"""Files of one request."""
_DOCTYPE = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_LINK = re.compile(rb"""<a\s[^>]*?href\s*=\s*(["'])([^"'<>]{1,500})\1""", re.IGNORECASE)
_SPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class There(msgspec.Struct, frozen=True):
    """Dates of the files that there are; `bare` are those without the CHECKSUM that proves them. More may be told than
    was asked for.
    """

    proven: Mapping[Period, Collection[str]]
    bare: Mapping[Period, Collection[str]] = {}


class Plan(msgspec.Struct, frozen=True):
    """Files in the order of their time, and the dates that none of them holds: not published, or not over. Of `bare`
    dates there is a file that cannot be proven.
    """

    files: tuple[ArchiveFile, ...]
    missing: tuple[str, ...]
    bare: Mapping[str, ArchiveFile] = {}


def span(of: Series, first: str, last: str, today: dt.date) -> tuple[dt.date, dt.date]:
    """The dates (UTC) that are asked for, both ends included; today is not over. Raises WrongQuestion, Malformed."""
    start, end = (date_of(times.parse(text)) for text in (first, last))
    if start > end:
        raise WrongQuestion(f"--from {start} is after --to {end}", "--to is the last date, included")
    if start < of.first:
        raise WrongQuestion(f"--from {start}: the archive begins in {of.first.year}", f"ask from {of.first}")
    if start >= today:
        late = f"{of.days_late} days" if of.days_late > 1 else "the day"
        raise WrongQuestion(f"--from {start} is not over", f"a day is published {late} after it")
    return start, min(end, today - dt.timedelta(days=1))


def file_dates(of: Series, first: dt.date, last: dt.date) -> tuple[dt.date, dt.date]:
    """The first and the last date that days of its files have of these days of UTC."""
    return (
        date_of(day_start(first) + of.shift),
        date_of(day_start(last) + DAY - 1 + of.shift),
    )  # fmt: skip


def rest(of: Series, dates: Iterable[str], until: Interval) -> list[Interval]:
    """What of `until` (us) the files of these dates would have held: what is left to be asked for elsewhere."""
    spans = union(ArchiveFile(date, of).span for date in dates)
    return [both for each in spans if not (both := each.clip(until)).empty]


def plan(of: Series, first: dt.date, last: dt.date, there: There) -> Plan:
    """`first` and `last` are dates of files (see `file_dates`).

    A month that is asked for whole, or of which not all days are there, is its monthly file. A file that cannot be
    proven stands for the days that no other brings.
    """
    files: list[ArchiveFile] = []
    missing: list[str] = []
    bare: dict[str, ArchiveFile] = {}
    daily, monthly = (set(there.proven.get(period, ())) for period in ("daily", "monthly"))
    days_bare, months_bare = (there.bare.get(period, ()) for period in ("daily", "monthly"))
    day = first
    while day <= last:
        after = next_month(day)
        month = f"{day:%Y-%m}"
        end = min(last, after - dt.timedelta(days=1))
        days = [(day + dt.timedelta(days=place)).isoformat() for place in range((end - day).days + 1)]
        whole = day.day == 1 and end == after - dt.timedelta(days=1)
        if month in monthly and (whole or not daily.issuperset(days)):
            files.append(ArchiveFile(month, of))
        else:
            files += [ArchiveFile(date, of) for date in days if date in daily]
            left = [date for date in days if date not in daily]
            alone = {date: ArchiveFile(date, of) for date in left if date in days_bare}
            bare |= (dict.fromkeys(left, ArchiveFile(month, of)) if month in months_bare else {}) | alone
            missing += [date for date in left if date not in bare]
        day = after
    if len(files) > MOST_FILES:
        raise WrongQuestion(f"these are {len(files):,} files, {MOST_FILES:,} are fetched at a time", "ask for fewer")
    return Plan(tuple(files), tuple(missing), bare)


def listing_url(base: str, query: str, folder: str, marker: str) -> str:
    """The page of S3's list of a folder that begins after `marker`."""
    asked = f"{base.rstrip('/')}?{query.format(prefix=quote(folder, safe='/') + '/')}"
    return f"{asked}&marker={quote(marker, safe='/')}" if marker else asked


def read_links(body: bytes, folder: str) -> list[str]:
    """The paths of a page of links to what is in a folder. Raises ValueError for what is no such page."""
    links = [match[2].decode("utf-8", "replace") for match in _LINK.finditer(body)]
    if not links:
        raise ValueError("it has no links")
    names = (unquote(urlsplit(link).path).rstrip("/").rpartition("/")[2] for link in links)
    return sorted({f"{folder}/{name}" for name in names if name})


def read_listing(body: bytes) -> tuple[list[str], str]:
    """(the keys of a page, where the next one begins; "" where there is none). Raises ValueError for anything else."""
    if b"\0" in body or _DOCTYPE.search(body):
        raise ValueError("it declares entities, or is no UTF-8")
    try:
        root = ET.fromstring(body)  # noqa: S314 -- nothing is declared in it, see above
    except ET.ParseError as error:
        raise ValueError(f"it is no XML ({error})") from error
    if root.tag != f"{_SPACE}ListBucketResult":
        raise ValueError("it is no list of a folder")
    keys = [text for each in root.iter(f"{_SPACE}Contents") if (text := each.findtext(f"{_SPACE}Key"))]
    if root.findtext(f"{_SPACE}IsTruncated") != "true":
        return keys, ""
    after = root.findtext(f"{_SPACE}NextMarker") or (keys[-1] if keys else "")
    if not after:
        raise ValueError("it says that there is more, and not where")
    return keys, after
