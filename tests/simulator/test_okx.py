"""OKX's twin: its answers, what channels begin with, its two addresses, and its REST envelope."""

import asyncio
import json

import pytest

from simulator.venues.okx import rest
from tests.support.told import until

VENUE = ("--venue", "okx", "--markets", "spot,linear,inverse", "--symbols", "BTC-USDT,ETH-USDT")


async def ask(socket, op, *args, number="1"):
    await socket.send_str(json.dumps({"id": number, "op": op, "args": list(args)}))


async def test_a_book_begins_with_a_whole_and_each_change_names_the_one_before(simulate):
    arg = {"channel": "books", "instId": "BTC-USDT-SWAP"}
    async with simulate(*VENUE) as sim, sim.connect("/linear/ws/v5/public") as socket:
        await ask(socket, "subscribe", arg, number="7")
        found, changes = [], 0
        while changes < 3:
            found += await until(socket, lambda m: m.get("action") == "update")
            changes += 1
        assert [one for one in found if one.get("event")] == [
            {"id": "7", "event": "subscribe", "arg": arg, "connId": found[0]["connId"]}
        ]
        first, *rest_of = [one["data"][0] for one in found if "action" in one]
        assert first["prevSeqId"] == -1
        for before, after in zip([first, *rest_of], rest_of, strict=False):
            assert after["prevSeqId"] == before["seqId"] < after["seqId"]
        assert all(len(level) == 4 for level in first["bids"])


async def test_one_answer_an_argument_and_an_error_names_its_argument_in_words_only(simulate):
    good, bad = {"channel": "bbo-tbt", "instId": "BTC-USDT"}, {"channel": "books", "instId": "NOPE-USDT"}
    async with simulate(*VENUE) as sim, sim.connect("/spot/ws/v5/public") as socket:
        await ask(socket, "subscribe", good, bad, {"channel": "trades-all", "instId": "BTC-USDT"}, number="a1")
        found = await until(socket, lambda m: m.get("code") == "64001")
        (error,) = [one for one in found if one.get("code") == "60018"]
        assert (error["id"], "arg" in error, "NOPE-USDT" in error["msg"]) == ("a1", False, True)
        assert [one["arg"] for one in found if one.get("event") == "subscribe"] == [good]
        await socket.send_str("ping")
        texts = []
        while "pong" not in texts:
            texts.append((await asyncio.wait_for(socket.receive(), 60)).data)


async def test_a_subscription_of_trades_begins_with_the_last_one(simulate):
    async with simulate(*VENUE) as sim, sim.connect("/spot/ws/v5/business") as socket:
        await ask(socket, "subscribe", {"channel": "trades-all", "instId": "BTC-USDT"})
        found = await until(socket, lambda m: len(m.get("data", [])) == 1)
        ids = [int(one["data"][0]["tradeId"]) for one in [*found, *await until(socket, lambda m: "data" in m)][1:]]
        assert ids == sorted(ids)


@pytest.mark.parametrize("market,kind,symbol", [("spot", "SPOT", "BTC-USDT"), ("linear", "SWAP", "BTC-USDT-SWAP"),
                                                ("inverse", "SWAP", "BTC-USD-SWAP")])  # fmt: skip
async def test_rest_answers_come_in_the_envelope(simulate, market, kind, symbol):
    async with simulate(*VENUE) as sim:
        base = f"/{market}/api/v5"
        status, _, body = await sim.get(f"{base}/public/instruments?instType={kind}")
        assert (status, body["code"]) == (200, "0")
        listed = {one["instId"]: one for one in body["data"]}
        assert listed[symbol]["ctType"] == ("" if market == "spot" else market)
        _, _, body = await sim.get(f"{base}/public/instruments?instType=FUTURES")
        assert body["data"] == []
        _, _, body = await sim.get(f"{base}/market/books?instId={symbol}&sz=5")
        assert len(body["data"][0]["bids"]) == 5
        _, _, body = await sim.get(f"{base}/market/books?instId=NOPE")
        assert body["code"] == "51001"


async def test_settled_rates_are_newest_first_between_two_times(simulate):
    async with simulate(*VENUE) as sim:
        base = "/linear/api/v5/public/funding-rate-history?instId=BTC-USDT-SWAP"
        _, _, body = await sim.get(f"{base}&limit=5")
        times = [int(one["fundingTime"]) for one in body["data"]]
        assert times == sorted(times, reverse=True)
        assert len(times) == 5
        _, _, body = await sim.get(f"{base}&before={times[2]}")
        assert [int(one["fundingTime"]) for one in body["data"]] == times[:2]
        _, _, body = await sim.get(f"{base}&after={times[2]}&limit=2")
        assert [int(one["fundingTime"]) for one in body["data"]] == times[3:5]


async def test_who_asks_too_much_is_told_so(simulate, monkeypatch):
    monkeypatch.setitem(rest.BUDGETS, "public/time", 3)
    async with simulate(*VENUE) as sim:
        answers = [await sim.get("/spot/api/v5/public/time") for _ in range(12)]
        assert answers[0][0] == 200
        assert (429, "50011") in [(status, body["code"]) for status, _, body in answers]
