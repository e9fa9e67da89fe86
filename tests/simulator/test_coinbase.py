"""Coinbase's twin: what subscriptions begin with, the numbers of messages, its answers and REST routes."""

import asyncio
import json

import pytest

from simulator.venues.coinbase import rest, stream

VENUE = ("--venue", "coinbase", "--markets", "spot", "--symbols", "BTCUSDT,ETHUSDT")


async def ask(socket, channel, *products, what="subscribe"):
    named = {"product_ids": list(products)} if products else {}
    await socket.send_str(json.dumps({"type": what, "channel": channel, **named}))


async def until(socket, good):
    """Messages up to the first that is `good`."""
    found = []
    while not found or not good(found[-1]):
        found.append(json.loads((await asyncio.wait_for(socket.receive(), 10)).data))
    return found


def listed(message):
    return message["events"][0]["subscriptions"] if message.get("channel") == "subscriptions" else None


async def test_subscriptions_begin_with_wholes_and_all_messages_of_a_connection_are_counted(simulate):
    async with simulate(*VENUE, "--rate", "400") as sim, sim.connect("/spot/ws") as socket:
        found = []
        await ask(socket, "heartbeats")
        while not all(book.trades for book in sim.hub.market.books):
            await asyncio.sleep(0.05)
        for channel in ("market_trades", "ticker", "level2", "candles"):
            await ask(socket, channel, "BTC-USDT", "ETH-USDT")
        found += await until(socket, lambda m: "candles" in (listed(m) or ()))
        found += await until(socket, lambda m: m["channel"] == "heartbeats")
        found += await until(socket, lambda m: m["channel"] == "l2_data" and m["events"][0]["type"] == "update")
        assert [one["sequence_num"] for one in found] == list(range(len(found)))
        first = {}
        for one in found:
            first.setdefault(one["channel"], one["events"][0].get("type"))
        assert {"market_trades", "l2_data"} <= {name for name, what in first.items() if what == "snapshot"}, first
        trades = next(one for one in found if one["channel"] == "market_trades")["events"][0]["trades"]
        ids = [int(one["trade_id"]) for one in trades]
        assert ids == sorted(ids, reverse=True)


async def test_an_unknown_product_is_left_out_and_a_dropped_message_leaves_a_number_out(simulate):
    async with simulate(*VENUE, "--rate", "400") as sim, sim.connect("/spot/ws") as socket:
        await ask(socket, "level2", "BTC-USDT", "NOT-USDT", "BTCUSDT")
        found = await until(socket, lambda m: listed(m) is not None)
        assert listed(found[-1]) == {"level2": ["BTC-USDT"]}
        await sim.fault(fault="drop_ids", market="spot", kind="book_delta", symbol="BTCUSDT", count=1)
        last = found[-1]["sequence_num"]
        while (number := (await until(socket, lambda m: True))[-1]["sequence_num"]) == last + 1:
            last = number
        assert number == last + 2
        await ask(socket, "level2", "BTC-USDT", what="unsubscribe")
        assert listed((await until(socket, lambda m: listed(m) is not None))[-1]) == {}


async def test_too_many_books_and_no_subscription_close_the_socket(simulate, monkeypatch):
    monkeypatch.setattr(stream, "BOOKS", 1)
    monkeypatch.setattr(stream, "FIRST_WITHIN", 0.2)
    async with simulate(*VENUE) as sim:
        async with sim.connect("/spot/ws") as socket:
            await ask(socket, "level2", "BTC-USDT", "ETH-USDT")
            said = await until(socket, lambda m: m.get("type") == "error")
            assert said[-1]["message"] == "too many L2 streams requested in a single session"
            assert (await asyncio.wait_for(socket.receive(), 5)).type.name in ("CLOSE", "CLOSED", "CLOSING")
        async with sim.connect("/spot/ws") as socket:
            assert (await asyncio.wait_for(socket.receive(), 5)).type.name in ("CLOSE", "CLOSED", "CLOSING")


async def test_rest_routes_speak_as_documented(simulate):
    async with simulate(*VENUE) as sim:
        base = "/spot/api/v3/brokerage"
        _, _, body = await sim.get(f"{base}/market/products?product_type=SPOT&limit=1&offset=1")
        assert [one["product_id"] for one in body["products"]] == ["ETH-USDT"]
        _, _, body = await sim.get(f"{base}/market/product_book?product_id=BTC-USDT&limit=5")
        assert len(body["pricebook"]["bids"]) == 5
        status, _, body = await sim.get(f"{base}/market/product_book?product_id=NOT")
        assert (status, body["error"]) == (404, "NOT_FOUND")
        status, _, body = await sim.get(f"{base}/market/products/BTC-USDT/candles?start=1")
        assert status == 400
        _, _, body = await sim.get(f"{base}/market/products/BTC-USDT/ticker?limit=3")
        assert body["best_bid"] < body["best_ask"]
        _, _, body = await sim.get(f"{base}/time")
        assert body["epochMillis"].startswith(body["epochSeconds"])


async def test_futures_are_told_by_rest_alone(simulate):
    async with simulate("--venue", "coinbase", "--markets", "linear", "--symbols", "BTCUSDT") as sim:
        base = "/linear/api/v3/brokerage/market"
        _, _, body = await sim.get(f"{base}/products?product_type=FUTURE")
        details = body["products"][0]["future_product_details"]
        assert (details["contract_root_unit"], body["products"][0]["status"]) == ("BTC", "")
        _, _, body = await sim.get(f"{base}/products?product_type=SPOT")
        assert body["products"] == []
        assert (await sim.get(f"{base}/product_book?product_id=BTC-USDT"))[0] == 404
        async with sim.connect("/linear/ws") as socket:
            await ask(socket, "level2", "BTC-USDT")
            assert (await until(socket, lambda m: True))[-1]["type"] == "error"


async def test_who_asks_too_much_is_told_to_wait(simulate, monkeypatch):
    monkeypatch.setattr(rest, "BUDGET", (3, 60))
    async with simulate(*VENUE) as sim:
        statuses = [(await sim.get("/spot/api/v3/brokerage/time"))[0] for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]


@pytest.mark.parametrize("text", ["no json", '["x"]', '{"type":"more"}', '{"type":"subscribe","channel":"full"}'])
async def test_what_is_no_request_is_an_error(simulate, text):
    async with simulate(*VENUE) as sim, sim.connect("/spot/ws") as socket:
        await socket.send_str(text)
        assert (await until(socket, lambda m: True))[-1]["type"] == "error"
