"""Polls from configuration to sealed segments: over restarts, failures and a replay; and the venue's clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from loguru import logger

from collectors import recovery
from collectors.clocks import VenueClock
from collectors.config import CollectorsConfig
from collectors.http import Answer, Http, HttpFailed
from collectors.replay import replay
from collectors.service import CollectorsService
from lake.lasting import lasting
from lake.segments import read_lines
from lake.writer import LakeWriter
from market.kinds import Contract, Event
from market.times import HOUR, MINUTE, MS, SECOND
from runtime import metrics
from runtime.workers import InlineExecutor
from tests.support.clock import ManualClock, threads_at_once
from transformer.config import TransformerConfig
from transformer.service import transform_once

NOON = 1_785_672_000_000_000
SYMBOLS = ["AAAUSDT", "BBBUSDT"]
EIGHT = 8 * HOUR


class Venue:
    """USD-M's REST routes, with the virtual clock's time; `spoil` may answer in place of them."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.status = dict.fromkeys(SYMBOLS, "TRADING")
        self.asked: list[tuple[int, str]] = []
        self.ahead = 0
        """By how much the venue's clock is ahead of ours, us."""
        self.seconds = 0.0
        """How long an answer takes."""
        self.spoil: Callable[[str], Answer | Exception | None] = lambda _url: None

    async def fetch(self, url: str) -> Answer:
        route = urlsplit(url).path.rsplit("/", 1)[-1]
        self.asked.append((self.clock.now(), route))
        if self.seconds:
            await self.clock.sleep(self.seconds / 2)
        body = self._body(route, {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()})
        if self.seconds:
            await self.clock.sleep(self.seconds / 2)
        spoiled = self.spoil(url)
        if isinstance(spoiled, Exception):
            raise spoiled
        return spoiled or Answer(200, {"content-type": "application/json"}, json.dumps(body).encode())

    def _body(self, route: str, query: dict[str, str]) -> Any:
        now, symbol = (self.clock.now() + self.ahead) // MS, query.get("symbol", "")
        if route == "time":
            return {"serverTime": now}
        if route == "openInterest":
            return {"symbol": symbol, "openInterest": f"{now % 9973}.5", "time": now}
        if route == "depth":
            return {"lastUpdateId": now, "E": now, "T": now, "bids": [["1", "2"]], "asks": []}
        if route == "fundingInfo":
            return []
        if route == "fundingRate":
            start, every = int(query["startTime"]), EIGHT // MS
            first = -(-start // every) * every
            rate = {"symbol": symbol, "fundingRate": "0.0001"}
            return [{**rate, "fundingTime": time + 3} for time in range(first, now - 2, every)]
        listed = [
            {"symbol": name, "status": status, "baseAsset": name[:3], "quoteAsset": "USDT", "marginAsset": "USDT",
             "contractType": "PERPETUAL", "deliveryDate": 4133404800000, "onboardDate": 1569398400000,
             "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.10"}]}
            for name, status in self.status.items()
        ]  # fmt: skip
        return {"serverTime": now, "symbols": listed}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    with threads_at_once():
        yield


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> Venue:
    made = Venue(clock)

    async def fetch(_self: Http, _method: str, url: str) -> Answer:
        return await made.fetch(url)

    monkeypatch.setattr(Http, "fetch", fetch)
    return made


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "n", NOON) as opened:
        yield opened


async def collect(
    writer: LakeWriter, clock: ManualClock, seconds: float, kinds: tuple[str, ...] = ("open_interest", "funding_rate"),
    *, then: list[str] | None = None, **polls: object,
) -> CollectorsService:  # fmt: skip
    """`then` are the symbols from half of the time on."""
    source = {"exchange": "binance", "market_type": "linear", "symbols": SYMBOLS, "kinds": list(kinds), "polls": polls}
    config = CollectorsConfig.model_validate(
        {"node": "n", "sources": [source], "writing": {"write_ms": 10_000, "sync_ms": 60_000}}
    )
    stops = recovery.settle(writer, writer.recover(clock.now()), clock.now())
    made = CollectorsService(config, writer, clock, lambda: 0.5, stops, InlineExecutor())
    stop = asyncio.Event()

    async def passing() -> None:
        await clock.sleep(seconds / 2)
        if then:
            await made.change([config.sources[0].model_copy(update={"symbols": then})])
        await clock.sleep(seconds / 2)

    async def timed() -> None:
        running = asyncio.ensure_future(made.run(stop))
        timer = asyncio.ensure_future(passing())
        await asyncio.wait((running, timer), return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        stop.set()
        await running

    await clock.run(timed())
    return made


def rows(writer: LakeWriter, kind: str) -> list[Event]:
    """Every line of a kind, in the order of the segments."""
    return [
        event
        for row in writer.manifest.segments("binance", "linear", kind)
        if row.rows and (writer.root / row.path).exists()
        for event in read_lines(kind, (writer.root / row.path).read_bytes())
        if isinstance(event, Event)
    ]


def to_tables(writer: LakeWriter, clock: ManualClock) -> None:
    done = transform_once(writer, InlineExecutor(), clock.now() + MINUTE, TransformerConfig())
    assert done.segments


async def test_everything_polled_ends_in_segments(writer: LakeWriter, clock: ManualClock, venue: Venue) -> None:
    made = await collect(writer, clock, 200.0, depth_seconds=60)
    interest = rows(writer, "open_interest")
    assert {row.symbol for row in interest} == set(SYMBOLS)
    assert len(interest) in range(7, 10)
    assert [row.ts_event for row in rows(writer, "funding_rate") if row.symbol == "AAAUSDT"] == [
        NOON - NOON % (24 * HOUR) + n * EIGHT for n in (0, 1)
    ]  # fmt: skip
    assert {(row.source, row.depth) for row in rows(writer, "book_snapshot")} == {("rest", 1000)}  # type: ignore[attr-defined] # a book's
    assert [row.symbol for row in rows(writer, "contract")] == SYMBOLS
    assert writer.manifest.gaps() == []
    sessions = writer.manifest.sessions()
    assert {(row.source, row.close_cause) for row in sessions} == {("rest", "stopped")}
    assert len(sessions) == 5, "one a kind, and one for the clock"
    assert {row.kind for row in writer.manifest.coverage()} == {"open_interest"}
    (status,) = made.status().values()
    assert status["clock"] == {"offset_seconds": 0.0, "round_trip_seconds": 0.0}  # type: ignore[index] # a mapping


@pytest.mark.parametrize("tables", [False, True])
async def test_a_restart_writes_no_unchanged_contract_and_no_rate_again(
    writer: LakeWriter, clock: ManualClock, venue: Venue, tables: bool
) -> None:
    await collect(writer, clock, 100.0)
    if tables:
        to_tables(writer, clock)
    contracts, rates = len(rows(writer, "contract")), len(rows(writer, "funding_rate"))
    clock.step(20 * HOUR)
    venue.status["BBBUSDT"] = "SETTLING"
    await collect(writer, clock, 100.0)
    assert [row.status for row in rows(writer, "contract")][contracts:] == ["SETTLING"]  # type: ignore[attr-defined] # a contract's
    assert len(rows(writer, "funding_rate")) == rates + 2 * 3
    times = [(row.symbol, row.ts_event) for row in rows(writer, "funding_rate")]
    assert len(times) == len(set(times))
    if tables:
        to_tables(writer, clock)
    await collect(writer, clock, 100.0)
    assert len(rows(writer, "contract")) == contracts + 1
    assert len(rows(writer, "funding_rate")) == len(times)


@pytest.mark.parametrize("tables", [False, True])
async def test_what_is_remembered_is_what_was_last_said(
    writer: LakeWriter, clock: ManualClock, venue: Venue, tables: bool
) -> None:
    await collect(writer, clock, 60.0, instruments_seconds=10)
    venue.status["AAAUSDT"] = "CLOSE"
    await collect(writer, clock, 60.0, instruments_seconds=10)
    said = rows(writer, "contract")
    if tables:
        to_tables(writer, clock)
    with writer.manifest.snapshot() as snapshot:
        known = lasting(writer.root, snapshot, "binance", "linear", ["funding_rate"])
    assert [(one.symbol, one.status) for one in known.contracts] == [("BBBUSDT", "TRADING"), ("AAAUSDT", "CLOSE")]
    for contract in known.contracts:
        last = next(row for row in reversed(said) if row.symbol == contract.symbol)
        assert isinstance(last, Contract)
        names = [name for name in Contract.__struct_fields__ if name not in ("stream", "tick", "multiplier")]
        assert [getattr(contract, name) for name in names] == [getattr(last, name) for name in names]
        assert (float(contract.tick or 0), contract.multiplier) == (0.1, "1")
    assert known.times["funding_rate"]["AAAUSDT"] == NOON - NOON % EIGHT


async def test_a_lake_that_holds_nothing_remembers_nothing(writer: LakeWriter) -> None:
    with writer.manifest.snapshot() as snapshot:
        assert lasting(writer.root, snapshot, "binance", "linear", ["funding_rate"]).contracts == ()


async def test_what_vanished_while_nobody_looked_is_delisted(
    writer: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    await collect(writer, clock, 30.0)
    clock.step(HOUR)
    del venue.status["BBBUSDT"]
    await collect(writer, clock, 30.0)
    assert len(rows(writer, "contract")) == 2, "one list may be wrong"
    await collect(writer, clock, 100.0)
    assert [(row.symbol, row.status) for row in rows(writer, "contract")][2:] == [("BBBUSDT", "DELISTED")]  # type: ignore[attr-defined] # a contract's
    await collect(writer, clock, 100.0)
    assert len(rows(writer, "contract")) == 3


BAD = [
    Answer(200, {"content-type": "text/html"}, b"<html>maintenance</html>"),
    Answer(200, {}, b'{"symbol":"AAAUSDT","openInt'),
    Answer(200, {}, b""),
    Answer(429, {"retry-after": "3"}, b'{"code":-1003,"msg":"Too many requests."}'),
    Answer(418, {"retry-after": "3"}, b""),
    *(Answer(status, {}, b"<html>") for status in (403, 451, 500, 502, 503, 504)),
    HttpFailed("no route"),
]


async def test_bad_answers_are_no_data_and_what_was_missed_comes_later(
    writer: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    bad = iter(BAD * 2)
    venue.spoil = lambda _url: next(bad, None) if clock.now() < NOON + 10 * MINUTE else None
    await collect(writer, clock, 1500.0, depth_seconds=60)
    assert next(bad, "all were given") == "all were given"
    assert {row.symbol for row in rows(writer, "open_interest")} == set(SYMBOLS)
    assert len(rows(writer, "funding_rate")) == 4
    assert len(rows(writer, "contract")) == 2
    rejected = sum(row.count for row in writer.manifest.quarantine())
    assert rejected == len(BAD) * 2


async def test_a_venue_that_is_silent_for_long_leaves_a_gap_and_few_requests(
    writer: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    venue.spoil = lambda _url: HttpFailed("down") if NOON + 5 * MINUTE < clock.now() < NOON + 65 * MINUTE else None
    await collect(writer, clock, 4800.0, kinds=("open_interest",), server_time_seconds=None)
    down = [time for time, route in venue.asked if NOON + 5 * MINUTE < time < NOON + 65 * MINUTE]
    assert len(down) < 60
    gaps = writer.manifest.gaps()
    assert {(gap.kind, gap.symbol, gap.cause) for gap in gaps} == {
        ("open_interest", symbol, "stalled") for symbol in SYMBOLS
    }
    for gap in gaps:
        assert gap.ts_to is not None
        assert gap.ts_to - gap.ts_from > 50 * MINUTE


async def test_a_symbol_that_the_venue_does_not_list_is_named(
    writer: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    del venue.status["BBBUSDT"]
    said: list[str] = []
    sink = logger.add(lambda line: said.append(str(line)), format="{message}", level="ERROR")
    await collect(writer, clock, 100.0)
    logger.remove(sink)
    (refused,) = [line for line in said if "refused" in line]
    assert "exchangeInfo BBBUSDT: not in the venue's list" in refused


@pytest.mark.parametrize("then", [SYMBOLS[:1], [*SYMBOLS, "CCCUSDT"]])
async def test_symbols_that_stay_at_a_reload_have_no_gap(
    writer: LakeWriter, clock: ManualClock, venue: Venue, then: list[str]
) -> None:
    venue.status["CCCUSDT"] = "TRADING"
    clock.step(4 * HOUR - 5 * MINUTE)  # rates are settled within the half that follows the reload
    await collect(writer, clock, 600.0, then=then, funding_seconds=60)
    for kind in ("open_interest", "funding_rate"):
        assert len({row.session for row in rows(writer, kind) if row.symbol == "AAAUSDT"}) == 2
    assert writer.manifest.gaps() == []


async def test_a_venue_that_is_silent_from_a_reload_on_leaves_a_gap_of_what_stays(
    writer: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    venue.status["CCCUSDT"] = "TRADING"
    half = NOON + HOUR
    venue.spoil = lambda _url: HttpFailed("down") if half <= clock.now() < half + 40 * MINUTE else None
    await collect(writer, clock, 7200.0, kinds=("open_interest",), then=[*SYMBOLS, "CCCUSDT"])
    gaps = writer.manifest.gaps()
    assert sorted((gap.symbol, gap.cause) for gap in gaps) == [(symbol, "stalled") for symbol in SYMBOLS]
    for gap in gaps:
        assert half - MINUTE <= gap.ts_from < half
        assert half + 40 * MINUTE <= (gap.ts_to or 0) < half + 50 * MINUTE


async def test_a_short_rest_misses_nothing_and_a_long_one_is_a_gap(
    writer: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    await collect(writer, clock, 100.0)
    await collect(writer, clock, 100.0)
    assert writer.manifest.gaps() == []
    clock.step(HOUR)
    await collect(writer, clock, 100.0)
    assert {(gap.kind, gap.cause) for gap in writer.manifest.gaps()} == {("open_interest", "stopped")}
    assert len(writer.manifest.gaps()) == 2


async def test_a_defect_of_ours_ends_one_session_and_polling_goes_on(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    from collectors.exchanges.binance.polls import OpenInterestPoll

    read, calls = OpenInterestPoll._read, iter(range(100))

    def broken(self: OpenInterestPoll, *asked: Any) -> Any:
        if next(calls) == 1:
            raise ZeroDivisionError("a defect of ours")
        return read(self, *asked)

    monkeypatch.setattr(OpenInterestPoll, "_read", broken)
    await collect(writer, clock, 200.0)
    assert "internal_error" in {row.close_cause for row in writer.manifest.sessions()}
    assert len({row.session for row in rows(writer, "open_interest")}) == 2
    assert len(rows(writer, "funding_rate")) == 4


async def test_slow_answers_hold_up_no_other(writer: LakeWriter, clock: ManualClock, venue: Venue) -> None:
    venue.seconds = 40.0
    await collect(writer, clock, 600.0, kinds=("open_interest",))
    assert len(rows(writer, "open_interest")) >= 2 * 8


# --- replay ---


@pytest.fixture
def other(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "other", "n", NOON) as opened:
        yield opened


async def test_a_replay_of_poll_sessions_gives_the_same_lines(
    writer: LakeWriter, other: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    venue.spoil = lambda _url: BAD[len(venue.asked) % 7] if len(venue.asked) % 5 == 2 else None  # type: ignore[assignment, return-value] # one or the other
    for _ in range(2):
        await collect(writer, clock, 1000.0, depth_seconds=90, instruments_seconds=100)
        del venue.status["BBBUSDT" if "BBBUSDT" in venue.status else "AAAUSDT"]
        clock.step(EIGHT)
    files = [writer.root / row.path for row in writer.manifest.segments(kind="frames") if row.rows]
    done = replay(files, "binance", "linear", other, CollectorsConfig(node="n"), clock.now() + HOUR)
    assert done.damaged == 0
    for kind in ("open_interest", "funding_rate", "book_snapshot"):
        assert rows(other, kind) == rows(writer, kind)
        assert rows(other, kind)
    assert [row for row in rows(other, "contract") if row.status == "DELISTED"] == [  # type: ignore[attr-defined] # a contract's
        row for row in rows(writer, "contract") if row.status == "DELISTED"  # type: ignore[attr-defined] # as above
    ]  # fmt: skip
    assert rows(other, "contract") == rows(writer, "contract")
    counted = sum(row.count for row in writer.manifest.quarantine())
    assert sum(done.rejected.values()) == counted > 0


def test_an_open_line_of_older_recordings_is_a_poll_of_instruments(other: LakeWriter, tmp_path: Path) -> None:
    body = {"serverTime": NOON // MS, "symbols": [
        {"symbol": "AAAUSDT", "status": "TRADING", "baseAsset": "AAA", "quoteAsset": "USDT", "filters": []},
    ]}  # fmt: skip
    lines = [
        {"dir": "open", "n": 0, "url": "https://x", "tag": "reference", "headers": {"symbols": '["AAAUSDT"]'}},
        {"dir": "http", "n": 1, "status": 200, "tag": "exchangeInfo", "url": "https://x", "frame": json.dumps(body)},
        {"dir": "open", "conn": "b-1-1", "n": 0, "url": "https://x", "tag": "poll", "headers": {"symbols": "[]"}},
    ]
    path = tmp_path / "made.frames.jsonl"
    path.write_text("".join(json.dumps({"ts_recv": NOON, "conn": "a-1-1", **line}) + "\n" for line in lines))
    done = replay([path], "binance", "linear", other, CollectorsConfig(node="n"), NOON + HOUR)
    assert done.events == {"contract": 1}
    assert len(done.damage) == 1, "a poll of nobody knows what"


# --- the venue's clock ---


def offset(exchange: str = "binance", market_type: str = "linear") -> float:
    return float(metrics.CLOCK_OFFSET.labels(exchange, market_type)._value.get())


async def test_the_venues_clock_is_read_in_the_middle_of_a_request(
    writer: LakeWriter, clock: ManualClock, venue: Venue
) -> None:
    venue.seconds, venue.ahead = 0.8, -250_000
    made = await collect(writer, clock, 100.0)
    (status,) = made.status().values()
    assert status["clock"] == {"offset_seconds": 0.25, "round_trip_seconds": 0.8}  # type: ignore[index] # a mapping
    assert offset() == 0.25


def test_an_offset_beyond_a_second_is_said_once_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[float] = []
    monkeypatch.setattr("runtime.polled.clock_offset", lambda **facts: said.append(facts["offset_seconds"]))
    held = VenueClock("binance", "spot")
    assert held.status() is None
    for ahead in (0, 1_500_000, 1_600_000, -900_000, -1_500_000, -1_500_000):
        held.measured(NOON - ahead, NOON + 50_000, 100_000)
    assert said == [1.5, -1.5]
    held.measured(NOON, NOON + 4 * SECOND, 8 * SECOND)
    held.measured(NOON - 2 * SECOND, NOON + 4 * SECOND, 8 * SECOND)
    assert said == [1.5, -1.5], "half of a long round trip explains it"


@pytest.mark.parametrize("step", [-90 * SECOND, 90 * SECOND])
def test_what_our_clock_was_stepped_by_is_known_before_the_next_measure_and_sleep_and_jitter_are_no_step(step):
    ours = ManualClock(NOON)
    held = VenueClock("binance", "spot", ours)
    assert held.around(NOON) == (NOON, NOON)
    ours.step(step)
    assert held.around(NOON) == (min(NOON, NOON - step), max(NOON, NOON - step)), "before any measure too"
    held.measured(NOON + SECOND, ours.now(), 0)
    off = step - SECOND
    assert held.status() == {"offset_seconds": off / SECOND, "round_trip_seconds": 0}
    ours.step(-step)
    assert held.around(NOON) == (NOON, NOON + SECOND)
    assert held.status() == {"offset_seconds": -1.0, "round_trip_seconds": 0}
    held.measured(NOON + SECOND, NOON, 0)
    ours.suspend(3600.0)
    ours.step(200_000)
    assert held.around(NOON) == (NOON, NOON + SECOND)
