"""The drift radar in its pipeline: messages as Bybit and OKX send them, and as they would be after a change."""

import datetime as dt
import json
import pathlib
from collections import Counter

import msgspec
import pytest

from collectors import drifted, exchanges
from collectors.config import CollectorsConfig, EndpointConfig, SourceConfig
from collectors.drift import A_LOOK, CONFIRMED, EVERY, FIRST, MOST_FRAME, WAITING, Drift
from collectors.intake import Intake, Pass
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from collectors.writing import GroupCommit
from lake.writer import LakeWriter
from market.described import Sunset
from market.kinds import Contract
from market.session import Connection, Fetch, Polled
from market.times import DAY, SECOND
from runtime import drifting
from simulator.drifting import drifted as changed

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "exchanges"
T0 = 1_785_701_708_000_000
SYMBOLS = {"bybit": "BTCUSDT", "okx": "BTC-USDT-SWAP"}


def trade(venue, number, at):
    """One fill of the perpetual, `at` us."""
    time = at // 1000
    if venue == "bybit":
        fill = {"i": f"id-{number}", "T": time, "p": "63000.5", "v": "0.001", "S": "Buy", "seq": number,
                "s": "BTCUSDT", "BT": False, "RPI": False, "L": "PlusTick"}  # fmt: skip
        return {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": time, "data": [fill]}
    fill = {"instId": "BTC-USDT-SWAP", "tradeId": str(number), "px": "63000.5", "sz": "13", "side": "buy",
            "source": "0", "ts": str(time)}  # fmt: skip
    return {"arg": {"channel": "trades-all", "instId": "BTC-USDT-SWAP"}, "data": [fill]}


def liquidation(at):
    item = {"T": at // 1000, "s": "BTCUSDT", "S": "Sell", "v": "20000", "p": "0.04499", "new": 1}
    return {"topic": "allLiquidation.BTCUSDT", "type": "snapshot", "ts": at // 1000, "data": [item]}


class Bench:
    """A pipeline with a radar and one session that is being read."""

    def __init__(self, venue="bybit", kinds=("trade",)):
        adapter = exchanges.load(venue)
        self.venue, self.now, self.number = venue, T0, 0
        self.intake = Intake(CollectorsConfig(node="n").writing)
        self.pipeline = Pipeline(venue, "linear", self.intake, merger_maker(adapter, "linear"))
        self.radar = self.pipeline.radar = drifted.radar(adapter, "linear", self.pipeline.contracts)
        known = FIXTURES / venue / "linear" / "contracts.known"
        for line in known.read_bytes().splitlines() if known.is_file() else ():
            contract = msgspec.json.decode(line, type=Contract)
            self.pipeline.contracts[contract.symbol] = contract
        streams = adapter.streams("linear", kinds, [SYMBOLS[venue]])
        session = adapter.session(Connection(venue, "linear", "x", "wss://x", tuple(streams)), "n-1-1")
        self.link, _ = self.pipeline.open(session, name="x", source="ws", url="wss://x", now=T0)
        self.tick()

    def send(self, *frames):
        """Frames that are read together."""
        self.now += SECOND // 10
        sent = [one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode() for one in frames]
        self.pipeline.receive(self.link, sent, self.now)

    def trades(self, count, form="", field=None):
        """So many fills, each in a batch of its own, changed as the simulator's fault `drift` does it."""
        for _ in range(count):
            self.number += 1
            text = json.dumps(trade(self.venue, self.number, self.now), separators=(",", ":"))
            self.send((changed(text, form, field) if form else text).encode())
            self.look()

    def look(self):
        self.pipeline.advance(self.now)

    def tick(self):
        self.pipeline.tick(self.link, self.now)

    def notes(self):
        """(change, path) of what was told since the last time."""
        told = [note["drift"] for note in self.intake.collect(self.now).notes]
        return [(one["message"], one["change"], one["path"]) for one in told]


@pytest.fixture(params=["bybit", "okx"])
def bench(request):
    return Bench(request.param)


def message(bench):
    return {"bybit": "publicTrade", "okx": "trades-all"}[bench.venue]


def added(bench):
    """What is told of the simulator's fault of that name."""
    paths = {"bybit": ["data[].drifted"], "okx": ["arg.drifted", "data[].drifted"]}[bench.venue]
    return [(message(bench), "added", path) for path in paths]


def test_messages_as_described_are_compared_and_nothing_is_told(bench):
    bench.trades(10)
    assert bench.notes() == []
    assert bench.radar.seen == {message(bench): FIRST}
    assert bench.radar.status()["changes"] == []


def test_an_added_field_is_told_once_counted_on_and_loses_nothing(bench):
    bench.trades(20, "added")
    assert bench.notes() == added(bench)
    assert bench.pipeline.totals.events == {"trade": 20}
    assert not bench.pipeline.totals.rejected
    bench.now += EVERY
    bench.tick()
    bench.trades(2, "added")
    assert bench.notes() == []
    told = bench.radar.status()["changes"]
    assert [one["path"] for one in told] == [path for _, _, path in added(bench)]
    assert all(CONFIRMED < one["messages"] < 2 * CONFIRMED for one in told)


def test_a_change_in_the_middle_of_a_session_is_seen_within_a_minute(bench):
    bench.trades(FIRST + 5)
    bench.trades(5, "added")
    assert bench.notes() == [], "nobody looks at this moment"
    bench.now += EVERY
    bench.tick()
    bench.trades(CONFIRMED, "added")
    assert bench.notes() == added(bench), "once seen, the next frames are looked at"


@pytest.mark.parametrize("form, change", [("renamed", "missing"), ("removed", "missing")])
def test_a_field_that_parsers_need_is_told_from_the_frames_that_they_refuse(bench, form, change):
    field = {"bybit": "p", "okx": "px"}[bench.venue]
    bench.trades(10, form, field)
    told = bench.notes()
    assert (message(bench), change, f"data[].{field}") in told
    assert ((message(bench), "added", f"data[].{field}_drifted") in told) is (form == "renamed")
    assert bench.pipeline.totals.rejected.total() == 10


def test_an_optional_field_that_is_gone_is_told_though_every_row_is_stored():
    bench = Bench("bybit")
    bench.trades(10, "removed", "BT")
    assert bench.notes() == [("publicTrade", "missing", "data[].BT")]
    assert bench.pipeline.totals.events == {"trade": 10}


def test_times_in_another_unit_are_told_and_not_taken_for_the_year_58000(bench):
    field = {"bybit": "T", "okx": "ts"}[bench.venue]
    bench.trades(10, "scaled", field)
    assert bench.notes() == [(message(bench), "unit", f"data[].{field}")]
    assert bench.radar.status()["changes"][0]["detail"] == "us instead of ms"
    assert not bench.pipeline.totals.events.get("trade")


def test_prices_on_another_scale_are_told():
    bench = Bench("bybit")
    for count, form in ((5, ""), (10, "scaled")):
        for _ in range(count):
            bench.now += EVERY
            bench.tick()
            bench.trades(2, form, "p")
    assert bench.notes() == [("trade", "unit", "price")]
    assert bench.pipeline.totals.events == {"trade": 30}, "they are stored as they came"


def test_a_message_of_an_unknown_type_is_told_at_its_first_frame(bench):
    odd = {"topic": "newThing.BTCUSDT", "data": []} if bench.venue == "bybit" else {"event": "news", "arg": {}}
    bench.trades(2)
    bench.send(odd)
    bench.send(odd)
    bench.look()
    assert [(name, change) for name, change, _ in bench.notes()] == [
        ({"bybit": "newThing", "okx": "event news"}[bench.venue], "message")
    ]


def test_a_kind_that_comes_once_an_hour_is_looked_at_among_thousands_of_others():
    bench = Bench("bybit", ("trade", "liquidation"))
    bench.trades(50)
    for _ in range(CONFIRMED):
        batch = [trade("bybit", 1000 + number, bench.now) for number in range(40)]
        bench.send(*batch[:20], liquidation(bench.now), *batch[20:])
        bench.look()
    assert bench.notes() == [("allLiquidation", "added", "data[].new")]


def test_what_is_no_json_too_large_or_too_much_is_left_alone():
    bench = Bench("bybit")
    bench.send(*[b'{"topic": "publicTrade.BTCUSDT"'] * 30, b"<html>", b"\xff\xfe")
    bench.send(b'{"topic":"publicTrade.BTCUSDT","x":"%b"}' % (b"y" * MOST_FRAME))
    for _ in range(3 * WAITING):
        bench.send(b"[]")
    for _ in range(WAITING // A_LOOK + 1):
        bench.look()
    assert bench.notes() == []
    assert not bench.radar.seen


def test_answers_of_routes_are_compared_and_refusals_are_none():
    bench = Bench("bybit")
    adapter = exchanges.load("bybit")
    polled = Polled("open_interest", ("BTCUSDT",), 60 * SECOND)
    session = adapter.poller("linear", "n-1-2", polled, adapter.ENDPOINTS["linear"])
    link, tasks = bench.pipeline.open(session, name="p", source="rest", url="https://x", now=T0)
    asked = next(task for task in tasks if isinstance(task, Fetch))
    row = {"symbol": "BTCUSDT", "openInterest": "1", "openInterestValue": "2", "halved": True}
    good = {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [row]}, "retExtInfo": {},
            "time": T0 // 1000}  # fmt: skip
    refused = {"retCode": 10001, "retMsg": "params error: symbol invalid", "result": {}, "time": T0 // 1000}
    for _ in range(5):
        for body in (refused, good):
            bench.pipeline.respond(link, asked, 200, {}, json.dumps(body).encode(), T0 + SECOND)
            bench.look()
    assert bench.notes() == [("GET tickers", "added", "result.list[].halved")]


def test_what_was_told_stays_in_the_ledger_and_is_not_told_again_by_the_next_process(tmp_path):
    first = Bench("bybit")
    first.trades(10, "added")
    work = first.intake.collect(first.now)
    with LakeWriter.open(tmp_path, "n", first.now) as writer:
        GroupCommit(writer, "n", CollectorsConfig(node="n").writing).commit(Pass(first.now, notes=work.notes))
    held = list(drifted.told(tmp_path, first.now - DAY))
    assert [(one.exchange, one.message, one.path, one.session) for one in held] == [
        ("bybit", "publicTrade", "data[].drifted", "n-1-1")
    ]
    assert held[0].at <= first.now
    assert list(drifted.told(tmp_path, first.now + 2 * DAY)) == []
    again, other = Bench("bybit"), Bench("okx")
    drifted.remember([again.radar, other.radar, None], tmp_path, first.now)
    for bench in (again, other):
        bench.trades(10, "added")
    assert again.notes() == []
    assert again.radar.status()["changes"][0]["messages"] >= CONFIRMED
    assert other.notes() == added(other)


def test_a_change_is_said_in_words_that_name_it(monkeypatch):
    said = []
    monkeypatch.setattr(drifting, "say", lambda level, event, text, **_: said.append((level, event, text)))
    drifting.drift(
        exchange="bybit", market_type="spot", message="publicTrade", change="unit", path="data[].T",
        detail="us instead of ms", as_of="2026-07-24",
    )  # fmt: skip
    assert said == [(
        "WARNING", "drift",
        "bybit spot publicTrade has another unit or scale in a field (data[].T: us instead of ms), as of 2026-07-24",
    )]  # fmt: skip
    assert set(drifting.WORDS) == {"added", "missing", "type", "unit", "message"}


ENDS = {"ends": "2026-12-01", "instead": "use b", "source": "the venue"}


@pytest.mark.parametrize(
    "today, urgent, words",
    [
        ("2026-10-31", False, "a: gone from 2026-12-01 on, in 31 days; use b"),
        ("2026-11-01", True, "a: gone from 2026-12-01 on, in 30 days; use b"),
        ("2026-11-30", True, "a: gone from 2026-12-01 on, in 1 day; use b"),
        ("2026-12-01", True, "a: gone since 2026-12-01; use b"),
    ],
)
def test_an_ending_is_urgent_from_thirty_days_before(today, urgent, words):
    day = dt.date.fromisoformat(today)
    assert (Sunset("a", **ENDS).urgent(day), Sunset("a", **ENDS).said(day)) == (urgent, words)


def test_an_ending_meets_what_is_configured():
    asked = ("linear", ["kline"], ["wss://host:8443/ws"], ["BTC-PERP-INTX"])
    for more, met in (
        ({"address": ":8443"}, True), ({"channels": ("kline",)}, True), ({"symbol": "-INTX"}, True), ({}, False),
        ({"channels": ("kline",), "markets": ("spot",)}, False), ({"channels": ("trade",)}, False),
    ):  # fmt: skip
        assert Sunset("a", **ENDS, **more).meets(*asked) is met, more


def test_a_source_at_an_address_that_is_gone_is_warned_of_and_the_venues_own_are_not(monkeypatch):
    said = Counter()
    monkeypatch.setattr(drifting, "ending", lambda **facts: said.update([facts["text"][:8]]))
    okx = exchanges.load("okx")
    own = SourceConfig(exchange="okx", market_type="spot", symbols=["BTC-USDT"], kinds=["trade"])
    drifted.say_endings(okx, own, ["BTC-USDT"], T0 + 200 * DAY)
    assert not said
    old = own.model_copy(update={"endpoint": EndpointConfig(ws="wss://ws.okx.com:8443")})
    drifted.say_endings(okx, old, ["BTC-USDT"], T0)
    assert not said, "its end is three months away"
    drifted.say_endings(okx, old, ["BTC-USDT"], T0 + 80 * DAY)
    assert said == {"port 844": 1}


@pytest.mark.parametrize("venue", exchanges.names())
def test_what_is_collected_by_default_is_not_about_to_end(venue):
    adapter = exchanges.load(venue)
    for market, kinds in adapter.OFFERS.items():
        source = SourceConfig(exchange=venue, market_type=market, symbols=["X"], kinds=list(kinds))
        assert not drifted.endings(adapter, source, [adapter.LIQUID[market]])


def test_a_radar_tells_no_more_changes_than_it_can_hold_apart():
    bench = Bench("bybit")
    known = [Drift("bybit", "linear", "m", "added", f"p{n}", "", "s", T0) for n in range(1000)]
    bench.radar.know(known)
    bench.trades(10, "added")
    assert bench.notes() == []
    assert len(bench.radar.status()["changes"]) == 500
