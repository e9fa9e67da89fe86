"""What only futures have: coin-margined contracts, mark prices with funding, forced orders, changes of contracts."""

import asyncio
import contextlib
import itertools

import pytest

from market.times import HOUR
from simulator import funding
from simulator.events import Fill, Forced, Kline
from simulator.feeds import Wanted
from simulator.instruments import listing, named_in, names
from simulator.market import Market

pytestmark = pytest.mark.usefixtures("hurried")
START = 1_795_132_770_000_000
"""Half a minute before a full one."""
ALL = ("--markets", "spot,linear,inverse", "--symbols", "2")
LINEAR, INVERSE = "/linear/fapi/v1", "/inverse/dapi/v1"


async def wait_for(ws, stream, count=1):
    found = []
    while len(found) < count:
        message = await ws.receive_json()
        if message.get("stream") == stream:
            found.append(message["data"])
    return found


def watched(kind, period, interval="", seconds=65, rate=150.0, markets=("spot", "linear", "inverse")):
    """A market with one stream of `kind` a book, and its events."""
    market = Market(listing(list(markets), names(2), 1), 1, rate, START)
    for book in market.books:
        low = book.symbol.lower()
        market.watch(book.market, f"{low}@{kind}", Wanted(kind, low, period, interval=interval))
    return market, [e for now in range(START, START + seconds * 1_000_000, 20_000) for e in market.advance(now)]


@pytest.mark.parametrize(
    "market, symbol, name",
    [
        ("inverse", "BTCUSDT", "BTCUSD_PERP"),
        ("inverse", "ETHUSD_PERP", "ETHUSD_PERP"),
        ("linear", "BTCUSD_PERP", "BTCUSDT"),
        ("spot", "BTCFDUSD", "BTCFDUSD"),
    ],
)
def test_a_symbol_is_called_what_its_market_calls_it(market, symbol, name):
    assert named_in(market, symbol) == name
    assert [one.symbol for one in listing([market], [symbol, name], 1)] == [name]


async def test_coin_margined_contracts_are_listed_with_their_size(simulate):
    async with simulate(*ALL) as sim:
        rows = {row["symbol"]: row for row in (await sim.get(f"{INVERSE}/exchangeInfo"))[2]["symbols"]}
        assert rows.keys() == {"BTCUSD_PERP", "ETHUSD_PERP"}
        bitcoin = rows["BTCUSD_PERP"]
        assert (bitcoin["contractSize"], rows["ETHUSD_PERP"]["contractSize"]) == (100, 10)
        assert (bitcoin["pair"], bitcoin["marginAsset"], bitcoin["quoteAsset"]) == ("BTCUSD", "BTC", "USD")
        assert bitcoin["contractStatus"] == "TRADING"
        assert "status" not in bitcoin
        while not (trades := (await sim.get(f"{INVERSE}/trades?symbol=BTCUSD_PERP"))[2]):
            await asyncio.sleep(0.01)
        row = trades[0]
        assert row["qty"].isdigit()
        assert float(row["baseQty"]) == pytest.approx(int(row["qty"]) * 100 / float(row["price"]), abs=1e-8)
        async with sim.connect("/inverse/public/stream?streams=btcusd_perp@trade/btcusd_perp@bookTicker") as ws:
            trade = (await wait_for(ws, "btcusd_perp@trade"))[0]
            quote = (await wait_for(ws, "btcusd_perp@bookTicker"))[0]
        assert (trade["s"], trade["st"], quote["ps"], quote["st"]) == ("BTCUSD_PERP", 2, "BTCUSD", 2)
        async with sim.connect("/inverse/market/stream?streams=btcusd_perp@aggTrade") as ws:
            assert "nq" not in (await wait_for(ws, "btcusd_perp@aggTrade"))[0]


async def test_mark_prices_carry_the_predicted_rate_and_the_next_funding(simulate):
    async with simulate(*ALL) as sim, sim.connect("/linear/market/stream?streams=btcusdt@markPrice@1s") as ws:
        event = (await wait_for(ws, "btcusdt@markPrice@1s"))[0]
        truth = sim.truth().stream("linear", "btcusdt@markPrice@1s")[0]
        premium = (await sim.get(f"{LINEAR}/premiumIndex?symbol=BTCUSDT"))[2]
        assert event["e"] == "markPriceUpdate"
        assert (event["p"], event["i"], event["r"]) == (truth.mark, truth.index, truth.predicted_rate)
        assert (event["E"], event["T"]) == (truth.ts_event // 1000, truth.next_funding // 1000)
        assert event["T"] % (8 * 3_600_000) == 0
        assert 0 < event["T"] - event["E"] <= 8 * 3_600_000
        assert premium["nextFundingTime"] == event["T"]
        assert float(premium["markPrice"]) == pytest.approx(float(event["p"]), rel=0.01)
        assert abs(float(event["r"])) < 0.001
        assert len((await sim.get(f"{LINEAR}/premiumIndex"))[2]) == 2
        assert (await sim.get(f"{INVERSE}/premiumIndex?symbol=BTCUSD_PERP"))[2][0]["pair"] == "BTCUSD"


def test_the_prediction_ends_at_what_is_settled():
    at = funding.next_funding(START)
    assert abs(funding.predicted("x", at - 1) - funding.settled("x", at)) <= 1
    assert funding.next_funding(at) == at + 8 * HOUR
    assert funding.text(-25) == "-0.00000025"


async def test_settled_rates_are_paged_by_time_and_never_change(simulate):
    async with simulate(*ALL) as sim:
        path = f"{LINEAR}/fundingRate?symbol=BTCUSDT"
        newest = (await sim.get(f"{path}&limit=5"))[2]
        times = [row["fundingTime"] for row in newest]
        assert len(newest) == 5
        assert all(round((b - a) / 1000) == 8 * 3600 for a, b in itertools.pairwise(times))
        assert times[-1] * 1000 <= sim.hub.clock.now() + 5000
        assert (await sim.get(f"{path}&startTime={times[1]}&endTime={times[3]}"))[2] == newest[1:4]
        assert (await sim.get(f"{path}&startTime={times[1]}&limit=2"))[2] == newest[1:3]
        assert (await sim.get(f"{path}&endTime={times[3]}&limit=2"))[2] == newest[2:4]
        assert len((await sim.get(path))[2]) == 100
        assert {row["symbol"] for row in (await sim.get(f"{LINEAR}/fundingRate?limit=4"))[2]} == {"BTCUSDT", "ETHUSDT"}
        assert (await sim.get(f"{LINEAR}/fundingInfo"))[2] == []
        status, headers, _ = await sim.get(path)
        assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (200, "0")
        assert (await sim.get(f"{INVERSE}/fundingRate"))[2]["code"] == -1102
        assert "markPrice" not in (await sim.get(f"{INVERSE}/fundingRate?symbol=BTCUSD_PERP"))[2][0]
        assert (await sim.get(f"{path}&startTime=2&endTime=1"))[2]["code"] == -1023


async def test_open_interest_is_in_base_units_or_contracts(simulate):
    async with simulate(*ALL) as sim:
        linear = (await sim.get(f"{LINEAR}/openInterest?symbol=BTCUSDT"))[2]
        inverse = (await sim.get(f"{INVERSE}/openInterest?symbol=BTCUSD_PERP"))[2]
        assert linear.keys() == {"openInterest", "symbol", "time"}
        assert inverse.keys() == {"openInterest", "symbol", "time", "pair", "contractType"}
        assert inverse["openInterest"].isdigit()
        assert (await sim.get(f"{LINEAR}/openInterest"))[2]["code"] == -1102
        assert (await sim.get("/spot/api/v3/openInterest?symbol=BTCUSDT"))[0] == 404


async def test_a_forced_order_has_the_fields_of_its_market(simulate):
    async with simulate(*ALL) as sim, contextlib.AsyncExitStack() as stack:
        asked = [("linear", "BTCUSDT", "btcusdt@forceOrder"), ("inverse", "BTCUSD_PERP", "btcusd_perp@forceOrder")]
        sockets = [
            await stack.enter_async_context(sim.connect(f"/{market}/market/stream?streams={name}"))
            for market, _, name in asked
        ]
        for ws, (market, symbol, name) in zip(sockets, asked, strict=True):
            event = (await wait_for(ws, name))[0]
            order = event["o"]
            assert (event["e"], order["s"], "ps" in order) == ("forceOrder", symbol, market == "inverse")
            truth = sim.truth().stream(market, name)[0]
            assert (order["S"], order["p"], order["ap"], order["q"]) == (
                truth.side, truth.price, truth.avg_price, truth.qty,
            )  # fmt: skip
            assert (order["T"] * 1000, event["E"] * 1000) == (truth.ts_event, truth.ts_publish)


async def test_streams_of_all_contracts_tell_both_futures_markets_on_either_host(simulate):
    streams = "!markPrice@arr@1s/!forceOrder@arr"
    async with simulate(*ALL) as sim, sim.connect(f"/inverse/market/stream?streams={streams}") as ws:
        marks, orders = [], {}
        while not marks or len(orders) < 2:
            message = await ws.receive_json()
            if message["stream"] == "!forceOrder@arr":
                orders[message["data"]["st"]] = message["data"]
            else:
                marks = message["data"]
        assert {m["s"]: m["st"] for m in marks} == {"BTCUSDT": 1, "ETHUSDT": 1, "BTCUSD_PERP": 2, "ETHUSD_PERP": 2}
        assert orders[1]["ps"] == orders[1]["o"]["s"]
        told = sim.truth().stream("inverse", "!markPrice@arr@1s")[:4]
        assert {(e.market, e.symbol, e.sent) for e in told} == {
            (market, name, (1,))
            for market, names_ in (("linear", ("BTCUSDT", "ETHUSDT")), ("inverse", ("BTCUSD_PERP", "ETHUSD_PERP")))
            for name in names_
        }
        logged = {(e.symbol, e.ts_event, e.mark) for e in sim.truth().stream("inverse", "!markPrice@arr@1s")}
        assert {(m["s"], m["E"] * 1000, m["p"]) for m in marks} <= logged


def test_of_forced_orders_at_most_one_a_symbol_and_second_is_told():
    market, events = watched("liquidation", 1_000_000, seconds=10, rate=2500.0, markets=("linear", "inverse"))
    for book in market.books:
        mine = [e for e in events if isinstance(e, Forced) and e.book is book]
        assert 7 <= len(mine) <= 10
        assert book.forced.id > len(mine)
        assert {e.side for e in mine} == {"BUY", "SELL"}
        prices = {(e.ts, e.price) for e in events if isinstance(e, Fill) and e.book is book}
        assert all((e.ts, e.average) in prices for e in mine)


@pytest.mark.parametrize("interval", ["1m", "5m"])
def test_candles_form_and_close_once_and_equal_their_trades(interval):
    market, events = watched("kline", 250_000, interval, seconds=95 if interval == "1m" else 155)
    for book in market.books:
        mine = [e for e in events if isinstance(e, Kline) and e.book is book]
        fills = [e for e in events if isinstance(e, Fill) and e.book is book and e.condition == "MARKET"]
        closed = [e for e in mine if e.closed]
        assert len({e.id for e in closed}) == len(closed) == (2 if interval == "1m" else 1)
        assert all(e.ts >= e.end for e in closed)
        last = 0
        for event in mine:
            assert event.id >= last  # never back to an older candle
            last = event.id
        for event in closed:
            inside = [f for f in fills if event.id <= f.ts < event.end]
            assert event.count == len(inside)
            assert (event.first_id, event.last_id) == (inside[0].id, inside[-1].id)
            assert (event.open, event.close) == (inside[0].price, inside[-1].price)
            assert event.high == max((f.price for f in inside), key=float)
            assert event.low == min((f.price for f in inside), key=float)
            assert event.volume == book.qty(sum(f.lots for f in inside))
            assert event.bought == book.qty(sum(f.lots for f in inside if not f.maker))
            amount = sum(
                book.instrument.contract_size * f.lots / float(f.price)
                if book.market == "inverse"
                else float(f.qty) * float(f.price)
                for f in inside
            )
            assert float(event.amount) == pytest.approx(amount, rel=1e-5)
        forming = [e for e in mine if not e.closed]
        assert len(forming) > 20
        assert all(e.ts < e.end for e in forming)


def test_a_symbol_that_ended_closes_no_more_candles():
    market, _ = watched("kline", 250_000, "1m", seconds=5)
    gone = market.books[0]
    market.change(gone, "SETTLING", 0, START + 5_000_000, [])
    late = [e for now in range(START + 5_000_000, START + 65_000_000, 20_000) for e in market.advance(now)]
    closed = {e.book.symbol for e in late if isinstance(e, Kline) and e.closed and e.book.market == gone.market}
    assert closed == {book.symbol for book in market.books if book.market == gone.market} - {gone.symbol}


async def test_candle_frames_are_the_truths_and_the_rest_routes(simulate):
    name = "btcusdt@kline_1m"
    async with simulate(*ALL) as sim, sim.connect(f"/linear/market/stream?streams={name}") as ws:
        event = (await wait_for(ws, name, 2))[-1]
        truth = {(e.id, e.count, e.closed): e for e in sim.truth().stream("linear", name)}
        candle = event["k"]
        said = truth[candle["t"] * 1000, candle["n"], candle["x"]]
        assert (candle["o"], candle["h"], candle["l"], candle["c"]) == (said.open, said.high, said.low, said.close)
        assert (candle["v"], candle["q"], candle["V"], candle["Q"]) == (
            said.volume, said.amount, said.taker_volume, said.taker_amount,
        )  # fmt: skip
        assert candle["T"] == candle["t"] + 59_999
        rows = (await sim.get(f"{LINEAR}/klines?symbol=BTCUSDT&interval=1m"))[2]
        assert any(row[0] == candle["t"] and row[1] == candle["o"] and row[8] >= candle["n"] for row in rows)


async def test_spot_candles_of_a_second_close_every_second(simulate):
    name = "btcusdt@kline_1s"
    async with simulate(*ALL) as sim, sim.connect(f"/spot/stream?streams={name}") as ws:
        while not (event := (await wait_for(ws, name))[0])["k"]["x"]:
            pass
        assert event["k"]["T"] == event["k"]["t"] + 999


async def test_a_contracts_change_is_told_on_both_futures_hosts(simulate):
    async with simulate(*ALL) as sim:
        path = "market/stream?streams=!contractInfo"
        async with sim.connect(f"/linear/{path}") as one, sim.connect(f"/inverse/{path}") as two:
            body = {
                "market": "inverse",
                "symbol": "ETHUSD_PERP",
                "status": "SETTLING",
                "delivery": 1_800_000_000_000_000,
            }
            async with sim.http.post(f"http://{sim.host}/sim/contracts", json=body) as answer:
                assert answer.status == 200
            for ws in (one, two):
                event = (await wait_for(ws, "!contractInfo"))[0]
                assert (event["e"], event["s"], event["cs"], event["dt"], event["st"]) == (
                    "contractInfo", "ETHUSD_PERP", "SETTLING", 1_800_000_000_000, 2,
                )  # fmt: skip
        rows = (await sim.get(f"{INVERSE}/exchangeInfo"))[2]["symbols"]
        assert [row["contractStatus"] for row in rows] == ["TRADING", "SETTLING"]
        told = [e for host in ("linear", "inverse") for e in sim.truth().stream(host, "!contractInfo")]
        assert [(e.host, e.sent, e.status) for e in told] == [
            ("linear", (1,), "SETTLING"),
            ("inverse", (2,), "SETTLING"),
        ]


@pytest.mark.parametrize(
    "body, status",
    [
        ({"market": "linear", "symbol": "NOSUCH", "status": "CLOSE"}, 404),
        ({"market": "linear", "symbol": "BTCUSDT", "status": 'x"y'}, 400),
        ({"market": "linear"}, 400),
    ],
)
async def test_a_wrong_change_is_refused(simulate, body, status):
    async with simulate(*ALL) as sim, sim.http.post(f"http://{sim.host}/sim/contracts", json=body) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]
