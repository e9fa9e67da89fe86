"""A real daemon killed at random under load: what was durable is there once, and every loss is a row."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path

import polars as pl
import pytest

from lake import Lake
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.session import Gap
from market.times import Interval, subtract
from runtime.clock import SystemClock
from simulator.truth import Truth
from tests.support.commands import dl, dl_json
from tests.support.faults import FIGURE
from tests.support.live import Daemon, free_port, lines, simulator, wait_for, write_config

FULL = os.environ.get("LAKE_FAULTS") == "full"
KILLS = 150 if FULL else 6
pytestmark = pytest.mark.timeout(3600 if FULL else 600)

EVENTS_PER_SECOND = 1000 if FULL else 5000
"""Fewer where there are many kills: all that was sent is compared in memory."""
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
MARKETS = ["spot", "linear"]
KINDS = ["trade", "quote"]

Ids = dict[tuple[str, str], set[int]]
"""(market_type, symbol) -> trade ids."""


def written(lake: Path) -> Ids:
    """Trade ids of every whole line on disk, sealed or not: what a kill must not take away."""
    found: Ids = defaultdict(set)
    for market, _, event in lines(lake, "trade"):
        found[market, event["symbol"]].add(event["seq"])
    return found


def wait_for_every_stream(lake: Path) -> None:
    """Until lines of each are on disk that were received from now on."""
    since = SystemClock().now()

    def come() -> bool:
        found = {(market, kind, event["symbol"]) for market, kind, event in lines(lake) if event["ts_recv"] >= since}
        return found >= set(product(MARKETS, KINDS, SYMBOLS))

    wait_for("lines of every stream", come)


def manifest_dump(lake: Path) -> list[str]:
    """Every row of the manifest but its own counters."""
    with sqlite3.connect(f"file:{lake / 'manifest.db'}?mode=ro", uri=True) as connection:
        return [line for line in connection.iterdump() if 'INTO "meta"' not in line and "INTO meta" not in line]


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth, Ids]:
    """The lake after all kills and a clean stop, what the simulator really sent, and what had reached the disk."""
    folder = tmp_path_factory.mktemp("crashed")
    lake = folder / "lake"
    seed = int(os.environ.get("LAKE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"LAKE_SEED={seed}")
    chance = random.Random(seed)
    held: Ids = defaultdict(set)
    port = free_port()
    options = ("--symbols", ",".join(SYMBOLS), "--rate", str(EVENTS_PER_SECOND), "--seed", str(seed))
    with simulator(folder, *options) as exchange:
        sources = [exchange.source(market, SYMBOLS, KINDS) for market in MARKETS]
        config = write_config(folder / "config.json", lake, sources, port)
        for turn in range(KILLS):
            daemon = Daemon(config, folder / "daemon.log")
            daemon.wait_until_ready(port)
            if turn == 0:  # on a slow machine all the others may be killed before anything has come
                wait_for_every_stream(lake)
            time.sleep(chance.uniform(0.05, 2.5))
            daemon.kill()
            for stream, ids in written(lake).items():
                held[stream] |= ids
        daemon = Daemon(config, folder / "daemon.log")
        daemon.wait_until_ready(port)
        wait_for_every_stream(lake)
        code = daemon.stop()
        assert code == 0, (folder / "daemon.log").read_text()[-4000:]
        for stream, ids in written(lake).items():
            held[stream] |= ids
        truth = exchange.stop()
    dl("transform", "--config", config)
    return lake, truth, held


def trades_of(lake: Path, market: str, symbol: str) -> pl.DataFrame:
    table = Lake(lake).read("trade", exchange="binance", market_type=market, symbol=symbol)
    return pl.DataFrame(pl.from_arrow(table))


def gaps_of(lake: Path, market: str, symbol: str) -> list[Gap]:
    manifest = Manifest.read_only(lake)
    try:
        return manifest.gaps("binance", market, "trade", symbol)
    finally:
        manifest.close()


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_durable_trade_is_there_once_and_every_other_is_in_a_gap(
    crashed: tuple[Path, Truth, Ids],
    market: str,
    symbol: str,
    record_property: Callable[[str, object], None],
) -> None:
    if (market, symbol) == (MARKETS[0], SYMBOLS[0]):
        record_property(FIGURE + "kills of the real daemon", (KILLS, "kills"))
    lake, truth, held = crashed
    stored = Counter(trades_of(lake, market, symbol)["seq"].to_list())
    assert held[market, symbol], "something was collected"
    assert [seq for seq, count in stored.items() if count > 1] == []
    assert held[market, symbol] - set(stored) == set(), "a line that had reached the disk is lost"
    gaps = [g for g in gaps_of(lake, market, symbol) if g.id_from is not None and g.id_to is not None]
    named = {seq for gap in gaps if gap.state == "open" for seq in range(gap.id_from, gap.id_to)}
    first, last = min(stored), max(stored)
    missing = set(range(first, last + 1)) - set(stored)
    assert missing == {seq for seq in named if first <= seq <= last}
    assert {gap.cause for gap in gaps if gap.state == "open"} <= {"crash"}
    sent = truth.of("trade", market, symbol)
    rows = trades_of(lake, market, symbol).select("seq", "price", "qty", "side", "ts_event").iter_rows()
    for seq, price, qty, side, when in rows:
        happened = sent[seq]
        assert (price, qty) == (float(happened.price), float(happened.qty))
        assert side == ("sell" if happened.buyer_is_maker else "buy")
        assert int(when.timestamp() * 1_000_000 + 0.5) // 1000 == happened.ts_event // 1000


def test_quotes_are_there_once_and_between_two_sessions_of_a_stream_lies_a_gap_with_cause_crash(
    crashed: tuple[Path, Truth, Ids],
) -> None:
    lake, _, _ = crashed
    manifest = Manifest.read_only(lake)
    try:
        gaps = Counter((g.market_type, g.symbol) for g in manifest.gaps("binance", kind="quote") if g.cause == "crash")
    finally:
        manifest.close()
    for market in MARKETS:
        quotes = pl.DataFrame(pl.from_arrow(Lake(lake).read("quote", market_type=market)))
        assert quotes.select("symbol", "update_id").is_duplicated().sum() == 0
        for symbol in SYMBOLS:
            sessions = quotes.filter(pl.col("symbol") == symbol)["session"].n_unique()
            assert sessions > 1, "the kills came too soon to prove anything"
            assert gaps[market, symbol] == sessions - 1


def test_nothing_torn_is_visible_and_the_lake_verifies(crashed: tuple[Path, Truth, Ids]) -> None:
    lake, _, _ = crashed
    assert list(lake.rglob("*.tmp")) == []
    assert list(lake.rglob("*.open")) == []
    verdict = dl_json("verify", "--lake", lake)
    assert verdict["ok"], verdict["findings"]


def test_recovering_twice_is_recovering_once(crashed: tuple[Path, Truth, Ids]) -> None:
    lake, truth, _ = crashed
    dumps = []
    for _ in range(2):
        with LakeWriter.open(lake, "test", truth.stopped) as writer:
            writer.recover(truth.stopped)
        dumps.append(manifest_dump(lake))
    assert dumps[0] == dumps[1]


def test_coverage_and_crash_gaps_leave_no_unexplained_time(crashed: tuple[Path, Truth, Ids]) -> None:
    lake, _, _ = crashed
    manifest = Manifest.read_only(lake)
    try:
        for market in MARKETS:
            for symbol in SYMBOLS:
                covered = [Interval(c.ts_from, c.ts_to) for c in manifest.coverage("binance", market, "quote", symbol)]
                gaps = manifest.gaps("binance", market, "quote", symbol)
                holes = [Interval(g.ts_from, g.ts_to) for g in gaps if g.ts_to is not None]
                span = Interval(min(c.start for c in covered), max(c.end for c in covered))
                unexplained = subtract([span], [*covered, *holes])
                assert sum(i.length for i in unexplained) < 2_000_000, unexplained
    finally:
        manifest.close()
