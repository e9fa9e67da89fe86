"""The sides of `bench_ingest.py`, each measured in a process of its own: two peers as their users run them, and ours.

Run as `python bench_sides.py NAME LOAD OUT` by the bench (LOAD is the JSON line of `blast.py`); prints what the side
measured of itself. Needs nothing but the standard library where a peer's own environment runs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]  # ours is the checkout that this file lies in

from bench_harness import Stopwatch  # noqa: E402 -- it lies beside this file

OURS = ("ours", "ours-noframes")
PATIENCE = 180.0


def baseline(load: dict[str, Any], out: Path) -> dict[str, float]:
    """Text in, floats, text out: one line a record, synced once at the end."""
    from websockets.asyncio.client import connect

    async def run() -> dict[str, float]:
        count, wanted = 0, load["frames"]
        url = load["ws"] + "?streams=" + "/".join(load["streams"])
        with (out / "records.jsonl").open("w", encoding="utf-8") as file:
            async with connect(url, max_queue=None) as ws:
                async for text in ws:
                    message = json.loads(text)
                    received, data = time.time(), message["data"]
                    record = {"symbol": data["s"], "stream": message["stream"], "ts_recv": received}
                    if "U" in data:
                        record |= {
                            "update_id": data["u"], "ts_event": data["E"],
                            "bids": [[float(price), float(qty)] for price, qty in data["b"]],
                            "asks": [[float(price), float(qty)] for price, qty in data["a"]],
                        }  # fmt: skip
                    elif "u" in data:
                        record |= {
                            "update_id": data["u"], "bid": float(data["b"]), "bid_qty": float(data["B"]),
                            "ask": float(data["a"]), "ask_qty": float(data["A"]),
                        }  # fmt: skip
                    else:
                        record |= {
                            "id": data["a"], "price": float(data["p"]), "qty": float(data["q"]),
                            "side": "sell" if data["m"] else "buy", "ts_event": data["T"],
                        }  # fmt: skip
                    file.write(json.dumps(record) + "\n")
                    if not count:
                        watch = Stopwatch()
                    count += 1
                    if count == wanted:
                        break
                file.flush()
                os.fsync(file.fileno())
                return watch.result(records=count)

    return asyncio.run(run())


def cryptofeed_callbacks(wrote: Callable[[bytes], None]) -> tuple[Any, Any, Any]:
    """What its users write: a record a trade, a best price and an update of a book, each a line."""
    import orjson  # type: ignore[import-not-found,unused-ignore] # the peer's environment has it

    async def on_trade(t: Any, received: float) -> None:
        record = {
            "symbol": t.symbol, "id": t.id, "price": float(t.price), "qty": float(t.amount), "side": t.side,
            "ts_event": t.timestamp, "ts_recv": received,
        }  # fmt: skip
        wrote(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    async def on_ticker(t: Any, received: float) -> None:
        record = {
            "symbol": t.symbol, "bid": float(t.bid), "ask": float(t.ask), "ts_event": t.timestamp, "ts_recv": received,
        }  # fmt: skip
        wrote(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    async def on_book(book: Any, received: float) -> None:
        if book.delta is None:  # the snapshot that the updates go on from
            return
        sides = {side: [[float(price), float(qty)] for price, qty in book.delta[side]] for side in ("bid", "ask")}
        record = {
            "symbol": book.symbol, "update_id": book.sequence_number, "bids": sides["bid"], "asks": sides["ask"],
            "ts_event": book.timestamp, "ts_recv": received,
        }  # fmt: skip
        wrote(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    return on_trade, on_ticker, on_book


def cryptofeed(load: dict[str, Any], out: Path) -> dict[str, float]:
    """Runs in the peer's own environment: the handler as its users start it, callbacks that write one line each."""
    from cryptofeed import FeedHandler  # type: ignore[import-not-found,unused-ignore] # as above
    from cryptofeed.connection import AsyncConnection, WSAsyncConn  # type: ignore[import-not-found,unused-ignore]
    from cryptofeed.defines import L2_BOOK, TICKER, TRADES  # type: ignore[import-not-found,unused-ignore] # as above
    from cryptofeed.exchanges import Binance  # type: ignore[import-not-found,unused-ignore] # as above

    def plain(
        self: Any, address: str, conn_id: str, authentication: Any = None, subscription: Any = None, **kw: Any
    ) -> None:
        self.address, self.ws_kwargs = address, kw
        name = f"{conn_id}.ws.{self.conn_count}"
        AsyncConnection.__init__(self, name, authentication=authentication, subscription=subscription)

    WSAsyncConn.__init__ = plain
    Binance.websocket_endpoints[0].address = load["ws"].removesuffix("/stream")
    Binance.rest_endpoints[0].address = load["rest"]
    wanted, count, done, watch = load["frames"], 0, {}, Stopwatch()
    file = (out / "records.jsonl").open("wb")

    def wrote(line: bytes) -> None:
        nonlocal count, watch
        if not count:
            watch = Stopwatch()
        file.write(line)
        count += 1
        if count == wanted:
            file.flush()
            os.fsync(file.fileno())
            done.update(watch.result(records=count))
            asyncio.get_running_loop().stop()

    on_trade, on_ticker, on_book = cryptofeed_callbacks(wrote)
    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True}})
    symbols = [f"{name.removesuffix('USDT')}-USDT" for name in load["symbols"]]
    callbacks = {TRADES: on_trade, TICKER: on_ticker} | ({L2_BOOK: on_book} if load["depths"] else {})
    handler.add_feed(Binance(symbols=symbols, channels=list(callbacks), callbacks=callbacks))
    handler.run(start_loop=False, install_signal_handlers=False)
    loop.call_later(PATIENCE, loop.stop)
    loop.run_forever()
    return done or watch.result(records=count)


def ours(load: dict[str, Any], out: Path, *, frames: bool) -> dict[str, float]:
    """The collectors' service over a lake of its own, until everything is sealed."""
    import random

    from collectors.config import CollectorsConfig, EndpointConfig, SourceConfig, WritingConfig
    from collectors.service import CollectorsService
    from lake.writer import LakeWriter
    from runtime.clock import SystemClock
    from runtime.loop import run as run_loop

    kinds = ["agg_trade", "quote", *(["book_delta"] if load["depths"] else ())]
    snapshots = len(load["symbols"]) if load["depths"] else 0  # one a book, among its updates
    config = CollectorsConfig(
        node="bench",
        # a hundred times the rate of a busy day: what waits for the disk is held, as the peers hold it, and not shed
        writing=WritingConfig(frames=frames, queue_mb=1024, queue_total_mb=4096),
        sources=[
            SourceConfig(
                exchange="binance", market_type="spot", symbols=load["symbols"], kinds=kinds,
                book_levels=100,
                endpoint=EndpointConfig(rest=load["rest"], ws={"stream": load["ws"]}),
            )
        ],
    )  # fmt: skip
    clock = SystemClock()
    acks = -(-len(load["streams"]) // 100)

    async def run() -> dict[str, float]:
        watch, stop = Stopwatch(), asyncio.Event()
        stored = shed = 0
        rest = 0.01
        with LakeWriter.open(out / "lake", "bench", clock.now()) as writer:
            service = CollectorsService(config, writer, clock, random.random)
            task = asyncio.create_task(service.run(stop))
            until = time.monotonic() + PATIENCE
            while stored + shed < load["frames"] and time.monotonic() < until and not task.done():
                await asyncio.sleep(rest)
                status: Any = service.status().get("binance/spot", {})
                if status.get("frames", 0) <= acks:
                    watch = Stopwatch()
                else:
                    rest = 0.2  # looking costs CPU too: often only until the first frame has come
                events = status.get("events", {})
                stored = sum(events.get(kind, 0) for kind in kinds) - snapshots
                shed = sum(status.get("shed", {}).values())
            stop.set()
            await task
        return watch.result(records=stored)

    return run_loop(run())


def side(name: str, load: dict[str, Any], out: Path) -> dict[str, float]:
    """What one side measured of itself."""
    if name in OURS:
        sys.path.insert(0, str(ROOT))
        return ours(load, out, frames=name == "ours")
    return {"baseline": baseline, "cryptofeed": cryptofeed}[name](load, out)


if __name__ == "__main__":
    print(json.dumps(side(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]))))
