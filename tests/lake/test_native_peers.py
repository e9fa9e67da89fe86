"""What hftbacktest and nautilus_trader themselves read of our exports; each in an environment of its own."""

from __future__ import annotations

import json
import subprocess

import pytest

from market.times import MS, SECOND
from scripts.bench_harness import peer_python
from tests.lake.test_native import ASKS, BIDS, made
from tests.support.book_rows import delta, whole
from tests.support.book_rows import table as books
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, quote, trade

pytestmark = pytest.mark.slow
HFTBACKTEST = ["hftbacktest==2.4.4"]
NAUTILUS = ["nautilus_trader==1.221.0"]
ASK_HFTBACKTEST = """
import json, sys
import numpy as np
from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest
from hftbacktest.data import validate_event_order
from hftbacktest.types import event_dtype
data = np.load(sys.argv[1])["data"]
assert data.dtype == event_dtype, data.dtype
validate_event_order(data)
asset = (BacktestAsset().data([sys.argv[1]]).linear_asset(1.0).constant_order_latency(0, 0)
         .risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0, 0)
         .tick_size(0.25).lot_size(0.25).last_trades_capacity(100))
hbt = HashMapMarketDepthBacktest([asset])
told = []
while hbt.elapse(1_000_000_000) == 0:
    depth = hbt.depth(0)
    trades = hbt.last_trades(0)
    told.append([depth.best_bid, depth.best_ask, depth.bid_qty_at_tick(depth.best_bid_tick), len(trades)])
    hbt.clear_last_trades(0)
hbt.close()
print(json.dumps(told))
"""
ASK_NAUTILUS = """
import json, sys
from nautilus_trader.model.data import OrderBookDelta
from nautilus_trader.persistence.catalog import ParquetDataCatalog
catalog = ParquetDataCatalog(sys.argv[1])
of = [sys.argv[2]]
ticks = catalog.trade_ticks(instrument_ids=of)
quotes = catalog.quote_ticks(instrument_ids=of)
deltas = catalog.order_book_deltas(instrument_ids=of)
bars = catalog.bars(instrument_ids=of)
print(json.dumps({
    "trades": [[str(t.price), str(t.size), t.aggressor_side.name, str(t.trade_id), t.ts_event] for t in ticks],
    "quotes": [[str(q.bid_price), str(q.ask_price), str(q.bid_size), str(q.ask_size), q.ts_event] for q in quotes],
    "deltas": [[d.action.name, d.order.side.name, str(d.order.price), str(d.order.size), d.flags] for d in deltas],
    "bars": [[str(b.bar_type), str(b.open), str(b.close), str(b.volume), b.ts_event] for b in bars],
}))
"""


@pytest.fixture
def lake(tmp_path):
    held = TestLake(tmp_path / "lake")
    late = {2: 3 * SECOND}
    rows = [
        trade(T0 + n * SECOND, f"100.{n}", "0.25", n, side="sell" if n % 2 else "buy",
              ts_recv=T0 + n * SECOND + late.get(n, 5 * MS)) for n in range(1, 6)
    ]  # fmt: skip
    held.day("trade", rows)
    held.day("book_delta", books([
        whole(T0, 10, BIDS, ASKS),
        delta(T0 + SECOND, 11, [("100.0", "0")], [("100.5", "3")]),
        whole(T0 + 4 * SECOND, 20, [("98", "1")], [("99.25", "2")]),
    ]))  # fmt: skip
    held.day("quote", [quote(T0 + n * SECOND, "100.1", "100.25", n) for n in range(1, 3)])
    held.day("bar_1m", bar_table(rows))
    yield held
    held.close()


def asked(name, requirements, probe, program, *words):
    python = peer_python(name, requirements, probe)
    if python is None:
        pytest.skip(f"{name} cannot be installed here")
    done = subprocess.run([python, "-c", program, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(900)
def test_hftbacktest_runs_over_the_day(lake, tmp_path):
    (one,) = made(lake, tmp_path / "out", "hftbacktest")
    told = asked("hftbacktest", HFTBACKTEST, "import hftbacktest", ASK_HFTBACKTEST, one.path)
    assert told == [
        [99.5, 100.5, 2.0, 0], [99.5, 100.5, 2.0, 1], [99.5, 100.5, 2.0, 0], [98.0, 99.25, 1.0, 1],
        [98.0, 99.25, 1.0, 2],
    ], "best bid, best ask, quantity of the bid, trades heard of: second by second"  # fmt: skip


@pytest.mark.timeout(900)
def test_nautilus_reads_the_catalog(lake, tmp_path):
    name = "BTCUSDT-PERP.BINANCE"
    made(lake, tmp_path / "out", "nautilus", ("trade", "quote", "book_delta", "bar_1m"), instrument=name)
    told = asked("nautilus", NAUTILUS, "import nautilus_trader", ASK_NAUTILUS, tmp_path / "out", name)
    at = [(T0 + n * SECOND) * 1000 for n in range(7)]
    assert [row[:5] for row in told["trades"]] == [
        ["100.1", "0.25", "SELLER", "1", at[1]], ["100.3", "0.25", "SELLER", "3", at[3]],
        ["100.4", "0.25", "BUYER", "4", at[4]], ["100.2", "0.25", "BUYER", "2", at[2]],
        ["100.5", "0.25", "SELLER", "5", at[5]],
    ]  # fmt: skip
    assert told["quotes"] == [["100.10", "100.25", "1", "2", at[1]], ["100.10", "100.25", "1", "2", at[2]]]
    assert [row[0] for row in told["deltas"]] == [
        "CLEAR", "ADD", "ADD", "ADD", "ADD", "DELETE", "UPDATE", "CLEAR", "ADD", "ADD",
    ]  # fmt: skip
    assert told["deltas"][5][1:3] == ["BUY", "100.00"]
    assert told["bars"] == [[f"{name}-1-MINUTE-LAST-EXTERNAL", "100.1", "100.5", "1.25", at[0] + 60_000_000_000]]
