"""A real recording through the transformer: segments by the minute, bars equal to the venue's own candles."""

import csv
import gzip
import hashlib
import json
import os
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from lake import durable, layout, parquet, segments
from lake.rows import SegmentRow
from lake.writer import LakeWriter
from market.kinds import Quote, Trade
from market.session import Coverage
from market.times import MINUTE, floor_to
from runtime.workers import InlineExecutor
from transformer.config import TransformerConfig
from transformer.service import transform_once

SAMPLES = Path(os.environ.get("LAKE_SAMPLES", Path(__file__).parents[3] / "shared" / "samples")) / "binance"
COLUMNS = {"open": "open", "high": "high", "low": "low", "close": "close", "volume_base": "volume",
           "volume_quote": "quote_volume", "trade_count": "count", "taker_buy_base": "taker_buy_volume",
           "taker_buy_quote": "taker_buy_quote_volume"}  # fmt: skip


def events():
    """(kind, event) of every trade and book ticker, in the order they were received."""
    for day in (8, 9):
        file = SAMPLES / f"hft_um_btcusdt_2024071{day}.gz"
        if not file.exists():
            pytest.skip(f"the real recordings are not at {SAMPLES} (set LAKE_SAMPLES)")
        for number, line in enumerate(gzip.decompress(file.read_bytes()).decode().splitlines(), start=1):
            recv, text = line.split(" ", 1)
            data = json.loads(text).get("data", {})
            common = (data.get("s"), "s", data.get("T", 0) * 1000, data.get("E", 0) * 1000, int(recv) // 1000,
                      f"n-{day}-1", number, 0, "import")  # fmt: skip
            if data.get("e") == "trade":
                condition = "market" if data["X"] == "MARKET" else "insurance_fund"
                side = "sell" if data["m"] else "buy"
                yield "trade", Trade(*common, data["p"], data["q"], side, data["t"], condition)
            elif data.get("e") == "bookTicker":
                yield "quote", Quote(*common, data["b"], data["B"], data["a"], data["A"], data["u"])


@pytest.fixture(scope="module")
def recorded():
    held = {}
    for kind, event in events():
        held.setdefault((kind, floor_to(event.ts_recv, MINUTE)), []).append(event)
    return held


def test_provisional_bars_of_a_real_recording_equal_the_venues_candles(tmp_path, recorded):
    minutes = sorted({minute for _, minute in recorded})
    seen = [e.ts_event for (kind, _), found in recorded.items() if kind == "trade" for e in found]
    with LakeWriter.open(tmp_path / "lake", "n", minutes[-1]) as writer:
        writer.record_coverage([Coverage("binance", "linear", kind, "BTCUSDT", "n-8-1", min(seen), max(seen))
                                for kind in ("trade", "quote")])  # fmt: skip
        for number, minute in enumerate([*minutes, minutes[-1] + MINUTE, minutes[-1] + 2 * MINUTE]):
            for kind in ("trade", "quote"):
                found = recorded.get((kind, minute), [])
                data = segments.encode_lines(found)
                path = layout.raw_path("binance", "linear", kind, minute, "n", number)
                row = SegmentRow(path=path, exchange="binance", market_type="linear", kind=kind, state="sealed",
                                 period_start=minute, period_end=minute + MINUTE, rows=len(found), bytes=len(data),
                                 sha256=hashlib.sha256(data).hexdigest() if data else "")  # fmt: skip
                if data:
                    durable.make_dirs((writer.root / path).parent)
                    durable.write_file(writer.root / path, data)
                writer.record(segments=[row])
            if number % 3 == 0:
                transform_once(writer, InlineExecutor(), minute + MINUTE, TransformerConfig())
        summary = transform_once(writer, InlineExecutor(), minutes[-1] + 3 * MINUTE, TransformerConfig())
        files = {kind: writer.manifest.files(kind) for kind in ("trade", "bar_1s", "bar_1m")}
        assert (summary.failed, summary.quarantined) == (0, 0)
        bars = pl.concat([pl.from_arrow(parquet.read(writer.root / row.path)) for row in files["bar_1m"]])
        narrow = pl.concat([pl.from_arrow(parquet.read(writer.root / row.path)) for row in files["bar_1s"]])
    assert sum(row.rows for row in files["trade"]) == len(seen)
    assert sum(row.late for row in files["trade"]) == 0
    assert {row.date for row in files["trade"]} == {"2024-07-18", "2024-07-19"}
    found = {int(bar["window_start"].timestamp() * 1000): bar for bar in bars.to_dicts()}
    assert len(found) == bars.height
    equal = 0
    for candle in csv.DictReader((SAMPLES / "klines_um_btcusdt_1m_20240718-19.csv").read_text().splitlines()):
        bar = found.get(int(candle["open_time"]))
        if bar is None or bar["partial"]:
            continue
        for ours, theirs in COLUMNS.items():
            assert Decimal(bar.get(f"{ours}_text") or repr(bar[ours])) == Decimal(candle[theirs])
        assert bar["bid"] < bar["ask"]
        equal += 1
    assert equal == 7
    assert narrow["trade_count"].sum() == bars["trade_count"].sum()
