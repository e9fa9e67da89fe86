"""Where the files of an archive are had from: its host, a mirror of it, or a folder with the same paths.

Which dates there are is read from lists where the archive has them, and asked for file by file where it has none.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from collectors.adapters.archives import Archive, Period
from collectors.files.archive.fetching import Host
from collectors.files.archive.memory import Had, Stamp, zip_path
from collectors.files.archive.planning import There
from collectors.files.archive.refused import Refused
from collectors.files.archive.series import SUM, ArchiveFile, Series, date_in, next_month
from lake import durable, parquet
from lake.errors import WrongQuestion

_SUM = re.compile(rb"([0-9a-fA-F]{32,64}) [ *]?(\S+)\s*")
_HEX = {"sha256": 64, "md5": 32}
_SAYS = 1024
"""Bytes of a CHECKSUM, at most."""
_PROBES = 8
"""Dates that are asked for at once."""
_AGAIN = "fetch it again; if it stays so, the publisher's file is broken"


class Got(msgspec.Struct, frozen=True):
    """A file that is here: `path`, and whether it is ours to remove."""

    path: Path
    had: Had
    ours: bool


class Source(Protocol):
    """What has files. Every call raises Refused for what is not as it should be."""

    async def published(self, of: Series, first: dt.date, last: dt.date) -> There:
        """Which files there are from `first` to `last`, as the archive dates them."""
        ...

    def unproven(self, file: ArchiveFile) -> Refused:
        """Of a file that is there and has no CHECKSUM: what to do."""
        ...

    async def stamp(self, file: ArchiveFile) -> Stamp:
        """What the publisher says of it now."""
        ...

    async def get(self, file: ArchiveFile, stamp: Stamp) -> Got:
        """The file, proven to be what the stamp says."""
        ...


class Remote:
    """A host; files go into the lake at `root`. `listing` is None where its folders are listed nowhere. `base` is None
    for the archive's own addresses.
    """

    def __init__(self, host: Host, archive: Archive, base: str | None, listing: str | None, root: Path) -> None:
        self._host, self._archive, self._root = host, archive, root
        self._base, self._listing = base, listing if archive.lists else None

    def _at(self, of: Series) -> str:
        """The address below which its files lie."""
        return (self._base or of.dataset.base or self._archive.base).rstrip("/")

    def _lists(self, of: Series) -> str | None:
        """Where its folders are listed."""
        own = of.dataset.base if self._base is None and self._archive.lists else ""
        return own or self._listing

    async def published(self, of: Series, first: dt.date, last: dt.date) -> There:
        listing = self._lists(of)
        if listing is None:
            return There(await self._probed(of, first, last))
        found: dict[Period, set[str]] = {}
        bare: dict[Period, set[str]] = {}
        for period in of.periods:
            folder = of.folder(period)
            if self._archive.lists == "html":
                keys = await self._host.linked(f"{listing.rstrip('/')}/{folder}/", folder)
            else:
                begin, end = (of.begins(period, day) for day in (first, last))
                keys = await self._host.listed(listing, self._archive.query, folder, begin, f"{end}~")
            found[period], bare[period] = of.dates(keys, period), of.bare(keys, period)
        return There(found, bare)

    def unproven(self, file: ArchiveFile) -> Refused:
        what = f"{self._at(file.series)} has the file and no CHECKSUM of it"
        fix = "ask later: its publisher gives each file one; or take both from elsewhere (--source)"
        return Refused(file.name, "missing", what, fix)

    async def _probed(self, of: Series, first: dt.date, last: dt.date) -> Mapping[Period, set[str]]:
        """Whole months, days where there is none, and the month where a day of it is not there."""
        found: dict[Period, set[str]] = {period: set() for period in of.periods}
        for month, days in _months(first, last):
            whole = len(days) == (next_month(days[0]) - days[0]).days
            if "monthly" in found and (whole or "daily" not in found):
                found["monthly"] |= await self._there(of, [month])
            if "daily" in found and month not in found.get("monthly", ()):
                dates = [day.isoformat() for day in days]
                found["daily"] |= await self._there(of, dates)
                if "monthly" in found and not whole and not found["daily"].issuperset(dates):
                    found["monthly"] |= await self._there(of, [month])
        return found

    async def _there(self, of: Series, dates: list[str]) -> set[str]:
        room = asyncio.Semaphore(_PROBES)

        async def one(date: str) -> bool | Refused:
            async with room:
                try:
                    return await self._said(ArchiveFile(date, of)) is not None
                except Refused as error:
                    return error

        async with asyncio.TaskGroup() as group:
            tasks = {date: group.create_task(one(date)) for date in dates}
        for task in tasks.values():
            if isinstance(failed := task.result(), Refused):
                raise failed
        return {date for date, task in tasks.items() if task.result()}

    def _urls(self, file: ArchiveFile) -> list[str]:
        """Where it may lie."""
        return [f"{self._at(file.series)}/{place}" for place in file.places]

    async def _said(self, file: ArchiveFile) -> Stamp | None:
        """What the host says of it, None where it has none."""
        for url in self._urls(file):
            if (said := await self._host.head(url)) is not None:
                return said
        return None

    async def stamp(self, file: ArchiveFile) -> Stamp:
        base = self._at(file.series)
        body = await self._host.text(f"{base}/{file.path}{SUM}", _SAYS) if self._archive.sums else None
        if body is not None:
            return Stamp(sum=read_sum(file, body))
        said = await self._said(file)
        if said is None:
            raise Refused(file.name, "missing", f"{base} does not have it", "ask later, or another host")
        if self._archive.sums:
            raise self.unproven(file)
        return said

    async def get(self, file: ArchiveFile, stamp: Stamp) -> Got:
        base, target = self._at(file.series), zip_path(self._root, file)
        url = f"{base}/{file.path}"
        if stamp.sum and target.is_file() and (await _digests(file, target))[1] == stamp.sum:
            sha256 = await asyncio.to_thread(parquet.file_sha256, target)
            had = Had(url=url, sha256=sha256, sum=stamp.sum, bytes=target.stat().st_size)
            return Got(target, had, ours=True)
        fetched = await self._download(file, target)
        if fetched is None:
            raise Refused(file.name, "missing", f"{base} does not have it", "ask later, or another host")
        try:
            await _proven(file, target, fetched.bytes, stamp)
        except Refused:
            durable.unlink(target)
            raise
        return Got(target, msgspec.structs.replace(fetched, sum=stamp.sum), ours=True)

    async def _download(self, file: ArchiveFile, target: Path) -> Had | None:
        for url in self._urls(file):
            if (fetched := await self._host.download(url, target)) is not None:
                return fetched
        return None


class Folder:
    """Files that are here already, in the archive's own folders (or from below the first one). Nothing is changed."""

    def __init__(self, place: Path, archive: Archive) -> None:
        self._place, self._archive = place, archive
        if not place.is_dir():
            raise WrongQuestion(f"--source {place} is no folder", "name a folder, or an https:// address")

    def _find(self, *paths: str) -> Path | None:
        roots = ("", *(f"{root}/" for root in self._archive.roots))
        candidates = (self._place / path.removeprefix(root) for path in paths for root in roots)
        return next((one for one in candidates if one.is_file()), None)

    async def published(self, of: Series, first: dt.date, last: dt.date) -> There:
        found: dict[Period, set[str]] = {}
        bare: dict[Period, set[str]] = {}
        days = [first + dt.timedelta(days=place) for place in range((last - first).days + 1)]
        for period in of.periods:
            dates = (date_in(day, period) for day in days)
            here = {date for date in dates if self._find(*ArchiveFile(date, of).places)}
            found[period] = {date for date in here if self._proven(ArchiveFile(date, of))}
            bare[period] = here - found[period]
        return There(found, bare)

    def unproven(self, file: ArchiveFile) -> Refused:
        return Refused(file.name, "missing", "there is no CHECKSUM beside it", "put the publisher's beside it")

    def _proven(self, file: ArchiveFile) -> bool:
        return not self._archive.sums or self._find(f"{file.path}{SUM}") is not None

    async def stamp(self, file: ArchiveFile) -> Stamp:
        if not self._archive.sums:
            return _of(self._held(file))
        found = self._find(f"{file.path}{SUM}")
        if found is None or found.stat().st_size > _SAYS:
            raise self.unproven(file)
        return Stamp(sum=read_sum(file, found.read_bytes()))

    async def get(self, file: ArchiveFile, stamp: Stamp) -> Got:
        found = self._held(file)
        size = found.stat().st_size
        await _proven(file, found, size, stamp)
        sha256 = await asyncio.to_thread(parquet.file_sha256, found)
        what = Had(url=str(found), sha256=sha256, sum=stamp.sum, bytes=size, modified=_of(found).modified)
        return Got(found, what, ours=False)

    def _held(self, file: ArchiveFile) -> Path:
        found = self._find(*file.places)
        if found is None:
            raise Refused(file.name, "missing", "it is not in the folder", "fetch it")
        return found


def read_sum(file: ArchiveFile, body: bytes) -> str:
    """What a CHECKSUM says of its file. Raises Refused where it is of another one, or no such."""
    kind = file.series.archive.sums
    match = _SUM.fullmatch(body)
    if match is None or len(match[1]) != _HEX[kind]:
        raise Refused(file.name, "checksum", f"its CHECKSUM is not `<{kind}>  <file>`", _AGAIN)
    named = match[2].decode("utf-8", "replace")
    if named != file.name:
        raise Refused(file.name, "checksum", f"its CHECKSUM is of {named[:100]!r}", _AGAIN)
    return match[1].decode().lower()


async def _proven(file: ArchiveFile, path: Path, size: int, stamp: Stamp) -> None:
    """Raises Refused where the bytes are not those that the publisher says."""
    if stamp.sum:
        kind, found = await _digests(file, path)
        if found != stamp.sum:
            what = f"its {kind} is {found[:12]}…, its CHECKSUM says {stamp.sum[:12]}…"
            raise Refused(file.name, "checksum", what, _AGAIN)
    elif stamp.bytes is not None and stamp.bytes != size:
        raise Refused(file.name, "size", f"{size:,} bytes came, its host says {stamp.bytes:,}", _AGAIN)


async def _digests(file: ArchiveFile, path: Path) -> tuple[str, str]:
    """How the archive's sums are called, and that of these bytes."""
    kind = file.series.archive.sums

    def digest() -> str:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()

    return {"sha256": "SHA-256", "md5": "MD5"}[kind], await asyncio.to_thread(digest)


def _of(path: Path) -> Stamp:
    stat = path.stat()
    return Stamp(modified=str(stat.st_mtime_ns), bytes=stat.st_size)


def _months(first: dt.date, last: dt.date) -> Iterator[tuple[str, list[dt.date]]]:
    """Each month of a span, and the days of the span in it."""
    day = first
    while day <= last:
        end = min(last, next_month(day) - dt.timedelta(days=1))
        yield f"{day:%Y-%m}", [day + dt.timedelta(days=place) for place in range((end - day).days + 1)]
        day = end + dt.timedelta(days=1)
