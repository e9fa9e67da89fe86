"""Files over https, resumable: what is there of one is gone on with, where the host still has that version of it.

Only hosts that are allowed are asked, and no redirect is followed. A file is written to `….part` in the lake, and gets
its name when it is whole; a process that is killed in between leaves what it had, with the version that it is of.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from collectors import transports
from collectors.files.archive.config import check_address
from collectors.files.archive.memory import PART, SUFFIX, Had, Stamp
from collectors.files.archive.planning import listing_url, read_links, read_listing
from collectors.files.archive.refused import Refused
from lake import durable, parquet
from lake.durable import AppendFile
from runtime.clock import Clock

TRIES = 5
"""Attempts at one file, of which each goes on where the one before it ended."""
PAUSE_SECONDS = 1.0
"""After the first failure; twice as long after each further one."""
SILENCE_SECONDS = 30.0
SLOW_SECONDS, SLOW_RATE = 60.0, 1024
"""A download that has brought fewer bytes a second after so many seconds is begun again where it is."""
TEXT_SECONDS = 120.0
MOST_TEXT = 32 * 1024 * 1024
MOST_PAGES = 1000
CHUNK = 256 * 1024
SYNC_BYTES = 64 * 1024 * 1024
"""A download is made durable this often: a power cut costs no more."""
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_SHOWN = re.compile(r"[^\x20-\x7e]")
_T = TypeVar("_T")
_LATER = "run it again: what is there is gone on with"


class _Version(msgspec.Struct):
    """Of what a part is one."""

    etag: str | None
    modified: str | None
    size: int | None


class _Again(Exception):
    """A failure that may pass."""


class Host:
    """One archive and its list. An async context manager; used in one event loop."""

    def __init__(self, clock: Clock, hosts: list[str], most: int, stopping: Callable[[], bool] = lambda: False) -> None:
        self._clock = clock
        self._hosts = hosts
        self._most = most
        self._stopping = stopping
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
        self._client = aiohttp.ClientSession(
            timeout=timeout, trust_env=True, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"}, connector=aiohttp.TCPConnector(ssl=transports.tls()),
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def linked(self, url: str, folder: str) -> list[str]:
        """The paths of what a page of links names, none where there is no such folder. Raises Refused."""
        body = await self.text(url)
        try:
            return [] if body is None else read_links(body, folder)
        except ValueError as error:
            raise Refused(folder, "address", f"{url} is no list of it: {error}", "check archives.mirrors") from error

    async def head(self, url: str) -> Stamp | None:
        """What its host says of a file without giving it, None where there is none (404). Raises Refused."""

        async def once() -> Stamp | None:
            async with asyncio.timeout(TEXT_SECONDS), self._ask(url, {}, "HEAD") as response:
                self._heed(url, response)
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise Refused(_name(url), "address", f"{url} answers {response.status}", _LATER)
                said, length = response.headers, response.headers.get("Content-Length", "")
                size = int(length) if length.isascii() and length.isdigit() else None
                return Stamp(etag=_strong(said.get("ETag")), modified=said.get("Last-Modified"), bytes=size)

        return await self._patiently(url, once)

    async def listed(self, base: str, query: str, folder: str, begin: str, end: str) -> list[str]:
        """The keys of a folder after `begin`, and at least those up to `end`. Raises Refused."""
        keys: list[str] = []
        marker = begin
        for _ in range(MOST_PAGES):
            body = await self.text(listing_url(base, query, folder, marker))
            try:
                found, following = read_listing(body if body is not None else b"")
            except ValueError as error:
                raise Refused(
                    folder, "address", f"{base} gives no list of it: {error}", "check archives.mirrors"
                ) from error
            keys += found
            if not following or (found and found[-1] > end):
                return keys
            if following <= marker:
                break
            marker = following
        raise Refused(folder, "address", f"the list of {base} does not end", "check archives.mirrors")

    async def text(self, url: str, most: int = MOST_TEXT) -> bytes | None:
        """A small body, None where there is no such thing (404). Raises Refused."""

        async def once() -> bytes | None:
            async with asyncio.timeout(TEXT_SECONDS), self._ask(url, {}) as response:
                self._heed(url, response)
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise Refused(_name(url), "address", f"{url} answers {response.status}", _LATER)
                body = b""
                async for chunk in response.content.iter_chunked(CHUNK):
                    body += chunk
                    if len(body) > most:
                        raise Refused(_name(url), "size", f"{url} has more than {most:,} bytes", "check the address")
                return body

        return await self._patiently(url, once)

    async def download(self, url: str, target: Path) -> Had | None:
        """The file at `url` under its name `target`; None where there is none (404). Raises Refused, StorageFailed."""
        durable.make_dirs(target.parent)
        part = target.with_name(target.name + PART)
        version = await self._patiently(url, lambda: self._once(url, part))
        if version is None:
            return None
        sha256 = await asyncio.to_thread(parquet.file_sha256, part)
        size = _size(part)
        durable.rename(part, target, replace=True)
        durable.unlink(_noted(part))
        return Had(
            url=url, sha256=sha256, bytes=size, etag=version.etag, modified=version.modified, at=self._clock.now()
        )

    async def _once(self, url: str, part: Path) -> _Version | None:
        """One attempt; what it got stays."""
        had = _size(part)
        known = _version(part) if had else None
        condition = (known.etag or known.modified) if known is not None else None
        asked = {"Range": f"bytes={had}-", "If-Range": condition} if had and condition else {}
        async with self._ask(url, asked) as response:
            self._heed(url, response)
            if response.status == 404:
                return None
            if response.status == 416:
                _forget(part)
                raise _Again("the host has less of it than is here: begun anew")
            if response.status not in (200, 206):
                raise Refused(_name(url), "address", f"{url} answers {response.status}", _LATER)
            start, whole = _extent(response.status, response.headers, response.content_length)
            if response.status == 206 and (start != had or not asked):
                _forget(part)
                raise _Again("another range than was asked for: begun anew")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Refused(_name(url), "address", "the host packs it once more", "ask another host")
            version = _Version(_strong(response.headers.get("ETag")), response.headers.get("Last-Modified"), whole)
            if whole is not None and whole > self._most:
                raise Refused(_name(url), "size", f"{whole:,} bytes, {self._most:,} are taken", "raise archives.max_gb")
            if response.status == 200:
                _forget(part)
                durable.write_file(_noted(part), msgspec.json.encode(version))
            await self._body(url, response, part)
        size = _size(part)
        if whole is not None and size != whole:
            raise _Again(f"{size:,} bytes came, {whole:,} were promised")
        return version

    async def _body(self, url: str, response: aiohttp.ClientResponse, part: Path) -> None:
        with AppendFile(part, existing=_size(part) > 0) as file:
            begun, had = self._clock.monotonic(), file.size
            try:
                async for chunk in response.content.iter_chunked(CHUNK):
                    took = self._clock.monotonic() - begun
                    if took > SLOW_SECONDS and file.size - had < SLOW_RATE * took:
                        raise _Again(f"fewer than {SLOW_RATE:,} bytes a second come")
                    if file.size + len(chunk) > self._most:
                        raise Refused(_name(url), "size", f"more than {self._most:,} bytes", "raise archives.max_gb")
                    file.write(chunk)  # the loop is this job's own
                    if file.size - file.synced > SYNC_BYTES:
                        file.sync()
                    if self._stopping():
                        raise Refused(_name(url), "missing", "stopped before it was whole", _LATER)
            finally:
                file.sync()

    def _ask(self, url: str, headers: Mapping[str, str], method: str = "GET") -> aiohttp.client._RequestContextManager:
        if self._client is None:
            raise RuntimeError("Host is used outside its context")
        parts = urlsplit(url)
        try:
            check_address(f"{parts.scheme}://{parts.netloc}")
        except ValueError as error:
            raise Refused(_name(url), "address", str(error), "use https://") from error
        if parts.netloc not in self._hosts:
            raise Refused(_name(url), "address", f"{parts.netloc} is not allowed", "name it in archives.hosts")
        return self._client.request(method, url, headers=headers, allow_redirects=False)

    def _heed(self, url: str, response: aiohttp.ClientResponse) -> None:
        """What is no answer: a redirect, or a host that cannot now."""
        if 300 <= response.status < 400:
            to = response.headers.get("Location", "")[:200]
            raise Refused(_name(url), "address", f"it is redirected to {to!r}", "name that host in archives.mirrors")
        if response.status in (403, 429) or response.status >= 500:  # 403: a network that has had enough of us
            raise _Again(f"the host answers {response.status}")

    async def _patiently(self, url: str, once: Callable[[], Awaitable[_T]]) -> _T:
        """What `once` gives, at the latest of some tries."""
        for attempt in range(TRIES):
            try:
                return await once()
            except (_Again, aiohttp.ClientError, TimeoutError, OSError) as error:
                why = _SHOWN.sub("?", f"{error}")[:200] or type(error).__name__
                if attempt + 1 == TRIES:
                    raise Refused(_name(url), "address", f"not to be had: {why}", _LATER) from error
                await self._clock.sleep(PAUSE_SECONDS * 2**attempt)
        raise AssertionError("the last try returns or raises")


def _extent(status: int, headers: Mapping[str, str], length: int | None) -> tuple[int, int | None]:
    """(where the body begins, how long the whole file is)."""
    if status == 200:
        return 0, length
    match = _RANGE.fullmatch(headers.get("Content-Range", ""))
    return (int(match[1]), int(match[3])) if match else (-1, None)


def _strong(etag: str | None) -> str | None:
    """An entity tag that means equal bytes."""
    return None if etag is None or etag.startswith("W/") else etag


def _version(part: Path) -> _Version | None:
    try:
        return msgspec.json.decode(_noted(part).read_bytes(), type=_Version)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _noted(part: Path) -> Path:
    return part.with_name(part.name + SUFFIX)


def _forget(part: Path) -> None:
    durable.unlink(part)
    durable.unlink(_noted(part))


def _name(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2] or url
