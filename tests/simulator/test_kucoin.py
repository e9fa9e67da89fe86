"""KuCoin's twin: tokens, the greeting, requests and their answers, books of both hosts, and its REST envelope."""

import asyncio
import contextlib
import itertools
import json

import pytest

from simulator.venues.kucoin import rest
from simulator.venues.kucoin.names import read, spell
from tests.support.told import until

VENUE = ("--venue", "kucoin", "--markets", "spot,linear,inverse", "--symbols", "BTC-USDT,ETH-USDT")


async def ask(socket, **request):
    await socket.send_str(json.dumps({"response": True, "privateChannel": False, **request}))


@contextlib.asynccontextmanager
async def welcomed(sim, market):
    """A connection with a token that has been greeted."""
    async with sim.http.post(f"http://{sim.host}/{market}/api/v1/bullet-public") as answer:
        data = (await answer.json())["data"]
    assert data["instanceServers"][0]["endpoint"].endswith(f"/{market}/")
    async with sim.connect(f"/{market}/?token={data['token']}&connectId=7") as socket:
        assert (await until(socket, lambda m: True)) == [{"id": "7", "type": "welcome"}]
        yield socket


async def test_a_connection_without_a_token_is_turned_away(simulate):
    async with simulate(*VENUE) as sim:
        assert (await sim.get("/spot/?token=none"))[0] == 401


async def test_one_request_names_many_symbols_and_unknown_ones_are_acknowledged_and_silent(simulate):
    async with simulate(*VENUE) as sim, welcomed(sim, "spot") as socket:
        await ask(socket, id="1", type="subscribe", topic="/market/level2:BTC-USDT,NOT-USDT")
        found = await until(socket, lambda m: m.get("id") == "1")
        assert found[-1] == {"id": "1", "type": "ack"}
        found += await until(socket, lambda m: m.get("subject") == "trade.l2update")
        for _ in range(5):
            found += await until(socket, lambda m: m.get("subject") == "trade.l2update")
        spans = [(m["data"]["sequenceStart"], m["data"]["sequenceEnd"]) for m in found if "data" in m]
        assert all(end + 1 == start for (_, end), (start, _) in itertools.pairwise(spans))
        await ask(socket, id="2", type="subscribe", topic="/market/nothing:BTC-USDT")
        said = (await until(socket, lambda m: m.get("id") == "2"))[-1]
        assert (said["type"], said["code"], said["data"]) == ("error", 404, "topic does not exist")
        await ask(socket, id="3", type="ping")
        assert (await until(socket, lambda m: m.get("id") == "3"))[-1]["type"] == "pong"
        await ask(socket, id="4", type="subscribe", topic="/market/match:" + ",".join(f"S{n}-T" for n in range(101)))
        assert (await until(socket, lambda m: m.get("id") == "4"))[-1]["code"] == 509


@pytest.mark.parametrize("market,symbol", [("linear", "XBTUSDTM"), ("inverse", "XBTUSDM")])
async def test_a_futures_book_tells_one_level_a_message_and_its_snapshot_is_of_the_same_numbers(
    simulate, market, symbol
):
    async with simulate(*VENUE) as sim, welcomed(sim, market) as socket:
        await ask(socket, id="1", type="subscribe", topic=f"/contractMarket/level2:{symbol}")
        found = []
        while len(found) < 20:
            found += [m["data"] for m in await until(socket, lambda m: m.get("subject") == "level2") if "data" in m]
        numbers = [one["sequence"] for one in found]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert all(one["change"].split(",")[1] in ("buy", "sell") for one in found)
        _, _, body = await sim.get(f"/{market}/api/v1/level2/snapshot?symbol={symbol}")
        assert body["data"]["sequence"] >= numbers[-1]
        assert isinstance(body["data"]["bids"][0][0], int | float)
        _, _, body = await sim.get(f"/{market}/api/v1/level2/depth20?symbol={symbol}")
        assert len(body["data"]["asks"]) == 20


async def test_rest_answers_come_in_the_envelope(simulate):
    async with simulate(*VENUE) as sim:
        status, headers, body = await sim.get("/spot/api/v2/symbols")
        assert (status, body["code"], headers["gw-ratelimit-limit"]) == (200, "200000", "2000")
        assert "BTC-USDT" in [one["symbol"] for one in body["data"]]
        _, _, body = await sim.get("/spot/api/v1/market/orderbook/level2_20?symbol=BTC-USDT")
        assert len(body["data"]["bids"]) == 20
        _, _, body = await sim.get("/spot/api/v1/market/orderbook/level2_20?symbol=NOT")
        assert body == {"code": "200003", "msg": "Invalid symbol."}
        _, _, body = await sim.get("/linear/api/v1/contracts/XBTUSDTM")
        held = body["data"]
        assert (held["baseCurrency"], held["multiplier"], held["isInverse"]) == ("XBT", 0.001, False)
        _, _, body = await sim.get("/inverse/api/v1/contracts/active")
        assert {one["multiplier"] for one in body["data"]} == {-1}
        _, _, body = await sim.get("/linear/api/v1/contract/funding-rates?symbol=XBTUSDTM&from=0")
        assert body["code"] == "400100"
        now = (await sim.get("/linear/api/v1/timestamp"))[2]["data"]
        url = f"/linear/api/v1/contract/funding-rates?symbol=XBTUSDTM&from={now - 172_800_000}&to={now}"
        times = [one["timepoint"] for one in (await sim.get(url))[2]["data"]]
        assert times == sorted(times, reverse=True)
        assert len(times) == 6


async def test_who_asks_too_much_is_told_when_the_pool_is_full_again(simulate, monkeypatch):
    monkeypatch.setattr(rest, "BUDGET", (10, 30))
    async with simulate(*VENUE) as sim:
        answers = [await sim.get("/spot/api/v1/timestamp") for _ in range(6)]
        assert answers[0][0] == 200
        status, headers, body = answers[-1]
        assert (status, body["code"]) == (429, "429000")
        assert 0 < int(headers["gw-ratelimit-reset"]) <= 30_000


@pytest.mark.parametrize(
    "market,base,quote,symbol",
    [("spot", "BTC", "USDT", "BTC-USDT"), ("linear", "BTC", "USDT", "XBTUSDTM"), ("inverse", "ETH", "USD", "ETHUSDM")],
)
def test_names_are_read_as_they_are_spelt(market, base, quote, symbol):
    assert spell(market, base, quote) == symbol
    assert read(symbol) == (base, quote)
    assert read("BTCUSDT") is None


@pytest.mark.parametrize("market,symbol", [("linear", "XBTUSDTM"), ("inverse", "XBTUSDM")])
async def test_candles_of_futures_are_rows_of_lots_oldest_first(simulate, market, symbol):
    async with simulate(*VENUE) as sim:
        book = next(one for one in sim.hub.market.books if (one.market, one.symbol) == (market, symbol))
        while not book.candles.read("1m"):
            await asyncio.sleep(0.05)
        base = f"/{market}/api/v1/kline/query?symbol={symbol}&granularity=1"
        now = sim.hub.clock.now() // 1000
        _, _, body = await sim.get(f"{base}&from={now - 600_000}&to={now + 60_000}")
        opened, *prices, lots = body["data"][-1]
        assert opened % 60_000 == 0
        assert prices[1] >= max(prices[0], prices[3]) >= min(prices[0], prices[3]) >= prices[2] > 0
        assert lots == int(lots) > 0
        assert (await sim.get(f"{base}&from=1&to=2"))[2]["data"] == []
        assert (await sim.get(base.replace("granularity=1", "granularity=7&from=1&to=2")))[2]["code"] == "400100"
