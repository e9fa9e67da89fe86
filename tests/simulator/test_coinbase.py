"""Coinbase's twin: what subscriptions begin with, the numbers of messages, its answers and REST routes."""

import asyncio
import json

import pytest

from collectors import exchanges
from market.kinds import KIND_OF_EVENT, BookDelta, Event, Trade
from market.session import Send
from simulator.venues.coinbase import rest, stream
from tests.support.told import until

VENUE = ("--venue", "coinbase", "--markets", "spot", "--symbols", "BTCUSDT,ETHUSDT")


async def ask(socket, channel, *products, what="subscribe"):
    named = {"product_ids": list(products)} if products else {}
    await socket.send_str(json.dumps({"type": what, "channel": channel, **named}))


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
        await sim.fault(fault="drop_ids", market="spot", kind="book_delta", symbol="BTC-USDT", count=1)
        last = found[-1]["sequence_num"]
        while (number := (await until(socket, lambda m: True))[-1]["sequence_num"]) == last + 1:
            last = number
        assert number == last + 2
        await ask(socket, "level2", "BTC-USDT", what="unsubscribe")
        assert listed((await until(socket, lambda m: listed(m) is not None))[-1]) == {}


async def test_too_many_books_and_no_subscription_close_the_socket(simulate, monkeypatch):
    monkeypatch.setattr(stream, "BOOKS", 1)
    async with simulate(*VENUE) as sim:
        async with sim.connect("/spot/ws") as socket:
            await ask(socket, "level2", "BTC-USDT", "ETH-USDT")
            said = await until(socket, lambda m: m.get("type") == "error")
            assert said[-1]["message"] == "too many L2 streams requested in a single session"
            assert (await socket.receive()).type.name in ("CLOSE", "CLOSED", "CLOSING")
        monkeypatch.setattr(stream, "FIRST_WITHIN", 0.2)
        async with sim.connect("/spot/ws") as socket:
            assert (await socket.receive()).type.name in ("CLOSE", "CLOSED", "CLOSING")


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
        wide = f"granularity=ONE_MINUTE&start=0&end={350 * 60}"
        status, _, body = await sim.get(f"{base}/market/products/BTC-USDT/candles?{wide}")
        assert (status, "less than 350" in body["message"]) == (400, True)
        (book,) = (one for one in sim.hub.market.books if one.symbol == "BTC-USDT")
        while len(book.trades) < 3:
            await asyncio.sleep(0.05)
        newest = list(book.trades)[-1].id
        _, headers, body = await sim.get(f"/spot/products/BTC-USDT/trades?limit=2&after={newest}")
        assert [one["trade_id"] for one in body] == [newest - 1, newest - 2]
        assert (headers["CB-BEFORE"], headers["CB-AFTER"]) == (str(newest - 1), str(newest - 2))
        assert (await sim.get("/spot/products/NOT/trades"))[0] == 404
        _, _, body = await sim.get(f"{base}/market/products/BTC-USDT/ticker?limit=3")
        assert body["best_bid"] < body["best_ask"]
        _, _, body = await sim.get(f"{base}/time")
        assert body["epochMillis"].startswith(body["epochSeconds"])


async def test_futures_are_told_as_spot_is_beside_what_rest_says_of_their_contracts(simulate):
    async with simulate("--venue", "coinbase", "--markets", "linear", "--symbols", "BTCUSDT") as sim:
        base = "/linear/api/v3/brokerage/market"
        _, _, body = await sim.get(f"{base}/products?product_type=FUTURE")
        details = body["products"][0]["future_product_details"]
        assert (details["contract_root_unit"], body["products"][0]["status"]) == ("BTC", "")
        _, _, body = await sim.get(f"{base}/products?product_type=SPOT")
        assert body["products"] == []
        assert (await sim.get(f"{base}/product_book?product_id=BTC-USDT&limit=5"))[0] == 200
        async with sim.connect("/linear/ws") as socket:
            await ask(socket, "level2", "BTC-USDT")
            found = await until(socket, lambda m: m["channel"] == "l2_data")
            assert found[-1]["events"][0]["type"] == "snapshot"
            await request(socket, "subscribe", ["BTC-USDT"], "matches")
            assert (await until(socket, lambda m: m.get("type") == "error"))[-1]["reason"] == "not a spot product"


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


async def request(socket, what, products, *channels):
    await socket.send_str(json.dumps({"type": what, "product_ids": products, "channels": channels}))


async def test_the_older_feed_tells_the_same_market_in_its_own_words(simulate):
    async with simulate(*VENUE, "--rate", "400") as sim, sim.connect("/spot/ws") as socket:
        while not all(book.trades for book in sim.hub.market.books):
            await asyncio.sleep(0.05)
        await request(socket, "subscribe", ["BTC-USDT"], "matches", "level2_batch", {"name": "ticker"}, "heartbeat")
        found = await until(socket, lambda m: m["type"] == "heartbeat")
        assert {one["type"] for one in found} == {
            "subscriptions", "last_match", "match", "ticker", "snapshot", "l2update", "heartbeat",
        }  # fmt: skip
        assert found[0]["channels"] == [
            {"name": name, "product_ids": ["BTC-USDT"], "account_ids": None}
            for name in ("matches", "level2_50", "ticker", "heartbeat")
        ]
        assert not any("sequence_num" in one for one in found)
        ids = [one["trade_id"] for one in found if one["type"] in ("last_match", "match")]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert found[-1]["last_trade_id"] == ids[-1]
        assert all("time" not in one for one in found if one["type"] == "snapshot")
        await request(socket, "unsubscribe", ["BTC-USDT"], "level2_batch")
        (*_, answer) = await until(socket, lambda m: m["type"] == "subscriptions")
        assert [one["name"] for one in answer["channels"]] == ["matches", "ticker", "heartbeat"]


@pytest.mark.parametrize(
    "products,channels,reason",
    [(["BTC-USDT"], ["full"], "full requires authentication"), (["NOT-USDT"], ["matches"], "NOT-USDT is not a valid"),
     (["BTC-USDT"], ["level1"], "level1 is not a valid channel")],
)  # fmt: skip
async def test_what_the_older_feed_does_not_serve_without_a_key_is_refused(simulate, products, channels, reason):
    async with simulate(*VENUE) as sim, sim.connect("/spot/ws") as socket:
        await request(socket, "subscribe", products, *channels)
        (error,) = await until(socket, lambda m: True)
        assert (error["type"], error["message"]) == ("error", "Failed to subscribe")
        assert error["reason"].startswith(reason)


async def test_our_session_reads_the_older_feed_of_the_twin(simulate):
    venue = exchanges.load("coinbase")
    channels = {"trade": "exchange.matches", "quote": "exchange.ticker", "book_delta": "exchange.level2_batch"}
    streams = venue.streams("spot", list(channels), ["BTC-USDT", "ETH-USDT"], channels)
    (plan,) = venue.connections("spot", streams, venue.ENDPOINTS["spot"])
    session, events, said = venue.session(plan, "n-1-1"), [], []
    async with simulate(*VENUE, "--rate", "400") as sim, sim.connect("/spot/ws") as socket:
        out = session.start(sim.hub.clock.now())
        while session.books_out_of_sync() or len(events) < 300:
            for one in out:
                said.append(type(one).__name__)
                if isinstance(one, Send):
                    await socket.send_str(one.text)
            events += [one for one in out if isinstance(one, Event)]
            frame = (await asyncio.wait_for(socket.receive(), 60)).data
            now = sim.hub.clock.now()
            out = [*session.receive(frame.encode(), now), *session.tick(now)]
        assert "Rejected" not in said
        assert {KIND_OF_EVENT[type(one)] for one in events} == set(channels)
        fills = {fill.id: fill for book in sim.hub.market.books for fill in book.trades if book.symbol == "BTC-USDT"}
        mine = [one for one in events if isinstance(one, Trade) and one.symbol == "BTC-USDT" and one.seq in fills]
        assert len(mine) > 5
        told = {one.seq: (one.price, one.qty, one.side) for one in mine}
        assert told == {
            number: (fills[number].price, fills[number].qty, "sell" if fills[number].maker else "buy")
            for number in told
        }
    for symbol in ("BTC-USDT", "ETH-USDT"):
        rows = [one for one in events if isinstance(one, BookDelta) and one.symbol == symbol]
        assert [row.prev_id for row in rows[1:]] == [row.last_id for row in rows[:-1]]
        assert [row.flags for row in rows] == [("snapshot",), *[()] * (len(rows) - 1)]
