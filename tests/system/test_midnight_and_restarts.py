"""A daemon whose workers are killed while a day closes, and one that comes back with another configuration."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from lake import Lake
from lake.manifest import Manifest
from market.session import Coverage, Gap
from market.times import DAY, SECOND, date_of
from simulator.truth import Happened, Truth, load
from tests.support.commands import dl, dl_json, run
from tests.support.live import Daemon, free_port, lines, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(600)

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
MARKETS = ("spot", "linear")
POLLED = ["open_interest", "funding_rate"]
KILLS = 6
"""Of workers, on each side of midnight."""


def read(lake: Path, kind: str, market: str, symbol: str) -> pl.DataFrame:
    table = Lake(lake).read(kind, market_type=market, symbol=symbol)
    frame = pl.DataFrame(pl.from_arrow(table))
    times = [name for name in ("ts_event", "window_start") if name in frame.columns]
    return frame.with_columns(pl.col(times).cast(pl.Int64))


def candle(trades: list[Happened]) -> tuple[float | int, ...]:
    """Open, high, low, close, base, quote and count of trades of one window, from the venue's own texts."""
    trades = sorted(trades, key=lambda event: (event.ts_event, event.id))
    prices = [Decimal(event.price) for event in trades]
    base = sum(Decimal(event.qty) for event in trades)
    quote = sum(Decimal(event.qty) * Decimal(event.price) for event in trades)
    numbers = (prices[0], max(prices), min(prices), prices[-1], base, quote)
    return (*(float(number) for number in numbers), len(trades))


def workers_of(pid: int) -> list[int]:
    """The spawned worker processes of a daemon."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")  # a process is the child of the thread that started it
    children = [int(child) for thread in threads for child in _told(thread).split()]
    return [child for child in children if b"spawn_main" in _told(Path(f"/proc/{child}/cmdline"))]


def _told(place: Path) -> bytes:
    """What the kernel tells there; nothing where the thread or process has just ended."""
    try:
        return place.read_bytes()
    except OSError:
        return b""


def lives_with_its_workers_killed(place: Path, lake: Path, seconds: int) -> bool:
    """A daemon that crosses midnight so meanwhile; False where it has not collected enough of the day before."""
    sources = [{"exchange": "binance", "market_type": m, "symbols": SYMBOLS} for m in MARKETS]
    sources[1] |= {"kinds": ["trade", "quote", *POLLED], "polls": {"open_interest_seconds": 2}}
    config = write_config(
        place / "config.json", lake, sources, free_port(), transformer={"interval_seconds": 1},
        simulate={"seconds_before_midnight": seconds, "close_delay_seconds": 1, "seal_seconds": 1, "rate": 300},
    )  # fmt: skip
    daemon = Daemon(config, place / "daemon.log", "--simulate", "--lake", str(lake))

    def days() -> list[str]:
        """Of its log, which its own clock dates."""
        return sorted({line[:10] for line in daemon.said().splitlines() if line.startswith("20")})

    killed = Counter[str]()

    def is_killed_often() -> bool:
        day = days()[-1]
        # a job that dies again and again is set aside in the end: what waits for midnight is let live
        for worker in workers_of(daemon.process.pid) if killed[day] < KILLS else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                killed[day] += 1
        time.sleep(0.75)
        return len(days()) > 1 and killed[day] >= KILLS and polled_often(lake)

    try:
        wait_for("the first words", days)
        first = days()[0]
        wait_for("a day's end", lambda: enough(lake, first) or len(days()) > 1)
        if not enough(lake, first):
            return False
        wait_for("midnight, and workers to kill", is_killed_often)
    finally:
        code = daemon.stop()
    assert code == 0, daemon.said()[-4000:]
    return True


def enough(lake: Path, day: str) -> bool:
    """Whether what is on disk of a day gives two whole seconds of trades, and has all that is asked for."""
    seconds: dict[tuple[str, str], set[int]] = defaultdict(set)
    asked: set[tuple[str, str]] = set()
    for market, kind, event in lines(lake):
        if event["ts_event"] is not None and date_of(event["ts_event"]).isoformat() == day:
            if kind == "trade":
                seconds[market, event["symbol"]].add(event["ts_event"] // SECOND)
            elif kind in POLLED:
                asked.add((kind, event["symbol"]))
    whole = [each for each in seconds.values() if len(each) >= 4]  # the first and the last are none
    return len(whole) == len(MARKETS) * len(SYMBOLS) and len(asked) == len(POLLED) * len(SYMBOLS)


def polled_often(lake: Path) -> bool:
    found: dict[str, set[int]] = defaultdict(set)
    for _, _, event in lines(lake, "open_interest"):
        found[event["symbol"]].add(event["ts_event"])
    return len(found) == len(SYMBOLS) and min(map(len, found.values())) >= 3


@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")
def test_a_day_closes_although_the_workers_are_killed_again_and_again(tmp_path: Path) -> None:
    for seconds in (12, 90):  # a machine that is busy elsewhere may take longer to start than a quick one has to wait
        lake = tmp_path / f"lake-{seconds}"
        if lived := lives_with_its_workers_killed(tmp_path, lake, seconds):
            break
    assert lived, f"not enough was collected within {seconds} s"
    for command in ("transform", "compact"):
        dl(command, "--lake", lake)
    _same(lake, load(lake / "simulator.jsonl"))
    judged = run("scripts/truth.py", lake)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert "the lake is what was sent" in judged.stdout
    assert dl_json("verify", "--frames", "--lake", lake)["ok"]


def _same(lake: Path, truth: Truth) -> None:
    midnight = truth.started // DAY * DAY + DAY
    manifest = Manifest.read_only(lake)
    try:
        assert manifest.gaps() == []
        yesterday = date_of(truth.started).isoformat()
        assert {row.level for row in manifest.files(date_to=yesterday)} == {"day"}
    finally:
        manifest.close()
    _polled(lake, midnight)
    for market in MARKETS:
        for symbol in SYMBOLS:
            sent = truth.of("trade", market, symbol)
            stored = read(lake, "trade", market, symbol)["seq"]
            assert stored.to_list() == list(range(stored.min(), stored.max() + 1))
            windows: dict[int, list[Happened]] = defaultdict(list)
            for event in sent.values():
                if event.condition == "MARKET" and event.ts_event < midnight:
                    windows[event.ts_event // SECOND * SECOND].append(event)
            bars = read(lake, "bar_1s", market, symbol).filter(pl.col("window_start") < midnight)
            names = ("open", "high", "low", "close", "volume_base", "volume_quote", "trade_count")
            whole = {row["window_start"]: row for row in bars.iter_rows(named=True) if not row["partial"]}
            assert len(whole) >= 2
            for start, row in whole.items():
                assert tuple(row[name] for name in names) == candle(windows[start])
    assert dl_json("verify", "--lake", lake)["ok"]


def _polled(lake: Path, midnight: int) -> None:
    """What was asked for has its certified daily file too: each rate of the day, and open interest again and again."""
    days = [row for row in dl_json("ls", "--lake", lake) if row["file"]["kind"] in POLLED]
    yesterday = date_of(midnight - 1).isoformat()
    assert {row["file"]["kind"] for row in days if row["file"]["date"] == yesterday and row["certificate"]} == {*POLLED}
    for symbol in SYMBOLS:
        rates = read(lake, "funding_rate", "linear", symbol)["ts_event"].to_list()
        assert [time for time in rates if time < midnight] == [midnight - DAY + n * DAY // 3 for n in range(3)]
        interest = read(lake, "open_interest", "linear", symbol)["ts_event"].to_list()
        assert len(interest) == len(set(interest)) >= 3


def test_what_is_collected_can_change_between_two_starts(tmp_path: Path) -> None:
    lake, port = tmp_path / "lake", free_port()
    with simulator(tmp_path, "--symbols", ",".join(SYMBOLS), "--rate", "300", "--markets", "spot") as exchange:
        for symbols, kinds in ((SYMBOLS, ["trade"]), (SYMBOLS[:1], ["trade", "quote"]), (SYMBOLS, ["trade", "quote"])):
            source = exchange.source("spot", symbols, kinds)
            collectors = {"sources": [source], "node": "test", "writing": {"seal_seconds": 1}}
            config = write_config(tmp_path / "config.json", lake, [source], port, collectors=collectors)
            daemon = Daemon(config, tmp_path / "daemon.log")
            daemon.wait_until_ready(port)
            streams = len(symbols) * len(kinds)
            began = time.time_ns() // 1000
            wait_for("every stream", lambda began=began, n=streams: _producing(lake, began) >= n)
            assert daemon.stop() == 0, daemon.said()[-4000:]
        truth = exchange.stop()
    dl("transform", "--lake", lake)
    manifest = Manifest.read_only(lake)
    try:
        gaps, coverage = manifest.gaps(), manifest.coverage()
    finally:
        manifest.close()
    assert {gap.cause for gap in gaps} == {"stopped"}
    assert all(gap.ts_to is not None for gap in gaps)
    found = {(kind, symbol): _of(gaps, kind, symbol) for kind in ("trade", "quote") for symbol in SYMBOLS}
    # one between two runs that had the stream; ETHUSDT was away in the second, quotes were not wanted in the first
    assert {key: len(rows) for key, rows in found.items()} == {
        ("trade", "BTCUSDT"): 2, ("trade", "ETHUSDT"): 1, ("quote", "BTCUSDT"): 1, ("quote", "ETHUSDT"): 0,
    }  # fmt: skip
    for symbol in SYMBOLS:
        stored = read(lake, "trade", "spot", symbol)["seq"].to_list()
        missing = set(range(min(stored), max(stored) + 1)) - set(stored)
        named = [seq for gap in found["trade", symbol] for seq in range(gap.id_from or 0, gap.id_to or 0)]
        assert sorted(missing) == sorted(named)
        assert missing <= set(truth.of("trade", "spot", symbol))
    first = min(row.ts_from for row in coverage if row.kind == "trade")
    assert min(row.ts_from for row in coverage if row.kind == "quote") > first + SECOND, "before, it was not wanted"


def _producing(lake: Path, since: int) -> int:
    """How many streams of trades and quotes are covered up to a second after `since`."""
    manifest = Manifest.read_only(lake)
    try:
        rows: list[Coverage] = manifest.coverage()
    finally:
        manifest.close()
    return len({(row.kind, row.symbol) for row in rows if row.ts_to > since + SECOND})


def _of(gaps: list[Gap], kind: str, symbol: str) -> list[Gap]:
    return [gap for gap in gaps if (gap.kind, gap.symbol) == (kind, symbol)]
