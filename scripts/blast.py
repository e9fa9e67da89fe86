"""Load for benches: a Binance spot look-alike that sends WebSocket frames it made before the first client came.

    python scripts/blast.py [--frames N] [--symbols N] [--mix ab|tb|cf] [--pace FRAMES_PER_SECOND] [--hold SECONDS]
                            [--port P] [--seed N]

A Python simulator measures itself; here a frame costs the sender a slice of bytes. The frames are the simulator's
market in Binance's words: `ab` is 40 % aggTrade and 60 % bookTicker, `tb` the same with trade, `cf` 35 % aggTrade, 55 %
bookTicker and 10 % depth updates of 3 to 30 levels around the best prices, whose ids chain. One JSON line on standard
output says where it listens and what it sends. Every client gets the same frames, once, `--hold` seconds
after it has asked for all streams (in its address or by SUBSCRIBE); then the connection stays open until it leaves.
With `--pace` each frame is a write of its own, evenly spaced, so that a client wakes up for each as it does for a live
feed. GET /api/v3/exchangeInfo and /api/v3/depth (the book before the first update) are answered too. It ends with its
standard input, or on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import random
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file: the packages are one folder up

from simulator.connection import CLOSE, PING, PONG, frame
from simulator.faults import KIND_OF
from simulator.instruments import listing, names
from simulator.market import Aggregate, Book, Fill, Market
from simulator.venues.binance.listing import exchange_info
from simulator.venues.binance.wire import Wire

TRADES = {"ab": Aggregate, "tb": Fill, "cf": Aggregate}
QUOTE_SHARE = 0.6
DEPTH_EVERY = 10
"""Of `cf`, each so-manieth frame is an update of a book."""
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BLOCK = 256 * 1024


class Depths:
    """Updates of books, each around the best prices that its book has then."""

    def __init__(self, books: list[Book], seed: int) -> None:
        self.books = books
        self.last = {book.symbol: 1_000_000 * (n + 1) for n, book in enumerate(books)}
        """Symbol -> id of the newest update."""
        self.first = dict(self.last)
        self.count = 0
        self._random = random.Random(seed)  # noqa: S311 -- load, no secret

    def snapshot(self, symbol: str) -> bytes:
        """The answer of GET /api/v3/depth: the book that the updates go on from."""
        (book,) = (one for one in self.books if one.symbol == symbol)
        told = {"lastUpdateId": self.first[symbol], "bids": self._side(book, -1, 20), "asks": self._side(book, 1, 20)}
        return json.dumps(told).encode()

    def update(self, now: int) -> tuple[str, str]:
        """The next one: the symbol and the payload."""
        book = self.books[self.count % len(self.books)]
        self.count += 1
        first = self.last[book.symbol] + 1
        last = self.last[book.symbol] = first + self._random.randrange(40)
        told = {
            "e": "depthUpdate", "E": now // 1000, "s": book.symbol, "U": first, "u": last,
            "b": self._side(book, -1, self._random.randrange(3, 31)),
            "a": self._side(book, 1, self._random.randrange(3, 31)),
        }  # fmt: skip
        return book.symbol, json.dumps(told, separators=(",", ":"))

    def _side(self, book: Book, way: int, levels: int) -> list[list[str]]:
        """Best first; a level whose quantity is 0 is gone."""
        best = book.bid if way < 0 else book.bid + book.spread
        lots = [self._random.choice((0, 1, 1, 1)) * self._random.randrange(1, 200_000) for _ in range(levels)]
        return [[book.price(max(1, best + way * n)), book.qty(lot)] for n, lot in enumerate(lots)]


class Load:
    """The frames, one after another in one piece of memory."""

    def __init__(self, count: int, symbols: int, mix: str, seed: int) -> None:
        start = time.time_ns() // 1000
        rate = 50_000.0
        self.market = Market(listing(["spot"], names(symbols), seed), seed, rate, start)
        wire, trade = Wire(), TRADES[mix]
        self.depths = Depths(self.market.books, seed)
        self.ends: list[int] = []
        self.kinds = {"trade": 0, "quote": 0, "depth": 0}
        parts: list[bytes] = []
        now = start

        def put(which: str, stream: str, payload: str) -> None:
            parts.append(frame(wire.wrapped(stream, payload).encode()))
            self.ends.append(len(parts[-1]) + (self.ends[-1] if self.ends else 0))
            self.kinds[which] += 1

        while len(parts) < count:
            now += 20_000
            for event in self.market.advance(now):
                kind = KIND_OF[type(event)]
                if kind != "quote" and type(event) is not trade:
                    continue
                which = "quote" if kind == "quote" else "trade"
                if which == "quote" and self.kinds["quote"] * (1 - QUOTE_SHARE) > self.kinds["trade"] * QUOTE_SHARE:
                    continue
                if mix == "cf" and len(parts) % DEPTH_EVERY == DEPTH_EVERY - 1 and len(parts) < count:
                    symbol, payload = self.depths.update(now)
                    put("depth", f"{symbol.lower()}@depth@100ms", payload)
                if len(parts) == count:
                    break
                put(which, wire.stream(event.book.symbol, kind), wire.payload(event, now - now % 1000, micro=False))
        self.data = b"".join(parts)
        books = self.market.books
        channels = ["trade" if trade is Fill else "aggTrade", "bookTicker", *(["depth@100ms"] if mix == "cf" else ())]
        self.streams = {f"{book.symbol.lower()}@{channel}" for book in books for channel in channels}
        self.info = json.dumps(exchange_info("spot", books, start // 1000, 6000)).encode()

    def answer(self, path: str, asked: dict[str, str]) -> bytes | None:
        """What GET `path` says."""
        if path.endswith("/exchangeInfo"):
            return self.info
        if path.endswith("/depth") and asked.get("symbol") in self.depths.last:
            return self.depths.snapshot(asked["symbol"])
        return None


class Client(asyncio.Protocol):
    """One connection: HTTP first, WebSocket after an upgrade."""

    def __init__(self, load: Load, pace: float | None, hold: float) -> None:
        self.load = load
        self.pace = pace
        self.hold = hold
        self.asked: set[str] = set()
        self.received = b""
        self.upgraded = self.sending = False
        self.at = self.sent = 0
        self.began = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=4 * BLOCK)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self.sending = False
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while not self.upgraded and b"\r\n\r\n" in self.received:
            head, self.received = self.received.split(b"\r\n\r\n", 1)
            self.http(head)
        while self.upgraded and self.one_frame():
            pass

    def http(self, head: bytes) -> None:
        first, *rest = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}
        target = urlsplit(first.split(" ")[1])
        key = headers.get("sec-websocket-key")
        if key is None:
            body = self.load.answer(target.path, dict(parse_qsl(target.query)))
            status = "404 Not Found" if body is None else "200 OK"
            body = body or b"{}"
            self.transport.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            return
        accept = base64.b64encode(hashlib.sha1(key.encode() + MAGIC).digest()).decode()
        self.transport.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        self.upgraded = True
        for part in target.query.split("&"):
            if part.startswith("streams="):
                self.want(unquote(part[8:]).split("/"))

    def one_frame(self) -> bool:
        """Take one masked frame off what was received; False where it is not whole yet."""
        data = self.received
        if len(data) < 6:
            return False
        opcode, size, at = data[0] & 15, data[1] & 127, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
        if len(data) < at + 4 + size:
            return False
        mask = data[at : at + 4]
        body = bytes(byte ^ mask[n & 3] for n, byte in enumerate(data[at + 4 : at + 4 + size]))
        self.received = data[at + 4 + size :]
        if opcode == PING:
            self.transport.write(frame(body, PONG))
        elif opcode == CLOSE:
            self.transport.write(frame(body, CLOSE))
            self.transport.close()
        elif opcode == 1:
            request = json.loads(body)
            self.transport.write(frame(json.dumps({"result": None, "id": request.get("id")}).encode()))
            if request.get("method") == "SUBSCRIBE":
                self.want(request["params"])
        return True

    def want(self, streams: list[str]) -> None:
        """Start when everything was asked for."""
        self.asked.update(streams)
        if self.asked >= self.load.streams and not self.began:
            loop = asyncio.get_running_loop()
            self.began = loop.time() + self.hold
            self.sending = True
            self.timer = loop.call_at(self.began, self.paced if self.pace else self.pour)

    def pour(self) -> None:
        """As fast as the client takes it."""
        data = self.load.data
        while self.sending and self.at < len(data):
            block = data[self.at : self.at + BLOCK]
            self.at += len(block)
            self.transport.write(block)

    def paced(self) -> None:
        """One frame when it is due, then the loop's turn: timers of an event loop are too coarse for thousands."""
        assert self.pace is not None
        if self.transport.is_closing() or self.sent == len(self.load.ends):
            return
        loop = asyncio.get_running_loop()
        wait = self.began + self.sent / self.pace - loop.time()
        if wait > 0.002:
            self.timer = loop.call_later(wait, self.paced)
            return
        if wait > 0:
            time.sleep(wait)
        end = self.load.ends[self.sent]
        self.transport.write(self.load.data[self.at : end])
        self.at, self.sent = end, self.sent + 1
        loop.call_soon(self.paced)

    def pause_writing(self) -> None:
        self.sending = False

    def resume_writing(self) -> None:
        self.sending = True
        if self.at and not self.pace:
            self.pour()


async def serve(options: argparse.Namespace) -> None:
    """Until the end of standard input or SIGTERM."""
    load = Load(options.frames, options.symbols, options.mix, options.seed)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    server = await loop.create_server(lambda: Client(load, options.pace, options.hold), "127.0.0.1", options.port)
    host, port = server.sockets[0].getsockname()[:2]
    ready = {
        "rest": f"http://{host}:{port}", "ws": f"ws://{host}:{port}/stream", "frames": options.frames,
        "bytes": len(load.data), "trades": load.kinds["trade"], "quotes": load.kinds["quote"],
        "depths": load.kinds["depth"],
        "symbols": [book.symbol for book in load.market.books], "streams": sorted(load.streams),
    }  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))

    def wait_for_the_end() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=wait_for_the_end, daemon=True).start()
    print(json.dumps(ready), flush=True)
    await stop.wait()
    server.close()


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("blast.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--mix", choices=sorted(TRADES), default="ab")
    parser.add_argument("--pace", type=float, help="frames a second; as fast as the client takes them if not given")
    parser.add_argument(
        "--hold", type=float, default=0.0, help="seconds between the last subscription and the first frame"
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(given)
    if options.frames < 1 or options.symbols < 1 or (options.pace is not None and options.pace <= 0):
        parser.error("--frames, --symbols and --pace must be above zero")
    asyncio.run(serve(options))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
