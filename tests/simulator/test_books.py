"""Books: deltas chain by each market's rule, and applied to a snapshot they agree with the best quotes."""

import asyncio
import contextlib
import itertools

import pytest

from simulator.feeds import Wanted
from simulator.instruments import listing, names
from simulator.ladder import FEWEST, MOST
from simulator.market import Market

pytestmark = pytest.mark.usefixtures("hurried")
START = 1_795_132_800_000_000
PREFIX = {"spot": "/spot/api/v3", "linear": "/linear/fapi/v1", "inverse": "/inverse/dapi/v1"}
PUBLIC = {"spot": "/spot/stream", "linear": "/linear/public/stream", "inverse": "/inverse/public/stream"}
SYMBOL = {"spot": "BTCUSDT", "linear": "BTCUSDT", "inverse": "BTCUSD_PERP"}
ALL = ("--markets", "spot,linear,inverse", "--symbols", "2")


async def frames(ws, count, stream):
    """The next `count` payloads of a stream, and what came between."""
    found, others = [], []
    while len(found) < count:
        message = await ws.receive_json()
        if message.get("stream") == stream:
            found.append(message["data"])
        elif "stream" in message:
            others.append(message["data"])
    return found, others


class Client:
    """A reader's book: applies what it is sent."""

    def __init__(self, snapshot):
        self.id = snapshot["lastUpdateId"]
        self.sides = {name[0]: dict(snapshot[name]) for name in ("bids", "asks")}

    def apply(self, event):
        for side in "ba":
            for price, qty in event[side]:
                if float(qty):
                    self.sides[side][price] = qty
                else:
                    self.sides[side].pop(price, None)
        self.id = event["u"]

    def best(self):
        bid, ask = max(self.sides["b"], key=float), min(self.sides["a"], key=float)
        return bid, self.sides["b"][bid], ask, self.sides["a"][ask]

    def top(self, count):
        return (
            [[p, self.sides["b"][p]] for p in sorted(self.sides["b"], key=float, reverse=True)[:count]],
            [[p, self.sides["a"][p]] for p in sorted(self.sides["a"], key=float)[:count]],
        )


async def test_books_bridge_from_their_snapshots_and_agree_with_quotes_and_partial_depth(simulate):
    async with simulate(*ALL) as sim:
        await asyncio.gather(*(bridges(sim, market, SYMBOL[market]) for market in PUBLIC))


async def bridges(sim, market, symbol):
    low = symbol.lower()
    depth, partial = f"{low}@depth@100ms", f"{low}@depth20@100ms"
    async with sim.connect(f"{PUBLIC[market]}?streams={depth}/{partial}/{low}@bookTicker") as ws:
        early, others = await frames(ws, 2, depth)
        snapshot = (await sim.get(f"{PREFIX[market]}/depth?symbol={symbol}&limit=1000"))[2]
        later, more = await frames(ws, 6, depth)
        book, last = Client(snapshot), snapshot["lastUpdateId"]
        while later[-4]["u"] <= last:  # on a busy machine they lag behind the answer
            later, more = later + (next_ := await frames(ws, 1, depth))[0], more + next_[1]
        quotes = {m["u"]: (m["b"], m["B"], m["a"], m["A"]) for m in others + more if "A" in m}
        if market == "spot":
            tops = {m["lastUpdateId"]: (m["bids"], m["asks"]) for m in others + more if "lastUpdateId" in m}
            rest = [e for e in early + later if e["u"] > last]
            assert rest[0]["U"] <= last + 1 <= rest[0]["u"]
            assert all(b["U"] == a["u"] + 1 for a, b in itertools.pairwise(early + later))
        else:
            tops = {m["u"]: (m["b"], m["a"]) for m in others + more if m.get("e") == "depthUpdate"}
            rest = [e for e in early + later if e["u"] >= last]
            assert rest[0]["U"] <= last <= rest[0]["u"] or rest[0]["pu"] == last
            assert all(b["pu"] == a["u"] < b["U"] <= b["u"] for a, b in itertools.pairwise(early + later))
        agreed = 0
        for event in rest:
            book.apply(event)
            if book.id in quotes:
                assert book.best() == quotes[book.id]
                agreed += 1
            if book.id in tops:
                assert book.top(20) == tops[book.id]
        assert agreed >= len(rest) - 1
        logged = {e.id: e for e in sim.truth().stream(market, depth)}
        for event in early + later:
            truth = logged[event["u"]]
            assert [list(level) for level in truth.bids] == event["b"]
            assert [list(level) for level in truth.asks] == event["a"]
            assert (truth.kind, len(truth.sent)) == ("book_delta", 1)
            assert (truth.first_id, truth.previous_id) == (event["U"], event.get("pu", event["U"] - 1))
            assert truth.ts_event <= truth.ts_publish
        assert (market, symbol, last, 1000) in [
            (d.market, d.symbol, d.last_update_id, d.limit) for d in sim.truth().depths
        ]


async def test_partial_depth_has_the_fields_of_its_market_and_exactly_its_levels(simulate):
    async with simulate(*ALL) as sim:
        for market, path in PUBLIC.items():
            low = SYMBOL[market].lower()
            for levels in (5, 10, 20):
                name = f"{low}@depth{levels}@100ms"
                async with sim.connect(f"{path}?streams={name}") as ws:
                    event = (await frames(ws, 1, name))[0][0]
                bids, asks = (event["bids"], event["asks"]) if market == "spot" else (event["b"], event["a"])
                assert (len(bids), len(asks)) == (levels, levels)
                assert [float(p) for p, _ in bids] == sorted((float(p) for p, _ in bids), reverse=True)
                assert float(bids[0][0]) < float(asks[0][0])
                assert event.keys() == (
                    {"lastUpdateId", "bids", "asks"}
                    if market == "spot"
                    else {"e", "E", "T", "s", "U", "u", "pu", "b", "a", "ps", "st"}
                )


@pytest.mark.parametrize(
    "path, weights",
    [
        ("spot", {"": 5, "&limit=100": 5, "&limit=101": 25, "&limit=1000": 50, "&limit=5000": 250}),
        ("linear", {"": 10, "&limit=5": 2, "&limit=50": 2, "&limit=100": 5, "&limit=1000": 20}),
        ("inverse", {"": 10, "&limit=20": 2, "&limit=100": 5, "&limit=500": 10, "&limit=1000": 20}),
    ],
)
async def test_snapshots_cost_their_documented_weight(simulate, path, weights):
    async with simulate(*ALL) as sim:
        used = 0
        for limit, weight in weights.items():
            status, headers, body = await sim.get(f"{PREFIX[path]}/depth?symbol={SYMBOL[path]}{limit}")
            assert status == 200
            new = int(headers["X-MBX-USED-WEIGHT-1M"])
            assert new - used in (weight, weight - used)  # the second: a new minute began
            used = new
            assert len(body["bids"]) <= int(limit.partition("=")[2] or (100 if path == "spot" else 500))
        if path != "spot":
            assert (await sim.get(f"{PREFIX[path]}/depth?symbol={SYMBOL[path]}&limit=7"))[2]["code"] == -1130


async def test_linear_and_inverse_share_one_budget_and_spot_has_its_own(simulate):
    async with simulate(*ALL) as sim:
        await sim.get(f"{PREFIX['linear']}/depth?symbol=BTCUSDT&limit=1000")
        assert (await sim.get(f"{PREFIX['inverse']}/ping"))[1]["X-MBX-USED-WEIGHT-1M"] in ("21", "1")
        assert (await sim.get(f"{PREFIX['spot']}/ping"))[1]["X-MBX-USED-WEIGHT-1M"] == "1"


async def test_a_dropped_delta_is_a_lost_update_that_breaks_the_chain_once(simulate):
    async with simulate(*ALL) as sim:
        await asyncio.gather(*(loses(sim, market) for market in ("spot", "linear")))


def chained(got):
    """Whether each update follows the one before it."""
    return [(b["pu"] if "pu" in b else b["U"] - 1) == a["u"] for a, b in itertools.pairwise(got)]


async def loses(sim, market):
    name = "btcusdt@depth@100ms"
    async with sim.connect(f"{PUBLIC[market]}?streams={name}") as ws:
        got, _ = await frames(ws, 1, name)
        await sim.fault(fault="drop_ids", market=market, symbol="BTCUSDT", kind="book_delta", count=2)
        links = [True]
        while all(links) and len(got) < 200:  # what was on its way when the fault began comes whole
            got += (await frames(ws, 1, name))[0]
            links = chained(got)
        got += (await frames(ws, 3, name))[0]
        links = chained(got)
        assert links.count(False) == 1
        lost = [e for e in sim.truth().stream(market, name) if e.dropped]
        at = links.index(False)
        assert [list(e.dropped.values()) for e in lost] == [["drop_ids"]] * 2
        assert (lost[0].previous_id, lost[-1].id) == (
            got[at]["u"],
            got[at + 1].get("pu", got[at + 1]["U"] - 1),
        )


async def test_duplicated_and_reordered_deltas_come_so(simulate):
    name = "btcusdt@depth@100ms"
    async with simulate(*ALL) as sim, sim.connect(f"{PUBLIC['linear']}?streams={name}") as ws:
        await frames(ws, 1, name)

        async def during(fault):
            await sim.fault(fault=fault, market="linear", kind="book_delta", symbol="BTCUSDT")
            while sim.hub.faults:
                await asyncio.sleep(0.01)
            last, got = sim.truth().stream("linear", name)[-1].id, [0]
            while got[-1] <= last:  # what was on its way
                got += [e["u"] for e in (await frames(ws, 1, name))[0]]
            return got + [e["u"] for e in (await frames(ws, 2, name))[0]]

        got = await during("duplicate_ids")
        assert len(got) - len(set(got)) == 1
        got = await during("reorder_ids")
        assert sum(a > b for a, b in itertools.pairwise(got)) == 1


async def test_a_stream_goes_on_being_written_down_while_nobody_is_connected(simulate):
    name = "btcusdt@depth@100ms"
    async with simulate(*ALL) as sim:
        async with sim.connect(f"{PUBLIC['spot']}?streams={name}") as ws:
            last = (await frames(ws, 1, name))[0][-1]
        async with sim.connect(f"{PUBLIC['spot']}?streams=ethusdt@depth@100ms") as ws:
            await frames(ws, 3, "ethusdt@depth@100ms")
        async with sim.connect(f"{PUBLIC['spot']}?streams={name}") as ws:
            first = (await frames(ws, 1, name))[0][0]
        events = sim.truth().stream("spot", name)
        missed = [e for e in events if last["u"] < e.id < first["u"] and not e.sent]
        assert missed
        assert missed[-1].id + 1 == first["U"]
        assert all(b.previous_id == a.id for a, b in itertools.pairwise(events))


UNSERVED = [
    ("/spot/stream", "btcusdt@depth@500ms"),
    ("/spot/stream", "nosuchusdt@depth@100ms"),
    ("/spot/stream", "BTCUSDT@depth@100ms"),
    ("/spot/stream", "btcusdt@markPrice"),
    ("/spot/stream", "btcusdt@forceOrder"),
    ("/linear/market/stream", "btcusdt@depth@100ms"),
    ("/linear/public/stream", "btcusdt@markPrice@1s"),
    ("/linear/public/stream", "btcusdt@kline_1m"),
    ("/linear/stream", "btcusdt@kline_1m"),
    ("/linear/public/stream", "!contractInfo"),
    ("/linear/market/stream", "btcusdt@kline_1s"),
    ("/inverse/market/stream", "btcusd_perp@depth20@100ms"),
    ("/inverse/public/stream", "btcusd_perp@markPrice@1s"),
    ("/inverse/stream", "btcusd_perp@aggTrade"),
]


async def test_what_is_not_served_is_acknowledged_and_silent(simulate):
    async with simulate(*ALL) as sim, contextlib.AsyncExitStack() as stack:
        silent = []
        for path, stream in UNSERVED:
            ws = await stack.enter_async_context(sim.connect(path))
            await ws.send_json({"method": "SUBSCRIBE", "params": [stream], "id": 1})
            assert await ws.receive_json() == {"result": None, "id": 1}
            silent.append(ws)
        async with sim.connect("/spot/stream?streams=btcusdt@depth@100ms") as other:
            await frames(other, 3, "btcusdt@depth@100ms")
        for ws, (path, stream) in zip(silent, UNSERVED, strict=True):
            with pytest.raises(TimeoutError):
                raise AssertionError((path, stream, await ws.receive(timeout=0.005)))


# -- the market itself, without sockets --------------------------------------------------------------------------------


def run(seed, step, seconds=3, rate=2000.0):
    """The events of a market with a delta, a partial and a mark stream a book."""
    market = Market(listing(["spot", "linear", "inverse"], names(3), seed), seed, rate, START)
    for book in market.books:
        for kind, period, levels in (("book_delta", 100_000, 0), ("book_snapshot", 250_000, 10)):
            name = f"{book.symbol.lower()}@{kind}"
            assert market.watch(book.market, name, Wanted(kind, book.symbol.lower(), period, levels))
    events = []
    for now in range(START, START + seconds * 1_000_000 + 1, step):
        events += market.advance(now)
    return market, events


def test_the_same_seed_gives_the_same_windows_however_the_clock_ticks():
    def told(events):
        return [(type(e).__name__, e.book.tag, e.id, e.told() if hasattr(e, "told") else "") for e in events]

    one, two, other = (told(run(seed, step)[1]) for seed, step in ((1, 20_000), (1, 37_000), (2, 20_000)))
    shared = min(len(one), len(two))
    assert shared > 5000
    assert one[:shared] == two[:shared]
    assert one[:shared] != other[:shared]


def test_a_ladder_stays_sorted_uncrossed_and_of_a_bounded_size():
    market, _ = run(1, 20_000, rate=20_000.0)
    for book in market.books:
        bids, asks = book.ladder.bids, book.ladder.asks
        assert bids.ticks == sorted(bids.text)
        assert asks.ticks == sorted(asks.text)
        assert bids.ticks[-1] == book.bid
        assert asks.ticks[0] == book.bid + book.spread
        assert bids.text[book.bid] == f'["{book.top.bid}","{book.top.bid_qty}"]'
        assert bids.ticks[0] > 0
        for side in (bids, asks):
            assert FEWEST - 10 <= len(side.ticks) <= MOST + 1


def test_a_stream_of_an_unknown_symbol_cannot_begin():
    market = Market(listing(["spot"], ["BTCUSDT"], 1), 1, 1.0, START)
    assert not market.watch("spot", "x@depth", Wanted("book_delta", "x", 100_000))
    with pytest.raises(ValueError, match="no feed"):
        market.watch("spot", "btcusdt@x", Wanted("x", "btcusdt", 100_000))
