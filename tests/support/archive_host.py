"""A venue's archive on loopback: zips and CHECKSUMs made of a small market, listed as S3 lists them, with faults.

Written from the archive's documentation, not from what reads it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import io
import random
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from xml.sax.saxutils import escape

from aiohttp import web

US, MS = 1, 1000


def day_us(date: str) -> int:
    when = dt.datetime.fromisoformat(date).replace(tzinfo=dt.UTC)
    return int(when.timestamp()) * 1_000_000


def trades(date: str, first_id: int, count: int, *, unit: int = US, seed: int = 1) -> list[str]:
    """Lines of spot trades all over a day."""
    chance, start = random.Random(f"{seed}{date}"), day_us(date)
    price, lines = 6_500_000, []
    for number in range(count):
        price += chance.randint(-50, 50)
        at = (start + number * (86_400_000_000 // count) + 629_785) // unit
        qty = chance.randint(1, 10**8)
        text = f"{price // 100}.{price % 100:02d}000000"
        size = f"{qty // 10**8}.{qty % 10**8:08d}"
        maker = chance.choice(["True", "False"])
        lines.append(f"{first_id + number},{text},{size},{qty // 10**4}.00000000,{at},{maker},True")
    return lines


def csv(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name, (2026, 5, 9, 0, 0, 0)), data, method)
    return out.getvalue()


def summed(name: str, data: bytes) -> bytes:
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode()


class ArchiveHost:
    """`put` publishes; `faults` says of a path what goes wrong: missing, norange, redirect, forbidden, busy (once), cut
    (once).

    `asked` are the requests: path and Range.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.address = ""
        self.page = 1000

    def put(self, path: str, data: bytes, *, checksum: bytes | None = None) -> None:
        """A zip with its CHECKSUM."""
        self.files[path] = data
        self.files[f"{path}.CHECKSUM"] = summed(path.rpartition("/")[2], data) if checksum is None else checksum

    @property
    def config(self) -> dict[str, object]:
        """The section `archives` of a configuration that asks this host."""
        return {"mirrors": {"binance": {"base": self.address, "listing": f"{self.address}/list"}}}

    async def list(self, request: web.Request) -> web.Response:
        prefix, marker = request.query["prefix"], request.query.get("marker", "")
        keys = sorted(key for key in self.files if key.startswith(prefix) and key > marker)
        page = keys[: self.page]
        more = len(keys) > len(page)
        held = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in page)
        after = f"<NextMarker>{escape(page[-1])}</NextMarker>" if more else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>archive</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{after}{held}</ListBucketResult>"
        )
        return web.Response(text=body, content_type="application/xml")

    async def get(self, request: web.Request) -> web.StreamResponse:
        path, wanted = request.path.removeprefix("/"), request.headers.get("Range")
        self.asked.append((path, wanted))
        fault = self.faults.get(path, "")
        if fault == "redirect":
            raise web.HTTPFound("http://127.0.0.1:1/elsewhere")
        if fault == "forbidden":
            return web.Response(status=403)
        if fault == "busy":
            del self.faults[path]
            return web.Response(status=503)
        data = self.files.get(path)
        if data is None or fault == "missing":
            return web.Response(status=404)
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        start = 0
        if wanted is not None and fault != "norange" and request.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        response.content_length = len(data) - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if fault == "cut":
            del self.faults[path]
            await response.write(data[start : start + (len(data) - start) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(data[start:])
        await response.write_eof()
        return response


@contextmanager
def archive_host() -> Iterator[ArchiveHost]:
    """A host in a thread of its own."""
    host, ready, loop = ArchiveHost(), threading.Event(), asyncio.new_event_loop()

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/list", host.list)
        app.router.add_get("/{path:.*}", host.get)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host.address = "http://{}:{}".format(*runner.addresses[0][:2])
        return runner

    def run() -> None:
        runner = loop.run_until_complete(serve())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, name="archive host", daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield host
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
