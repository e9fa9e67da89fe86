"""A venue announces its shutdown: each connection is handed over, shown by ids, without a gap; replayed the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lake.manifest import Manifest
from tests.support.commands import dl, dl_json
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config
from tests.support.venue_live import in_sync

pytestmark = pytest.mark.timeout(600)

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
KINDS = {
    "spot": ["trade", "quote", "book_delta", "kline"],
    "linear": ["trade", "quote", "book_delta", "mark_price", "liquidation"],
}


def reports(port: int) -> list[dict[str, Any]]:
    """What the collectors of both markets say."""
    said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["collectors"]["report"]
    return [said.get(f"binance/{market}", {}) for market in KINDS]


def handed_over(lake: Path) -> list[str]:
    """What the rows of the sessions that were handed over say."""
    manifest = Manifest.read_only(lake)
    try:
        return [row.close_cause or "" for row in manifest.sessions() if (row.close_cause or "").startswith("handover")]
    finally:
        manifest.close()


def ledger(lake: Path) -> tuple[list[Any], list[Any]]:
    """Gaps that are not closed, and the spans that are covered of each stream."""
    manifest = Manifest.read_only(lake)
    try:
        gaps = [(gap.kind, gap.symbol, gap.cause, gap.id_from, gap.id_to) for gap in manifest.gaps()]
        spans: dict[tuple[str, str, str], list[list[int]]] = {}
        for row in sorted(manifest.coverage(), key=lambda row: row.ts_from):
            held = spans.setdefault((row.market_type, row.kind, row.symbol), [])
            if held and row.ts_from <= held[-1][1]:
                held[-1][1] = max(held[-1][1], row.ts_to)
            else:
                held.append([row.ts_from, row.ts_to])
        return gaps, sorted(spans.items())
    finally:
        manifest.close()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handover")
    port = free_port()
    with simulator(folder, "--symbols", ",".join(SYMBOLS), "--rate", "600") as exchange:
        sources = [exchange.source(market, SYMBOLS, kinds) for market, kinds in KINDS.items()]
        daemon = Daemon(write_config(folder / "config.json", folder / "lake", sources, port), folder / "daemon.log")
        daemon.wait_until_ready(port)
        wait_for("all streams", lambda: in_sync(reports(port), 3, r".*@(forceOrder|kline)"))
        exchange.fault("shutdown", market="spot", seconds=60)
        exchange.fault("shutdown", market="linear", seconds=60)
        wait_for("the handovers", lambda: len(handed_over(folder / "lake")) == 1)
        wait_for("all streams again", lambda: in_sync(reports(port), 3, r".*@(forceOrder|kline)"))
        assert daemon.stop() == 0, daemon.log.read_text()[-4000:]
    return folder / "lake"


def test_it_is_shown_by_overlapping_ids_and_there_is_no_gap(lake: Path) -> None:
    (said,) = handed_over(lake)
    assert " streams joined by ids" in said
    assert ledger(lake)[0] == []
    for stream, spans in ledger(lake)[1]:
        assert len(spans) == 1, stream


def test_a_replay_of_both_sessions_says_the_same(lake: Path, tmp_path: Path) -> None:
    dl("transform", "--lake", lake)
    for market in KINDS:
        frames = sorted((lake / "frames" / "exchange=binance" / f"market_type={market}").rglob("*.zst"))
        done = dl_json(
            "replay", *frames, "--exchange", "binance", "--market-type", market, "--lake", tmp_path / "again"
        )
        assert done["replayed"]["rejected"] == {}
    assert ledger(tmp_path / "again") == ledger(lake)
