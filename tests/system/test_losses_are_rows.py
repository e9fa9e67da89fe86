"""Faults on the wire of a running daemon: each loss in the ledger with cause and ids, nothing else in it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from lake import Lake
from lake.manifest import Manifest
from market.session import Gap
from simulator.truth import Truth
from tests.support.commands import dl, dl_json
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(600)

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
MARKETS = ["spot", "linear"]


@pytest.fixture(scope="module")
def faulted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """The lake of a run in which one connection was cut, one fell silent, ids were dropped, doubled and swapped."""
    folder = tmp_path_factory.mktemp("faulted")
    lake = folder / "lake"
    port = free_port()
    with simulator(folder, "--symbols", ",".join(SYMBOLS), "--rate", "600") as exchange:
        sources = [exchange.source(market, SYMBOLS, ["trade", "quote"]) for market in MARKETS]
        config = write_config(folder / "config.json", lake, sources, port)
        document = json.loads(config.read_text())
        document["collectors"]["connections"] |= {"silent_socket_seconds": 3, "silent_stream_seconds": 4}
        config.write_text(json.dumps(document))
        daemon = Daemon(config, folder / "daemon.log")
        daemon.wait_until_ready(port)
        wait_for("trades of both markets", lambda: all(_trades(port, market) > 100 for market in MARKETS))
        exchange.fault("drop_ids", market="spot", kind="trade", symbol="BTCUSDT", count=3)
        exchange.fault("duplicate_ids", market="spot", kind="trade", symbol="ETHUSDT", count=5)
        exchange.fault("reorder_ids", market="linear", kind="trade", symbol="ETHUSDT", count=4)
        for _ in range(3):
            exchange.fault("garbage", market="spot", count=4)
        wait_for("all of it to happen", lambda: json.loads(get(f"{exchange.address['control']}/faults")[1]) == [])
        wait_for("the ids to be missed", lambda: _causes(lake)["jump"])
        exchange.fault("cut", market="linear")
        wait_for("the cut to be known", lambda: _causes(lake)["disconnect"] >= 4 and _ended(lake))
        exchange.fault("silence", market="spot", seconds=8)
        wait_for("the silence to be known", lambda: _causes(lake)["silence"] >= 4)
        assert get(f"http://127.0.0.1:{port}/health")[0] == 200
        wait_for("every gap to have an end", lambda: _ended(lake))
        assert daemon.stop() == 0, daemon.log.read_text()[-4000:]
        truth = exchange.stop()
    dl("transform", "--config", config)
    return lake, truth


def _trades(port: int, market: str) -> int:
    """How many have come."""
    said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["collectors"]["report"]
    return int(said.get(f"binance/{market}", {}).get("events", {}).get("trade", 0))


def _ended(lake: Path) -> bool:
    return all(gap.ts_to is not None for gap in gaps(lake))


def _causes(lake: Path) -> Counter[str]:
    """How many gaps there are of each."""
    return Counter(gap.cause for gap in gaps(lake))


def gaps(lake: Path, **scope: str) -> list[Gap]:
    manifest = Manifest.read_only(lake)
    try:
        return manifest.gaps(**scope)
    finally:
        manifest.close()


def stored(lake: Path, market: str, symbol: str) -> list[int]:
    table = Lake(lake).read("trade", market_type=market, symbol=symbol)
    return [int(seq) for seq in pl.DataFrame(pl.from_arrow(table))["seq"]]


def test_dropped_ids_are_one_gap_with_just_those_ids(faulted: tuple[Path, Truth]) -> None:
    lake, truth = faulted
    dropped = sorted(
        seq for seq, event in truth.of("trade", "spot", "BTCUSDT").items() if "drop_ids" in event.dropped.values()
    )
    assert len(dropped) == 3
    found = [g for g in gaps(lake, market_type="spot", kind="trade", symbol="BTCUSDT") if g.cause == "jump"]
    assert [seq for gap in found for seq in range(gap.id_from or 0, gap.id_to or 0)] == dropped
    for gap in found:
        assert gap.proof == "ids"
        assert gap.detected_at >= gap.ts_from


def test_a_cut_is_a_gap_of_each_stream_of_that_connection_and_of_no_other(faulted: tuple[Path, Truth]) -> None:
    lake, _ = faulted
    cut = [g for g in gaps(lake) if g.cause == "disconnect"]
    assert {(g.market_type, g.kind, g.symbol) for g in cut} == {
        ("linear", kind, symbol) for kind in ("trade", "quote") for symbol in SYMBOLS
    }
    for gap in cut:
        assert gap.ts_to is not None
        assert gap.ts_to >= gap.ts_from


def test_a_silent_socket_is_left_and_named(faulted: tuple[Path, Truth]) -> None:
    lake, _ = faulted
    silent = [g for g in gaps(lake, market_type="spot") if g.cause == "silence"]
    assert {(g.kind, g.symbol) for g in silent} == {(k, s) for k in ("trade", "quote") for s in SYMBOLS}
    assert all(gap.detected_at >= gap.ts_from for gap in silent)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_stored_and_missing_ids_make_the_whole(faulted: tuple[Path, Truth], market: str, symbol: str) -> None:
    lake, truth = faulted
    held = stored(lake, market, symbol)
    assert len(set(held)) == len(held)
    open_ids = {
        seq
        for gap in gaps(lake, market_type=market, kind="trade", symbol=symbol)
        if gap.state == "open" and gap.id_from is not None and gap.id_to is not None
        for seq in range(gap.id_from, gap.id_to)
    }
    assert set(range(min(held), max(held) + 1)) - set(held) == open_ids
    assert open_ids <= set(truth.of("trade", market, symbol)), "a gap names ids that never existed"


def test_garbage_is_in_quarantine_and_counted_and_the_connection_lived_on(faulted: tuple[Path, Truth]) -> None:
    lake, _ = faulted
    manifest = Manifest.read_only(lake)
    try:
        rows = manifest.quarantine()
    finally:
        manifest.close()
    assert sum(row.count for row in rows) >= 8
    assert all((lake / row.path).is_file() for row in rows)
    assert not any("passwd" in path.name for path in lake.parent.rglob("*"))


def test_the_lake_verifies_and_dl_gaps_says_what_is_open(faulted: tuple[Path, Truth]) -> None:
    lake, _ = faulted
    assert dl_json("verify", "--lake", lake)["ok"]
    listed = dl("gaps", "--lake", lake, expect=1).stdout
    assert "jump" in listed
