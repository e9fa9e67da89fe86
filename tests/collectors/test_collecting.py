"""Sources that change while they are collected: by a reload, and by listings that patterns follow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from loguru import logger

from collectors import exchanges, transports
from collectors.config import CollectorsConfig, SourceConfig
from collectors.http import Answer, Http, HttpFailed
from collectors.service import CollectorsService
from collectors.transports import Closed, Frames
from lake.segments import decode_line
from lake.writer import LakeWriter
from market.session import Connection, Stream
from runtime.service import Fatal
from runtime.workers import InlineExecutor
from tests.support import toy
from tests.support.clock import ManualClock, threads_at_once
from tests.support.toy import T0, t


class Flowing:
    """A transport on which a trade of every symbol comes twice a second, numbered by time: no two tell differently."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._over = False
        self.symbols: list[str] = []

    async def receive(self) -> Frames:
        await self._clock.sleep(0.5)
        if self._over:
            raise Closed(1000, "closed by us")
        tick = int(self._clock.monotonic() * 2)
        frames = [t(tick, tick * 500, symbol) for symbol in self.symbols]
        return Frames(frames, [self._clock.now()] * len(frames))

    def ready(self) -> Frames:
        return Frames([], [])

    async def send(self, text: str) -> None:
        self.symbols = text.split()[1:]

    async def close(self) -> None:
        self._over = True


class Venue:
    def __init__(self, clock: ManualClock) -> None:
        self.opened: list[Flowing] = []
        self._clock = clock

    async def __call__(self, url: str, *, max_frame: int, timeout: float, **_more: object) -> Flowing:
        self.opened.append(Flowing(self._clock))
        return self.opened[-1]


class Naming(toy.ToySession):
    """A session that subscribes to what it carries."""

    def __init__(self, session_id: str, streams: Sequence[Stream], **options: bool) -> None:
        super().__init__(session_id, streams, **options)
        self._named = " ".join(stream.symbol for stream in streams)

    def start(self, now: int) -> Sequence[object]:
        super().start(now)
        return [toy.Send(f"subscribe {self._named}")]


def planned(market_type: str, streams: Sequence[Stream], endpoint: object) -> list[Connection]:
    halves = [streams[n : n + 3] for n in range(0, len(streams), 3)]
    url = endpoint.ws["stream"]
    return [Connection("binance", market_type, f"toy-{n}", url, tuple(h)) for n, h in enumerate(halves, 1)]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    with threads_at_once():
        yield


@pytest.fixture(autouse=True)
def toy_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """`binance` is the toy exchange here, with three streams a connection."""

    async def fetch(_self: Http, _method: str, _url: str) -> Answer:
        return Answer(200, {}, b"{}")

    monkeypatch.setattr(exchanges, "load", lambda _name: toy)
    monkeypatch.setattr(Http, "fetch", fetch)
    monkeypatch.setattr(toy, "connections", planned)
    monkeypatch.setattr(
        toy, "session", lambda connection, session_id, learn=False: Naming(session_id, connection.streams)
    )
    limits = toy.LIMITS["spot"]
    monkeypatch.setattr(toy, "LIMITS", {"spot": msgspec.structs.replace(limits, streams_per_connection=3)})
    monkeypatch.setattr(toy, "LISTED", {})


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "n", T0) as opened:
        yield opened


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(
        lambda message: lines.append(f"{message.record['extra'].get('event')}: {message.record['message']}")
    )
    yield lines
    logger.remove(sink)


def sources(*symbols: str, **more: object) -> list[SourceConfig]:
    kept = {"exchange": "binance", "market_type": "spot", "symbols": symbols, "kinds": ["trade"], **more}
    return [SourceConfig.model_validate(kept)]


class Bench:
    """The service over a venue that flows; `time` advances between the acts of a test."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, given: list[SourceConfig], **connections: object
    ) -> None:
        self.clock = ManualClock(T0)
        self.venue = Venue(self.clock)
        self.writer = writer
        monkeypatch.setattr(transports, "load_or_reference", lambda _name, _compression: self.venue)
        config = CollectorsConfig.model_validate(
            {"node": "n", "sources": [], "writing": {"write_ms": 500, "sync_ms": 1000}, "connections": connections}
        ).model_copy(update={"sources": given})
        self.service = CollectorsService(config, writer, self.clock, lambda: 0.5, {}, InlineExecutor())

    async def run(self, *acts: object) -> None:
        """Floats are seconds that pass, others are called (and awaited) between them."""
        stop = asyncio.Event()

        async def scene() -> None:
            running = asyncio.ensure_future(self.service.run(stop))
            try:
                for act in acts:
                    if isinstance(act, float):
                        await self.clock.sleep(act)
                    else:
                        done = act()
                        if asyncio.iscoroutine(done):
                            await done
                    assert not running.done(), await running
            finally:
                stop.set()
                await running

        await self.clock.run(scene())

    def change(self, *symbols: str, **more: object) -> object:
        return lambda: self.service.change(sources(*symbols, **more))

    def stored(self, symbol: str) -> list[int]:
        return sorted(
            event.seq
            for row in self.writer.manifest.segments("binance", "spot", "trade")
            if row.rows
            for line in (self.writer.root / row.path).read_bytes().splitlines()
            for event in [decode_line("trade", line)]
            if event.symbol == symbol
        )

    def whole(self, symbol: str) -> bool:
        """Whether the trades of a symbol have neither holes nor repetitions."""
        ids = self.stored(symbol)
        return bool(ids) and ids == list(range(ids[0], ids[-1] + 1))

    def status(self) -> dict[str, object]:
        return self.service.status()["binance/spot"]

    def carried(self) -> dict[str, int]:
        return {each["name"]: each["streams"] for each in self.status()["connections"]}


async def test_symbols_come_and_go_without_dropping_the_others(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter
) -> None:
    bench = Bench(monkeypatch, writer, sources("AAA", "BBB", "CCC", "DDD"))
    answers = []

    async def reload() -> None:
        answers.append(await bench.service.change(sources("AAA", "CCC", "DDD", "EEE"), dry_run=True))
        assert bench.carried() == {"toy-1": 3, "toy-2": 1}
        answers.append(await bench.service.change(sources("AAA", "CCC", "DDD", "EEE")))

    seen = []
    await bench.run(5.0, reload, 20.0, lambda: seen.append(bench.carried()))
    assert answers[0] == answers[1]
    assert (answers[1].added, answers[1].removed) == (["binance spot EEE@trade"], ["binance spot BBB@trade"])
    assert answers[1].opened == answers[1].closed == []
    assert sum(seen[0].values()) == 4
    assert all(map(bench.whole, ("AAA", "BBB", "CCC", "DDD", "EEE")))
    assert bench.stored("AAA")[-1] == bench.stored("EEE")[-1] > bench.stored("BBB")[-1] + 20
    assert writer.manifest.gaps() == []
    assert {row.symbol for row in writer.manifest.coverage()} == {"AAA", "BBB", "CCC", "DDD", "EEE"}


async def test_a_new_kind_and_a_source_that_goes(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    bench = Bench(monkeypatch, writer, sources("AAA", "BBB"))
    await bench.run(3.0, bench.change("AAA", kinds=["trade", "quote"]), 10.0, lambda: bench.service.change([]), 3.0)
    assert writer.manifest.gaps() == []
    assert {row.kind for row in writer.manifest.segments()} >= {"trade", "quote"}
    assert bench.carried() == {}
    assert {row.state for row in writer.manifest.segments()} == {"sealed"}


async def test_twins_share_a_stream_and_one_of_them_is_enough(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter
) -> None:
    bench = Bench(monkeypatch, writer, sources("AAA", redundancy=2))
    seen = []
    await bench.run(3.0, lambda: seen.append(bench.status()), bench.change("AAA"), 10.0)
    assert [each["name"] for each in seen[0]["connections"]] == ["toy-1-a", "toy-1-b"]
    assert seen[0]["sources"][0]["redundancy"] == 2
    assert seen[0]["duplicates"]["trade"] > 0
    assert bench.carried() == {"toy-1": 1}
    assert bench.whole("AAA")
    assert writer.manifest.gaps() == []


async def test_what_cannot_be_is_refused_and_what_runs_goes_on(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter
) -> None:
    bench = Bench(monkeypatch, writer, sources("AAA", "BBB"), max_connections=1)

    async def refused() -> None:
        with pytest.raises(Fatal, match="need 2 connections"):
            await bench.service.change(sources("AAA", "BBB", "CCC", "DDD"))
        with pytest.raises(Fatal, match="need 2 connections"):
            await bench.service.change(sources("AAA", redundancy=2))

    await bench.run(3.0, refused, 3.0)
    assert bench.carried() == {"toy-1": 2}
    assert bench.whole("AAA")
    with pytest.raises(Fatal, match="nothing is being collected"):
        await bench.service.change([])


# --- patterns ---


async def test_a_pattern_begins_with_what_is_listed_and_follows_listings_and_ends(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, said: list[str]
) -> None:
    toy.LISTED.update(AUSD="TRADING", BUSD="TRADING", CUSD="CLOSE", DEUR="TRADING", XUSD="TRADING")
    polls = {"instruments_seconds": 10}
    bench = Bench(monkeypatch, writer, sources("*USD", "!X*", "?GBP", polls=polls))
    seen = []

    def look() -> None:
        seen.append((bench.carried(), bench.status()["sources"][0]["symbols"]))

    def change() -> None:
        toy.LISTED.update(NUSD="TRADING", BUSD="CLOSE")

    await bench.run(5.0, look, change, 15.0, look)
    assert seen == [({"toy-1": 2}, 2), ({"toy-1": 2}, 2)]
    assert all(map(bench.whole, ("AUSD", "BUSD", "NUSD")))
    assert not bench.stored("XUSD") + bench.stored("DEUR") + bench.stored("CUSD")
    assert bench.stored("BUSD")[-1] < bench.stored("NUSD")[-1] == bench.stored("AUSD")[-1]
    assert writer.manifest.gaps() == []
    assert [line for line in said if line.startswith("listings_followed")] == [
        "listings_followed: binance spot: begins AUSD, BUSD",
        "listings_followed: binance spot: begins NUSD, ends BUSD",
    ]
    assert [line for line in said if line.startswith("pattern_unmatched")] == [
        "pattern_unmatched: binance spot: '?GBP' matches nothing that trades"
    ]


async def test_a_named_symbol_that_the_venue_ends_is_left_without_a_gap(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, said: list[str]
) -> None:
    toy.LISTED.update(AUSD="TRADING", BUSD="TRADING")
    bench = Bench(monkeypatch, writer, sources("AUSD", "BUSD", polls={"instruments_seconds": 10}))
    await bench.run(5.0, lambda: toy.LISTED.update(BUSD="CLOSE"), 40.0)
    assert bench.whole("AUSD")
    assert bench.stored("BUSD")[-1] < bench.stored("AUSD")[-1]
    assert writer.manifest.gaps() == []
    assert "listings_followed: binance spot: ends BUSD" in said


async def test_named_symbols_do_not_wait_for_what_patterns_wait_for(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, said: list[str]
) -> None:
    toy.LISTED.update(BUSD="TRADING")
    answers = [HttpFailed("no route")] * 4

    async def fetch(_self: Http, _method: str, url: str) -> Answer:
        if answers and not url.endswith("/time"):
            raise answers.pop()
        return Answer(200, {}, b"{}")

    monkeypatch.setattr(Http, "fetch", fetch)
    bench = Bench(monkeypatch, writer, sources("AAA", "*USD"))
    seen = []
    await bench.run(2.0, lambda: seen.append(bench.status()), 18.0)
    assert [each["streams"] for each in seen[0]["connections"]] == [1]
    assert seen[0]["sources"][0]["waits_for_instruments"]
    assert bench.whole("AAA")
    assert bench.whole("BUSD")
    assert any(line.startswith("listings_awaited: binance spot: *USD waits") for line in said)


async def test_a_venue_that_does_not_answer_is_known_from_the_lake(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, said: list[str]
) -> None:
    toy.LISTED.update(AUSD="TRADING", BUSD="CLOSE")
    await Bench(monkeypatch, writer, sources("*USD")).run(3.0)

    async def fetch(_self: Http, _method: str, _url: str) -> Answer:
        raise HttpFailed("no route")

    monkeypatch.setattr(Http, "fetch", fetch)
    bench = Bench(monkeypatch, writer, sources("*USD"))
    seen = []
    await bench.run(10.0, lambda: seen.append(bench.carried()), 20.0, lambda: seen.append(bench.carried()))
    assert seen == [{}, {"toy-1": 1}]
    assert any(line.startswith("listings_remembered: binance spot: the venue does not answer; 2 ") for line in said)


async def test_listings_beyond_the_limit_of_connections_end_nothing(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, said: list[str]
) -> None:
    toy.LISTED.update({f"{n}USD": "TRADING" for n in "ABC"})
    bench = Bench(monkeypatch, writer, sources("*USD", polls={"instruments_seconds": 10}), max_connections=1)
    await bench.run(5.0, lambda: toy.LISTED.update(DUSD="TRADING"), 12.0)
    assert all(map(bench.whole, ("AUSD", "BUSD", "CUSD")))
    assert not bench.stored("DUSD")
    assert any(line.startswith("listings_refused: what runs goes on: the sources need 2") for line in said)


async def test_a_pattern_by_reload_asks_for_all_instruments(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter
) -> None:
    toy.LISTED.update(AUSD="TRADING")
    bench = Bench(monkeypatch, writer, sources("AAA"))
    await bench.run(3.0, bench.change("AAA", "*USD"), 10.0)
    assert bench.whole("AAA")
    assert bench.whole("AUSD")
    assert writer.manifest.gaps() == []


def test_a_config_of_patterns() -> None:
    assert sources("*USDT", "!USDCUSDT")[0].symbols == ["*USDT", "!USDCUSDT"]
    one = {"exchange": "binance", "market_type": "spot"}
    CollectorsConfig.model_validate({"sources": [{**one, "symbols": ["A*", "!AB"]}, {**one, "symbols": ["B*", "!AB"]}]})
    for wrong in (["A*", "!"], ["AB", "!CD"], ["A*", "AB", "!AB"]):
        with pytest.raises(ValueError, match="exclude"):
            sources(*wrong)
