"""Bybit's twin: its answers, the wholes that topics begin with, and its REST envelope."""

import json

import pytest

from simulator.venues.bybit import rest
from tests.support.told import until

VENUE = ("--venue", "bybit", "--markets", "spot,linear,inverse", "--symbols", "BTCUSDT,ETHUSDT")


async def ask(socket, **request):
    await socket.send_str(json.dumps(request))


async def test_a_topic_begins_with_a_whole_and_goes_on_by_one(simulate):
    async with simulate(*VENUE) as sim, sim.connect("/linear/v5/public/linear") as socket:
        await ask(socket, op="subscribe", args=["orderbook.200.BTCUSDT", "tickers.BTCUSDT"], req_id="7")
        found = await until(socket, lambda m: m.get("req_id") == "7")
        assert {one["type"] for one in found[:-1] if one["topic"].startswith("orderbook")} >= {"snapshot"}
        assert found[-1]["success"]
        found += await until(socket, lambda m: m.get("type") == "delta" and m["topic"].startswith("tickers"))
        found += await until(socket, lambda m: m.get("type") == "delta" and m["topic"].startswith("orderbook"))
        ids = [one["data"]["u"] for one in found if one.get("topic") == "orderbook.200.BTCUSDT"]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        whole, *changes = [one["data"] for one in found if one.get("topic") == "tickers.BTCUSDT"]
        assert {"markPrice", "indexPrice", "fundingRate", "nextFundingTime"} <= whole.keys()
        assert any(change.keys() < whole.keys() for change in changes)


async def test_one_bad_topic_refuses_the_request_and_one_that_is_held_is_said(simulate):
    async with simulate(*VENUE) as sim, sim.connect("/spot/v5/public/spot") as socket:
        await ask(socket, op="subscribe", args=["publicTrade.BTCUSDT", "publicTrade.NOT"], req_id="1")
        refused = (await until(socket, lambda m: m.get("req_id") == "1"))[-1]
        assert (refused["success"], refused["ret_msg"]) == (False, "error:handler not found,topic:publicTrade.NOT")
        for number, message in (("2", "subscribe"), ("3", "error:already subscribed,topic:publicTrade.BTCUSDT")):
            await ask(socket, op="subscribe", args=["publicTrade.BTCUSDT"], req_id=number)
            said = (await until(socket, lambda m, number=number: m.get("req_id") == number))[-1]
            assert said["ret_msg"] == message
        await ask(socket, op="ping", req_id="4")
        assert (await until(socket, lambda m: m.get("op") == "ping"))[-1]["ret_msg"] == "pong"


@pytest.mark.parametrize("market,symbol", [("spot", "BTCUSDT"), ("linear", "BTCUSDT"), ("inverse", "BTCUSD")])
async def test_rest_answers_come_in_the_envelope(simulate, market, symbol):
    async with simulate(*VENUE) as sim:
        base = f"/{market}/v5/market"
        status, _, body = await sim.get(f"{base}/instruments-info?category={market}")
        assert (status, body["retCode"]) == (200, 0)
        assert symbol in [one["symbol"] for one in body["result"]["list"]]
        _, _, body = await sim.get(f"{base}/orderbook?category={market}&symbol={symbol}&limit=5")
        assert len(body["result"]["b"]) == 5
        _, _, body = await sim.get(f"{base}/orderbook?category={market}&symbol=NOT")
        assert body["retCode"] == 10001
        _, _, body = await sim.get(f"{base}/recent-trade?category=other&symbol={symbol}")
        assert body["retCode"] == 10001


async def test_settled_rates_are_the_newest_of_what_is_asked_for(simulate):
    async with simulate(*VENUE) as sim:
        base = "/linear/v5/market/funding/history?category=linear&symbol=BTCUSDT"
        _, _, body = await sim.get(f"{base}&startTime=0")
        assert body["retCode"] == 10001
        _, _, body = await sim.get(f"{base}&limit=3")
        times = [int(one["fundingRateTimestamp"]) for one in body["result"]["list"]]
        assert times == sorted(times, reverse=True)
        assert len(times) == 3


async def test_who_asks_too_much_is_forbidden(simulate, monkeypatch):
    monkeypatch.setattr(rest, "BUDGET", (10, 5))
    async with simulate(*VENUE) as sim:
        statuses = [(await sim.get("/spot/v5/market/time"))[0] for _ in range(25)]
        assert statuses[0] == 200
        assert 403 in statuses
