"""Kraken's twin: its answers a symbol, the wholes that subscriptions begin with, sums, and its REST envelopes."""

import asyncio
import json
import zlib
from functools import partial

from tests.support import told

VENUE = ("--venue", "kraken", "--markets", "spot,linear,inverse", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "400")
until = partial(told.until, parse_float=str, parse_int=str)


async def ask(socket, method, **params):
    await socket.send_str(json.dumps({"method": method, "params": params, "req_id": 7}))


def digits(text, decimals):
    whole, _, fraction = text.partition(".")
    return (whole + fraction.ljust(decimals, "0")).lstrip("0")


async def test_a_spot_book_is_summed_as_documented_with_the_precisions_of_its_instrument(simulate):
    async with simulate(*VENUE) as sim, sim.connect("/spot/v2") as socket:
        await ask(socket, "subscribe", channel="instrument")
        found = await until(socket, lambda m: m.get("channel") == "instrument")
        assert found[0]["data"][0]["system"] == "online"
        (pair,) = [one for one in found[-1]["data"]["pairs"] if one["symbol"] == "BTC/USDT"]
        places = int(pair["price_precision"]), int(pair["qty_precision"])
        await ask(socket, "subscribe", channel="book", symbol=["BTC/USDT"], depth=10)
        sides = {"bids": {}, "asks": {}}
        for _ in range(12):
            (data,) = (await until(socket, lambda m: m.get("channel") == "book"))[-1]["data"]
            for name, held in sides.items():
                for level in data[name]:
                    held[level["price"]] = level["qty"]
                    if not float(level["qty"]):
                        del held[level["price"]]
                for price in sorted(held, key=float, reverse=name == "bids")[10:]:
                    del held[price]
            best = [(price, sides["asks"][price]) for price in sorted(sides["asks"], key=float)]
            best += [(price, sides["bids"][price]) for price in sorted(sides["bids"], key=float, reverse=True)]
            text = "".join(digits(price, places[0]) + digits(qty, places[1]) for price, qty in best)
            assert zlib.crc32(text.encode()) == int(data["checksum"])


async def test_symbols_of_one_request_are_answered_by_themselves(simulate):
    async with simulate(*VENUE) as sim, sim.connect("/spot/v2") as socket:
        await ask(socket, "subscribe", channel="trade", symbol=["BTC/USDT", "NO/USD"], snapshot=True)
        found = await until(socket, lambda m: m.get("success") is False)
        assert (found[-1]["symbol"], found[-1]["req_id"]) == ("NO/USD", "7")
        (taken,) = [one for one in found if one.get("success")]
        assert taken["result"] == {"channel": "trade", "symbol": "BTC/USDT"}
        assert [one["type"] for one in found if one.get("channel") == "trade"][:1] == ["snapshot"]
        await ask(socket, "ping")
        await until(socket, lambda m: m.get("method") == "pong")
        await until(socket, lambda m: m.get("channel") == "heartbeat")


async def test_a_future_begins_with_its_whole_book_and_goes_on_by_one(simulate):
    async with simulate(*VENUE) as sim, sim.connect("/linear/ws/v1") as socket:
        for feed in ("book", "trade"):
            await socket.send_str(json.dumps({"event": "subscribe", "feed": feed, "product_ids": ["PF_XBTUSD"]}))
        found = await until(socket, lambda m: m.get("feed") == "trade")
        found += await until(socket, lambda m: m.get("feed") == "book")
        found += await until(socket, lambda m: m.get("feed") == "book")
        assert {"info", "subscribed"} == {one["event"] for one in found if "event" in one}
        numbers = [int(one["seq"]) for one in found if "seq" in one and one["feed"] != "trade"]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        await socket.send_str(json.dumps({"event": "subscribe", "feed": "book", "product_ids": ["PF_NO"]}))
        assert (await until(socket, lambda m: m.get("event") == "error"))[-1]["message"] == "Invalid product id"


async def test_rest_answers_come_in_their_envelopes(simulate):
    async with simulate(*VENUE) as sim:
        _, _, pairs = await sim.get("/spot/0/public/AssetPairs")
        assert (pairs["error"], pairs["result"]["XBTUSDT"]["wsname"]) == ([], "XBT/USDT")
        _, _, depth = await sim.get("/spot/0/public/Depth?pair=XBTUSDT&count=5")
        assert len(depth["result"]["XBTUSDT"]["bids"]) == 5
        status, _, refused = await sim.get("/spot/0/public/Depth?pair=NOT")
        assert (status, refused) == (200, {"error": ["EQuery:Unknown asset pair"]})
        base = "/linear/derivatives/api/v3"
        _, _, listed = await sim.get(f"{base}/instruments")
        assert {one["symbol"] for one in listed["instruments"]} == {"PF_XBTUSD", "PF_ETHUSD", "PI_XBTUSD", "PI_ETHUSD"}
        _, _, book = await sim.get(f"{base}/orderbook?symbol=PF_XBTUSD")
        bids = [level[0] for level in book["orderBook"]["bids"]]
        assert bids == sorted(bids), "worst first, as measured"
        _, _, ticker = await sim.get(f"{base}/tickers/PF_XBTUSD")
        assert ticker["ticker"]["openInterest"] > 0
        _, _, rates = await sim.get(f"{base}/historical-funding-rates?symbol=PF_XBTUSD")
        assert len(rates["rates"]) == 1000
        _, _, unknown = await sim.get(f"{base}/tickers/NOT")
        assert (unknown["result"], unknown["error"]) == ("error", "notFound")
        (pair,) = (one for one in sim.hub.market.books if one.symbol == "BTC/USDT")
        while len(pair.trades) < 3:
            await asyncio.sleep(0.05)
        first, second = list(pair.trades)[:2]
        _, _, page = await sim.get(f"/spot/0/public/Trades?pair=XBTUSDT&since={first.ts * 1000 - 1}&count=2")
        assert [row[6] for row in page["result"]["XXBTUSDT"]] == [first.id, second.id], "behind it, oldest first"
        _, _, page = await sim.get(f"/spot/0/public/Trades?pair=XBTUSDT&since={first.ts * 1000}&count=1")
        assert page["result"]["XXBTUSDT"][0][2] > first.ts / 1e6, "the bound itself is not included"
        _, _, page = await sim.get("/spot/0/public/OHLC?pair=XBTUSDT&interval=1")
        assert [len(row) for row in page["result"]["XXBTUSDT"]] == [8] * len(page["result"]["XXBTUSDT"])


async def test_names_of_the_venue_are_read_back(simulate):
    async with simulate("--venue", "kraken", "--markets", "linear", "--symbols", "PF_XBTUSD,BTC/USD") as sim:
        _, _, listed = await sim.get("/linear/derivatives/api/v3/instruments")
        assert [(one["symbol"], one["base"], one["quote"]) for one in listed["instruments"]] == [
            ("PF_XBTUSD", "BTC", "USD"),
        ]  # fmt: skip


async def test_futures_tell_candles_by_rest_and_their_best_levels_in_the_ticker(simulate):
    async with simulate(*VENUE) as sim:
        book = next(one for one in sim.hub.market.books if one.symbol == "PF_XBTUSD")
        while book.top is None or not book.candles.read("1m"):
            await asyncio.sleep(0.05)
        now = sim.hub.clock.now() // 1_000_000
        base = "/linear/api/charts/v1/trade/PF_XBTUSD/1m"
        _, _, body = await sim.get(f"{base}?from={now - 600}&to={now + 60}")
        (candle, *_) = body["candles"]
        assert candle["time"] % 60_000 == 0
        assert float(candle["low"]) <= float(candle["open"]) <= float(candle["high"])
        assert (await sim.get(f"{base}?from=1&to=2"))[2]["candles"] == []
        async with sim.connect("/linear/ws/v1") as socket:
            await socket.send_str('{"event":"subscribe","feed":"ticker","product_ids":["PF_XBTUSD"]}')
            told = (await until(socket, lambda m: m.get("feed") == "ticker" and "markPrice" in m))[-1]
        assert float(told["bid"]) < float(told["ask"])
        assert float(told["bid_size"]) > 0 < float(told["ask_size"])
