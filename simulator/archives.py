"""A venue's public archive, made of the same market as its streams: files of days that are over, lists, sums.

A twin that has one offers `files` in its module `archive`: the paths there are, and what each holds, as the venue's
documentation has them.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from aiohttp import web

from market.times import DAY, date_of, day_start, floor_to
from simulator.events import Fill
from simulator.hub import Hub
from simulator.market import Book

PAGE = 1000
"""Keys of a page of S3's list."""
ROOT = "/archive"
Files = Callable[[Hub], Iterator[tuple[str, Callable[[], bytes]]]]
"""Every path of the archive with what makes its bytes."""


class Day(NamedTuple):
    """A day of the archive, or a month: its date, and [start, end) in us."""

    date: str
    start: int
    end: int


def days(book: Book, now: int, *, shift: int = 0, late: int = 1) -> list[Day]:
    """Days with trades that are published: over for `late` - 1 days. They begin `shift` us before those of UTC."""
    if not book.trades:
        return []
    first = floor_to(book.trades[0].ts + shift, DAY) - shift
    last = min(book.trades[-1].ts, now - late * DAY)
    starts = range(first, last + 1, DAY)
    return [Day(date_of(start + shift).isoformat(), start, start + DAY) for start in starts]


def months(book: Book, now: int, *, shift: int = 0, late: int = 1) -> list[Day]:
    """Months with trades that are over."""
    made = []
    for name in sorted({day.date[:7] for day in days(book, now, shift=shift, late=late)}):
        first = dt.date.fromisoformat(f"{name}-01")
        after = dt.date(first.year + first.month // 12, first.month % 12 + 1, 1)
        month = Day(name, day_start(first) - shift, day_start(after) - shift)
        made += [month] if month.end + (late - 1) * DAY <= now else []
    return made


def fills(book: Book, day: Day) -> list[Fill]:
    """Its market trades, oldest first."""
    return [one for one in book.trades if day.start <= one.ts < day.end]


def text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def packed(data: bytes) -> bytes:
    """As gzip."""
    return gzip.compress(data, mtime=0)


def zipped(name: str, data: bytes) -> bytes:
    """A zip of one file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(zipfile.ZipInfo(name, (2026, 5, 9, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def routes(hub: Hub, files: Files, *, lists: str, sums: str) -> list[web.RouteDef]:
    """Everything below ROOT. `lists`: s3, html or none; `sums`: sha256, md5 or none."""
    served = _Served(hub, files, lists, sums)
    return [web.get(ROOT, served.listed), web.get(ROOT + "/{path:.*}", served.get)]


class _Served:
    def __init__(self, hub: Hub, files: Files, lists: str, sums: str) -> None:
        self._hub, self._files, self._lists, self._sums = hub, files, lists, sums

    def _keys(self) -> list[str]:
        paths = [path for path, _ in self._files(self._hub)]
        return sorted([*paths, *(f"{path}.CHECKSUM" for path in paths if self._sums)])

    async def listed(self, request: web.Request) -> web.Response:
        """S3's XML: a page of the keys below a prefix, after a marker."""
        if self._lists != "s3" or "prefix" not in request.query:
            raise web.HTTPNotFound
        prefix, marker = request.query["prefix"], request.query.get("marker", "")
        keys = [key for key in self._keys() if key.startswith(prefix) and key > marker]
        page = keys[:PAGE]
        more = len(keys) > len(page)
        held = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in page)
        after = f"<NextMarker>{escape(page[-1])}</NextMarker>" if more else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>archive</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{after}{held}</ListBucketResult>"
        )
        return web.Response(text=body, content_type="application/xml")

    async def get(self, request: web.Request) -> web.Response:
        """A file, its sum, or a page of links to what is in a folder."""
        path = request.match_info["path"]
        if path.endswith("/") and self._lists == "html":
            return self._linked(path)
        stem = path.removesuffix(".CHECKSUM")
        make = next((make for one, make in self._files(self._hub) if one == stem), None)
        if make is None or (stem != path and not self._sums):
            raise web.HTTPNotFound
        data = make()
        if stem != path:
            digest = hashlib.new(self._sums, data, usedforsecurity=False).hexdigest()
            data = f"{digest}  {stem.rpartition('/')[2]}\n".encode()
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return web.Response(body=data, headers={"ETag": f'"{etag}"'}, content_type="application/octet-stream")

    def _linked(self, folder: str) -> web.Response:
        names: Sequence[str] = [key.removeprefix(folder) for key in self._keys() if key.startswith(folder)]
        if not names:
            raise web.HTTPNotFound
        inside = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in names})
        items = "".join(f'<li><a href="{escape(name)}">{escape(name)}</a></li>' for name in inside)
        return web.Response(text=f"<html><body><ul>{items}</ul></body></html>", content_type="text/html")
