"""Which files of an archive answer a request: a whole month as one file, days at the edges; what none answers. Pure."""

from __future__ import annotations

import datetime as dt
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping
from urllib.parse import quote

import msgspec

from collectors.files.archive.vision import ArchiveFile, Period, Series, next_month
from lake.errors import WrongQuestion
from market import times

FIRST = dt.date(2017, 1, 1)
MOST_FILES = 20_000
"""Files of one request."""
_DOCTYPE = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_SPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Plan(msgspec.Struct, frozen=True):
    """Files in the order of their time, and the dates that none of them holds: not published, or not over."""

    files: tuple[ArchiveFile, ...]
    missing: tuple[str, ...]


def span(first: str, last: str, today: dt.date) -> tuple[dt.date, dt.date]:
    """Both ends included; today is not published yet. Raises WrongQuestion, Malformed."""
    start, end = (times.date_of(times.parse(text)) for text in (first, last))
    if start > end:
        raise WrongQuestion(f"--from {start} is after --to {end}", "--to is the last date, included")
    if start < FIRST:
        raise WrongQuestion(f"--from {start}: the archive begins in {FIRST.year}", f"ask from {FIRST} on")
    if start >= today:
        raise WrongQuestion(f"--from {start} is not over", "a day is published the day after")
    return start, min(end, today - dt.timedelta(days=1))


def plan(of: Series, first: dt.date, last: dt.date, published: Mapping[Period, Collection[str]]) -> Plan:
    """`published` says which dates there are (see `vision.dates_of`).

    A month that is asked for whole, or of which not all days are there, is its monthly file.
    """
    files: list[ArchiveFile] = []
    missing: list[str] = []
    daily, monthly = (set(published.get(period, ())) for period in ("daily", "monthly"))
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
            missing += [date for date in days if date not in daily]
        day = after
    if len(files) > MOST_FILES:
        raise WrongQuestion(f"these are {len(files):,} files, {MOST_FILES:,} are fetched at a time", "ask for fewer")
    return Plan(tuple(files), tuple(missing))


def listing_url(base: str, folder: str, marker: str) -> str:
    """The page of a folder's list that begins after `marker`."""
    asked = f"{base.rstrip('/')}?delimiter=/&prefix={quote(folder, safe='/')}/"
    return f"{asked}&marker={quote(marker, safe='/')}" if marker else asked


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
