"""Where the files of an archive are had from: its host, a mirror of it, or a folder with the same paths."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from collectors.files.archive import vision
from collectors.files.archive.fetching import Host
from collectors.files.archive.memory import Had, zip_path
from collectors.files.archive.refused import Refused
from collectors.files.archive.vision import ArchiveFile, Period, Series
from lake import durable, parquet
from lake.errors import WrongQuestion

_SUM = re.compile(rb"([0-9a-fA-F]{64}) [ *]?(\S+)\s*")
_SAYS = 1024
"""Bytes of a CHECKSUM, at most."""
_AGAIN = "fetch it again; if it stays so, the publisher's file is broken"


class Got(msgspec.Struct, frozen=True):
    """A file that is here: `path`, and whether it is ours to remove."""

    path: Path
    had: Had
    ours: bool


class Source(Protocol):
    """What has files. Every call raises Refused for what is not as it should be."""

    async def published(self, of: Series, first: dt.date, last: dt.date) -> Mapping[Period, set[str]]:
        """Dates of the files that there are; of those that are known."""
        ...

    async def sum_of(self, file: ArchiveFile) -> str:
        """The SHA-256 that its CHECKSUM says."""
        ...

    async def get(self, file: ArchiveFile, sha256: str) -> Got:
        """The file, proven to be of that SHA-256."""
        ...


class Remote:
    """A host; zips go into the lake at `root`."""

    def __init__(self, host: Host, base: str, listing: str | None, root: Path) -> None:
        self._host, self._base, self._listing, self._root = host, base.rstrip("/"), listing, root

    async def published(self, of: Series, first: dt.date, last: dt.date) -> Mapping[Period, set[str]]:
        """Where folders are not listed, all that should be there."""
        if self._listing is None:
            return _due(of, first, last)
        found: dict[Period, set[str]] = {}
        for period in of.periods:
            begin, end = (of.key(period, day) for day in (first, last))
            keys = await self._host.listed(self._listing, of.folder(period), begin, f"{end}~")
            found[period] = vision.dates_of(keys, of, period)
        return found

    async def sum_of(self, file: ArchiveFile) -> str:
        body = await self._host.text(f"{self._base}/{file.path}.CHECKSUM", _SAYS)
        if body is None:
            raise Refused(file.name, "missing", f"{self._base} has no CHECKSUM of it", "ask later, or another host")
        return read_sum(file, body)

    async def get(self, file: ArchiveFile, sha256: str) -> Got:
        target = zip_path(self._root, file)
        if target.is_file() and await asyncio.to_thread(parquet.file_sha256, target) == sha256:
            had = Had(url=f"{self._base}/{file.path}", sha256=sha256, bytes=target.stat().st_size)
            return Got(target, had, ours=True)
        fetched = await self._host.download(f"{self._base}/{file.path}", target)
        if fetched is None:
            raise Refused(file.name, "missing", f"{self._base} does not have it", "ask later, or another host")
        if fetched.sha256 != sha256:
            durable.unlink(target)
            raise _unlike(file, fetched.sha256, sha256)
        return Got(target, fetched, ours=True)


class Folder:
    """Files that are here already, in the archive's own folders (with `data/` or from below it). Nothing is changed."""

    def __init__(self, place: Path) -> None:
        self._place = place
        if not place.is_dir():
            raise WrongQuestion(f"--source {place} is no folder", "name a folder, or an https:// address")

    def _find(self, path: str) -> Path | None:
        for candidate in (self._place / path, self._place / path.removeprefix("data/")):
            if candidate.exists():
                return candidate
        return None

    async def published(self, of: Series, first: dt.date, last: dt.date) -> Mapping[Period, set[str]]:
        del first, last
        found: dict[Period, set[str]] = {}
        for period in of.periods:
            folder = self._find(of.folder(period))
            names = [one.name for one in folder.iterdir()] if folder is not None and folder.is_dir() else []
            keys = [f"{of.folder(period)}/{name}" for name in names]
            found[period] = vision.dates_of(keys, of, period)
        return found

    async def sum_of(self, file: ArchiveFile) -> str:
        found = self._find(f"{file.path}.CHECKSUM")
        if found is None or not found.is_file() or found.stat().st_size > _SAYS:
            raise Refused(file.name, "missing", "there is no CHECKSUM beside it", "put the publisher's beside it")
        return read_sum(file, found.read_bytes())

    async def get(self, file: ArchiveFile, sha256: str) -> Got:
        found = self._find(file.path)
        if found is None or not found.is_file():
            raise Refused(file.name, "missing", "it is not in the folder", "fetch it")
        had = await asyncio.to_thread(parquet.file_sha256, found)
        if had != sha256:
            raise _unlike(file, had, sha256)
        stat = found.stat()
        what = Had(url=str(found), sha256=had, bytes=stat.st_size, modified=str(stat.st_mtime_ns))
        return Got(found, what, ours=False)


def read_sum(file: ArchiveFile, body: bytes) -> str:
    """The SHA-256 that a CHECKSUM says of its file. Raises Refused where it is of another one, or no such."""
    match = _SUM.fullmatch(body)
    if match is None:
        raise Refused(file.name, "checksum", "its CHECKSUM is not `<sha256>  <file>`", _AGAIN)
    if match[2].decode("utf-8", "replace") != file.name:
        raise Refused(file.name, "checksum", f"its CHECKSUM is of {match[2][:100]!r}", _AGAIN)
    return match[1].decode().lower()


def _unlike(file: ArchiveFile, found: str, said: str) -> Refused:
    return Refused(file.name, "checksum", f"its SHA-256 is {found[:12]}…, its CHECKSUM says {said[:12]}…", _AGAIN)


def _due(of: Series, first: dt.date, last: dt.date) -> Mapping[Period, set[str]]:
    """All dates of the span, and the months that are over where it ends."""
    days = [first + dt.timedelta(days=place) for place in range((last - first).days + 1)]
    months = {f"{day:%Y-%m}" for day in days if vision.next_month(day) <= last + dt.timedelta(days=1)}
    found: dict[Period, set[str]] = {"daily": {day.isoformat() for day in days}, "monthly": months}
    return {period: found[period] for period in of.periods}
