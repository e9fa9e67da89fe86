"""The past of any venue by ccxt: what is proven by pages alone, what cannot be is refused, and nothing is made up."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from collectors import alone, reaching, venues
from collectors.budget import Budget
from collectors.ccxt import history, library, texts
from collectors.ccxt.carrier import Carrier
from collectors.history_plan import Wish
from lake.writer import LakeWriter
from market.errors import Malformed
from market.history import Absent, Offer
from market.kinds import Contract
from market.session import Endpoint, Fetch, Polled, Rejected
from market.times import DAY, HOUR, MINUTE, MS, SECOND
from runtime.clock import SystemClock
from tests.support.clock import ManualClock
from tests.support.past import BEGAN, CONFIG, past
from tests.support.past import END as ENDED

START = 1_795_000_000_000_000 - 1_795_000_000_000_000 % DAY
END = START + 2 * HOUR
NOW = START + 9 * DAY
SYMBOL = "BTC/USD"


def session(
    kind: str = "trade", market: str = "spot", known: tuple[Any, ...] = (), span: tuple[int, int] = (START, END)
) -> Any:
    exchange = venues.load("ccxt:kraken")
    polled = Polled(kind, (SYMBOL,), known=known, span=span)
    return exchange.poller(market, "n-1-1", polled, exchange.ENDPOINTS[market])


class Venue:
    """Trades of (time us, id). `heeds` its since or tells its newest; a page has `most`, and looks `wide` ahead."""

    def __init__(
        self, rows: list[tuple[int, str]], *, heeds: bool = True, most: int = 500, wide: int = DAY * 99
    ) -> None:
        self.rows, self.heeds, self.most, self.wide = rows, heeds, most, wide
        self.asked: list[int] = []

    def answer(self, fetch: Fetch) -> bytes:
        since = int(parse_qs(urlsplit(fetch.url).query)["since"][0]) * MS
        self.asked.append(since)
        rows = [row for row in self.rows if since <= row[0] < since + self.wide][: self.most]
        if not self.heeds:
            rows = [row for row in self.rows[-self.most :] if row[0] >= since]
        return body(
            *({"id": name, "timestamp": at // MS, "price": "1.50", "amount": "2", "side": "buy"} for at, name in rows)
        )


def body(*parsed: object) -> bytes:
    return json.dumps({"rows": [{"parsed": one, "info": {}} for one in parsed]}).encode()


def finish(made: Any, answer: Any) -> tuple[list[Any], list[str]]:
    """Drive it to its end: its events and what was rejected."""
    events: list[Any] = []
    rejected: list[str] = []
    tasks, now = list(made.start(NOW)), NOW
    for _ in range(2000):
        if made.done:
            return events, rejected
        for fetch in tasks:
            for out in made.respond(fetch.tag, 200, {}, answer(fetch), now):
                rejected.append(out.reason) if isinstance(out, Rejected) else events.append(out)
        now = max(now, made.next_deadline() or now)
        tasks = list(made.tick(now))
    raise AssertionError("it does not end")


def every(step: int, first: int = START - HOUR, last: int = END + HOUR, at_once: int = 1) -> list[tuple[int, str]]:
    return [(at, f"{at}-{n}") for at in range(first, last, step) for n in range(at_once)]


@pytest.mark.parametrize("most", [3, 7, 500])
@pytest.mark.parametrize("step, at_once", [(MINUTE, 1), (7 * MINUTE, 2), (50 * MINUTE, 1)])
def test_every_trade_of_the_period_comes_once(most: int, step: int, at_once: int) -> None:
    venue = Venue(every(step, at_once=at_once), most=most)
    made = session()
    events, rejected = finish(made, venue.answer)
    assert [one.trade_id for one in events] == [name for at, name in venue.rows if START <= at < END]
    assert (rejected, made.failed, made.venue_time) == ([], "", END)
    assert {(one.source, one.condition, one.seq) for one in events} == {("rest", "market", None)}


@pytest.mark.parametrize("lag", [0, 20, 49])
def test_what_is_not_final_is_given_out_and_covered_only_once_it_was_asked_for_again(lag: int) -> None:
    rows, now = every(4 * SECOND, END - 5 * MINUTE, END + MINUTE), END + 30 * SECOND
    made = session(span=(END - 2 * MINUTE, END))
    lacking, came, tasks = 7, [], made.start(now)  # a row of the middle is late too
    while not made.done:
        for fetch in tasks:
            seen = [
                row for place, row in enumerate(rows) if row[0] + (49 if place % lacking == 0 else lag) * SECOND <= now
            ]
            came += made.respond(fetch.tag, 200, {}, Venue(seen).answer(fetch), now)
        assert made.venue_time <= max(now - MINUTE, made.start_at)
        if made.early(now):
            assert len(came) >= 15, "what is there is not held back"
        now = max(now, made.next_deadline() or now)
        tasks = made.tick(now)
    assert sorted(one.trade_id for one in came) == sorted(name for at, name in rows if END - 2 * MINUTE <= at < END)


def test_a_quiet_time_is_stepped_over_where_pages_look_no_further() -> None:
    rows = [(START - MINUTE, "a"), (START + MINUTE, "b"), (END - MINUTE, "c")]
    made = session()
    events, _ = finish(made, Venue(rows, wide=HOUR).answer)
    assert [one.trade_id for one in events] == ["b", "c"]
    assert made.venue_time == END


@pytest.mark.parametrize(
    "venue",
    [
        Venue(every(MINUTE, last=NOW - DAY), heeds=False),
        Venue(every(MINUTE, first=START + HOUR)),
        Venue([]),
    ],
    ids=["newest only", "nothing before", "nothing at all"],
)
def test_what_pages_cannot_prove_is_refused_and_no_row(venue: Venue) -> None:
    made = session()
    events, _ = finish(made, venue.answer)
    assert (events, made.refused, made.venue_time) == ([], True, START)
    assert "cannot be told from one that gives its newest only" in made.failed
    assert len(venue.asked) < 9


def test_a_page_that_forgets_the_border_is_asked_for_again() -> None:
    venue, calls = Venue(every(MINUTE), most=9), 0

    def answer(fetch: Fetch) -> bytes:
        nonlocal calls
        calls += 1
        told = venue.answer(fetch)
        return told.replace(b"1.50", b"1.51") if calls == 4 else told

    events, rejected = finish(session(), answer)
    assert [one.trade_id for one in events] == [name for at, name in venue.rows if START <= at < END]
    assert rejected == ["fetchTrades: a page without the last rows of the page before it"]


TRADE = {"id": "1", "timestamp": START // MS - 1, "price": "1", "amount": "1", "side": "buy"}
NO_DATA = [
    ("trade", b"<html>"), ("trade", body(None)), ("trade", body([None] * 6)),
    ("trade", body({**TRADE, "price": "1e5"})),
    ("trade", body({**TRADE, "timestamp": None})), ("trade", body({**TRADE, "timestamp": 5})),
    ("kline", body(*[[None] * 6] * 6)), ("kline", body([START // MS + 1, "1", "1", "1", "1", "1"])),
]  # fmt: skip


@pytest.mark.parametrize("kind, said", NO_DATA)
def test_what_is_no_data_is_asked_for_again_and_never_a_row(kind: str, said: bytes) -> None:
    made = session(kind)
    (fetch,) = made.start(NOW)
    assert [type(out) for out in made.respond(fetch.tag, 200, {}, said, NOW)] == [Rejected]
    assert (made.failed, made.venue_time) == ("", START)


def test_trades_without_ids_are_refused_since_copies_of_them_could_not_be_told() -> None:
    made = session()
    (fetch,) = made.start(NOW)
    made.respond(fetch.tag, 200, {}, body({**TRADE, "id": None}), NOW)
    assert (made.refused, "no ids" in made.failed) == (True, True)


def test_candles_rates_and_open_interest_are_rows_of_their_period() -> None:
    candles = body(*([(START + n * MINUTE) // MS, "1.0", "2.0", "0.5", "1.5", "7"] for n in range(-1, 4)))
    events, _ = finish(session("kline", span=(START, START + 2 * MINUTE)), lambda _: candles)
    assert [(one.open_time, one.close, one.volume_base) for one in events] == [
        (START, "1.5", "7"), (START + MINUTE, "1.5", "7"),
    ]  # fmt: skip
    rates = body(*({"timestamp": (START + n * HOUR) // MS + 3, "fundingRate": "-0.0001"} for n in range(-8, 9, 8)))
    events, _ = finish(session("funding_rate", "linear"), lambda _: rates)
    assert [(one.ts_event, one.rate, one.rate_kind) for one in events] == [(START, "-0.0001", "ratio")]
    interest = body(*({"timestamp": (START + n * HOUR) // MS, "openInterestAmount": "5.5"} for n in range(-1, 4)))
    events, _ = finish(session("open_interest", "inverse"), lambda _: interest)
    assert [(one.ts_event, one.oi, one.oi_unit, one.period) for one in events] == [
        (START, "5.5", "contract", "5m"), (START + HOUR, "5.5", "contract", "5m"),
    ]  # fmt: skip


def test_trades_of_contracts_count_contracts_of_the_size_that_the_list_tells() -> None:
    with pytest.raises(Malformed, match="size"):
        session(market="linear")
    listed = Contract(
        SYMBOL, "fetchMarkets", NOW, None, NOW, "n-1-1", 1, 0, "rest", uid="x", unified=SYMBOL, base="BTC", quote="USD",
        settle="USD", tick=None, lot=None, multiplier="0.01", contract_size="0.01", status="active", listed=None,
        expiry=None, funding_interval_s=None, valid_from=None, valid_to=None, known_from=NOW, known_to=None,
    )  # fmt: skip
    events, _ = finish(session(market="linear", known=(listed,)), Venue(every(30 * MINUTE)).answer)
    assert {(one.qty_unit, one.multiplier) for one in events} == {("contract", "0.01")}


def test_what_a_venue_has_not_is_absent_by_the_name_of_ccxts_method() -> None:
    offered = venues.load("ccxt:kraken").HISTORY  # type: ignore[attr-defined]
    assert isinstance(offered["spot"]["trade"], Offer)
    assert "fetchFundingRateHistory" in offered["linear"]["funding_rate"].why
    assert all(isinstance(one, Offer | Absent) for kinds in history.OFFERED.values() for one in kinds.values())


async def test_ccxts_methods_are_called_with_since_and_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    async def nothing() -> None:
        return None

    async def trades(*given: Any) -> Any:
        calls.append(("trades", *given))
        return [{"id": 7, "timestamp": 5, "side": "buy", "price": "1.50", "amount": "2", "info": {"raw": 1}}]

    async def ohlcv(*given: Any) -> Any:
        calls.append(("ohlcv", *given))
        return [[None] * 6]

    made = SimpleNamespace(load_markets=nothing, fetch_trades=trades, fetch_ohlcv=ohlcv, close=nothing)
    monkeypatch.setattr(library, "make", lambda *_: made)
    async with Carrier("kraken", "spot", ManualClock()) as carrier:
        (fetch,) = session().start(NOW)
        answer = await carrier.fetch("GET", fetch.url)
        assert json.loads(answer.body)["rows"][0]["parsed"] == {
            "id": "7", "timestamp": 5, "side": "buy", "price": "1.50", "amount": "2",
        }  # fmt: skip
        (fetch,) = session("kline").start(NOW)
        answer = await carrier.fetch("GET", fetch.url)
        assert json.loads(answer.body)["rows"] == [texts.told_candle([None] * 6)]
    assert calls == [
        ("trades", SYMBOL, (START - MINUTE) // MS, history.PAGE),
        ("ohlcv", SYMBOL, "1m", (START - 2 * MINUTE) // MS, history.PAGE),
    ]


async def test_what_asks_such_a_venue_is_the_library() -> None:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        exchange = venues.load("ccxt:kraken")
        assert isinstance(await reaching.ask(exchange, "spot", clock, Budget(clock), stack), Carrier)


async def test_a_page_of_the_web_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    made = library.make("kraken", "spot", "http://127.0.0.1:1", "")

    async def page(*_: Any, **__: Any) -> str:
        return "<html>"

    monkeypatch.setattr(library.load("kraken"), "fetch", page)
    with pytest.raises(library.errors().ExchangeNotAvailable, match="no JSON"):
        await made.fetch("http://127.0.0.1:1/x")
    await made.close()


@pytest.mark.slow  # the library itself, by the clock of the world
async def test_the_twin_of_a_venue_is_asked_by_the_library_itself(tmp_path: Path) -> None:
    exchange, clock = venues.load("ccxt:binance"), SystemClock()
    async with past(tmp_path, "spot", "1") as venue:
        (book,) = venue.books("spot")
        chunks = [Wish(kind, "BTC/USDT", BEGAN + 10 * MINUTE, ENDED - 10 * MINUTE) for kind in ("trade", "kline")]
        endpoint = Endpoint(rest=f"http://{venue.host}/spot", ws={})
        await venue.fault(fault="html_200", path="aggTrades")
        await venue.fault(fault="short_body", path="klines")
        with LakeWriter.open(venue.root, "n", clock.now(), simulated=True) as writer:
            done = await alone.alone(
                exchange, "spot", endpoint, writer, CONFIG, clock, chunks, lambda *_: None, asyncio.Event()
            )
        assert (done.failed, done.done) == ([], 2)
        told = [(one.trade_id, one.ts_event) for one in venue.events("trade", "BTC/USDT")]
        assert told == [(str(one.id), one.ts) for one in book.aggregates if chunks[0].start <= one.ts < chunks[0].end]
        minutes = [one.open_time for one in venue.events("kline", "BTC/USDT")]
        assert minutes == list(range(chunks[0].start, chunks[0].end, MINUTE))
