"""Binance's REST side: pages, bounds, weights, bans and error bodies as documented."""

import asyncio

import pytest

SPOT, LINEAR = "/spot/api/v3", "/linear/fapi/v1"


async def filled(sim, trades=300):
    """Wait until BTCUSDT of both markets has some history."""
    books = [b for b in sim.hub.market.books if b.symbol == "BTCUSDT"]
    while min(len(b.trades) for b in books) < trades:
        await asyncio.sleep(0.01)
    return {b.market: b for b in books}


async def test_time_is_the_shifted_clock(simulate):
    async with simulate("--clock-offset-us", "-3600000000") as sim:
        (_, _, body), now = await sim.get(f"{SPOT}/time"), sim.hub.clock.now()
        assert 0 <= now // 1000 - body["serverTime"] < 5000
        assert (
            len(str((await sim.get(f"{SPOT}/time", headers={"X-MBX-TIME-UNIT": "MICROSECOND"}))[2]["serverTime"])) == 16
        )


async def test_exchange_info_lists_what_trades(simulate):
    async with simulate() as sim:
        spot = (await sim.get(f"{SPOT}/exchangeInfo"))[2]
        assert [s["symbol"] for s in spot["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
        filters = {f["filterType"]: f for f in spot["symbols"][0]["filters"]}
        assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.01000000", "0.00001000")
        one = (await sim.get(f'{SPOT}/exchangeInfo?symbols=["ETHUSDT"]'))[2]
        assert [s["symbol"] for s in one["symbols"]] == ["ETHUSDT"]
        assert (await sim.get(f'{SPOT}/exchangeInfo?symbols=["ETHUSDT","NO"]'))[2]["code"] == -1121
        linear = (await sim.get(f"{LINEAR}/exchangeInfo"))[2]
        assert {s["contractType"] for s in linear["symbols"]} == {"PERPETUAL"}
        assert {s["deliveryDate"] for s in linear["symbols"]} == {4133404800000}


async def test_trades_page_by_id_and_equal_the_stream(simulate):
    async with simulate("--rate", "12000") as sim:
        book = (await filled(sim))["spot"]
        first = book.trades[0].id
        page = (await sim.get(f"{SPOT}/historicalTrades?symbol=BTCUSDT&fromId={first + 10}&limit=50"))[2]
        assert [t["id"] for t in page] == list(range(first + 10, first + 60))
        newest = (await sim.get(f"{SPOT}/trades?symbol=BTCUSDT&limit=5"))[2]
        assert len(newest) == 5
        logged = sim.truth().of("trade", "spot", "BTCUSDT")
        for row in page + newest:
            event = logged[row["id"]]
            assert (row["price"], row["qty"], row["time"] * 1000) == (event.price, event.qty, event.ts_event)
            assert float(row["quoteQty"]) == pytest.approx(float(row["price"]) * float(row["qty"]))


async def test_linear_history_wants_a_key_and_leaves_out_non_market_prints(simulate):
    async with simulate("--rate", "12000") as sim:
        await filled(sim)
        path = f"{LINEAR}/historicalTrades?symbol=BTCUSDT"
        assert (await sim.get(path))[0] == 401
        rows = (await sim.get(path, headers={"X-MBX-APIKEY": "any"}))[2]
        assert len(rows) == 100
        logged = sim.truth().of("trade", "linear", "BTCUSDT")
        assert {logged[row["id"]].condition for row in rows} == {"MARKET"}


async def test_the_best_prices_are_the_books(simulate):
    async with simulate("--rate", "1", "--markets", "spot,linear,inverse") as sim:
        for path, name in ((SPOT, "BTCUSDT"), (LINEAR, "BTCUSDT"), ("/inverse/dapi/v1", "BTCUSD_PERP")):
            before = (await sim.get(f"{path}/depth?symbol={name}&limit=5"))[2]
            said = (await sim.get(f"{path}/ticker/bookTicker?symbol={name}"))[2]
            after = (await sim.get(f"{path}/depth?symbol={name}&limit=5"))[2]
            (best,) = said if path.startswith("/inverse") else [said]
            told = [[best["bidPrice"], best["bidQty"]], [best["askPrice"], best["askQty"]]]
            assert told in [[book["bids"][0], book["asks"][0]] for book in (before, after)]
        assert (await sim.get(f"{SPOT}/ticker/bookTicker?symbol=NO"))[2]["code"] == -1121


async def test_aggregates_follow_the_paging_rules(simulate):
    async with simulate("--rate", "12000") as sim:
        book = (await filled(sim))["spot"]
        held = list(book.aggregates)[:100]
        path = f"{SPOT}/aggTrades?symbol=BTCUSDT"
        by_id = (await sim.get(f"{path}&fromId={held[5].id}&limit=10"))[2]
        assert [row["a"] for row in by_id] == [one.id for one in held[5:15]]
        start, end = held[20].ts // 1000, held[40].ts // 1000
        between = (await sim.get(f"{path}&startTime={start}&endTime={end}"))[2]
        assert [row["a"] for row in between] == [one.id for one in book.aggregates if start <= one.ts // 1000 <= end]
        up_to = (await sim.get(f"{path}&endTime={end}&limit=3"))[2]
        assert [row["a"] for row in up_to] == [row["a"] for row in between][-3:]
        linear = f"{LINEAR}/aggTrades?symbol=BTCUSDT"
        assert (await sim.get(f"{linear}&fromId=1&startTime={start}"))[2]["code"] == -1128
        assert (await sim.get(f"{linear}&startTime=0&endTime=3600000"))[2]["code"] == -1127
        assert "nq" in (await sim.get(linear))[2][0]


async def test_klines_are_the_fold_of_the_trades(simulate):
    async with simulate("--rate", "1200") as sim:  # some seconds of trades are kept
        book = (await filled(sim, 50))["spot"]
        while len(rows := (await sim.get(f"{SPOT}/klines?symbol=BTCUSDT&interval=1s"))[2]) < 2:
            await asyncio.sleep(0.01)
        row = rows[-2]  # the last candle may still grow
        mine = [t for t in book.trades if row[0] <= t.ts // 1000 <= row[6]]
        assert (row[1], row[4], row[8]) == (mine[0].price, mine[-1].price, len(mine))
        assert float(row[5]) == pytest.approx(sum(float(t.qty) for t in mine))
        assert float(row[7]) == pytest.approx(sum(float(t.qty) * float(t.price) for t in mine))
        assert row[6] == row[0] + 999
        assert (await sim.get(f"{SPOT}/klines?symbol=BTCUSDT&interval=7m"))[2]["code"] == -1120
        assert (await sim.get(f"{LINEAR}/klines?symbol=BTCUSDT&interval=1s"))[2]["code"] == -1120
        assert len((await sim.get(f"{LINEAR}/klines?symbol=BTCUSDT&interval=1h"))[2]) in (1, 2)


@pytest.mark.parametrize(
    "query, code",
    [("", -1102), ("?symbol=NOSUCH", -1121), ("?symbol=BTCUSDT&limit=x", -1100), ("?symbol=BTCUSDT&limit=0", -1130)],
)
async def test_bad_parameters_have_the_documented_codes(simulate, query, code):
    async with simulate() as sim:
        status, _, body = await sim.get(f"{SPOT}/trades{query}")
        assert (status, body["code"]) == (400, code)


async def test_weights_are_told_and_who_goes_on_after_429_is_banned(simulate):
    async with simulate() as sim:
        assert (await sim.get(f"{LINEAR}/klines?symbol=BTCUSDT&interval=1m&limit=1500"))[1][
            "X-MBX-USED-WEIGHT-1M"
        ] == "10"
        assert (await sim.get(f"{SPOT}/klines?symbol=BTCUSDT&interval=1m"))[1]["X-MBX-USED-WEIGHT-1M"] == "2"
        key = {"X-MBX-APIKEY": "any"}
        seen = [(await sim.get(f"{LINEAR}/historicalTrades?symbol=BTCUSDT", headers=key))[:2] for _ in range(25)]
        statuses = [status for status, _ in seen]
        assert 429 in statuses
        assert statuses[-1] == 418
        assert all(int(headers["Retry-After"]) > 0 for status, headers in seen if status != 200)
        assert (await sim.get(f"{SPOT}/time"))[0] == 200
