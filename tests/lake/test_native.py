"""Exports in other programs' own formats, held against what their documentation says of them."""

from __future__ import annotations

import decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import Lake, hft_events, native, nautilus
from lake.errors import WrongQuestion
from market.times import DAY, MINUTE, MS, SECOND, Interval
from tests.support.book_rows import delta, whole
from tests.support.book_rows import table as books
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, quote, trade

EVENT = np.dtype(
    [
        ("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8"), ("order_id", "u8"),
        ("ival", "i8"), ("fval", "f8"),
    ],
    align=True,
)  # fmt: skip
"""As hftbacktest 2 documents its events."""
EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
BIDS, ASKS = [("100.0", "1"), ("99.5", "2")], [("100.5", "1"), ("101.0", "2")]


@pytest.fixture
def lake(tmp_path: Path):
    """Five trades, of which one arrived behind the next, one was none of the market; a book that begins anew."""
    held = TestLake(tmp_path / "lake")
    late = {2: 3 * SECOND}
    rows = [
        trade(T0 + n * SECOND, f"100.{n}", "0.25", n, side="sell" if n % 2 else "buy", ts_recv=T0 + n * SECOND
              + late.get(n, 5 * MS)) for n in range(1, 6)
    ]  # fmt: skip
    held.day("trade", [*rows, trade(T0 + 6 * SECOND, "9", "1", 6, condition="adl")])
    held.day("book_delta", books([
        whole(T0, 10, BIDS, ASKS),
        delta(T0 + SECOND, 11, [("100.0", "0")], [("100.5", "3")]),
        whole(T0 + 4 * SECOND, 20, [("98", "1")], [("99.25", "2")]),
    ]))  # fmt: skip
    held.cover(T0, T0 + DAY, kind="book_delta")
    held.day("quote", [quote(T0 + n * SECOND, "100.1", "100.25", n) for n in range(1, 3)])
    held.day("bar_1m", bar_table(rows))
    yield held
    held.close()


def made(lake, folder, form, whats=(), span=None, **asked):
    with Lake(lake.root) as held:
        tasks = native.plan(held, form, whats, None, None, [], span, **asked)
        return [native.export(held, task, form, folder) for task in tasks]


def test_hftbacktest_gets_its_array_of_trades_and_book_in_both_orders(lake, tmp_path):
    (one,) = made(lake, tmp_path / "out", "hftbacktest")
    assert Path(one.path).name == "binance_linear_2024-07-19_BTCUSDT.npz"
    data = np.load(one.path)["data"]
    assert data.dtype == EVENT
    assert (len(data), one.rows, one.left_out) == (16, 16, 1)
    told = [(int(row["ev"]) & 0xFF, float(row["px"]), float(row["qty"])) for row in data if row["ev"] & LOCAL]
    assert told == [
        (3, 0, 0), (4, 100, 1), (4, 99.5, 2), (4, 100.5, 1), (4, 101, 2),
        (1, 100, 0), (1, 100.5, 3), (2, 100.1, 0.25), (2, 100.3, 0.25),
        (3, 0, 0), (4, 98, 1), (4, 99.25, 2), (2, 100.4, 0.25), (2, 100.2, 0.25), (2, 100.5, 0.25),
    ]  # fmt: skip
    in_order(data)
    bids = [float(row["px"]) for row in data if int(row["ev"]) & (0xFF | BUY) == 4 | BUY]
    assert bids == [100, 99.5, 98]
    trades = [row for row in data if int(row["ev"]) & 0xFF == 2]
    assert [row["exch_ts"] // 1000 - T0 for row in trades if row["ev"] & EXCH] == [n * SECOND for n in range(1, 6)]
    arrived = [row["local_ts"] // 1000 - T0 for row in trades if row["ev"] & LOCAL]
    assert arrived == [SECOND + 5 * MS, 3 * SECOND + 5 * MS, 4 * SECOND + 5 * MS, 5 * SECOND, 5 * SECOND + 5 * MS]
    assert {int(row["ev"]) & (BUY | SELL) for row in trades} == {BUY, SELL}
    again = Path(one.path).read_bytes()
    assert Path(made(lake, tmp_path / "out", "hftbacktest")[0].path).read_bytes() == again
    assert [path.name for path in (tmp_path / "out").iterdir()] == [Path(one.path).name], "nothing is left beside it"


def in_order(data):
    """What its own `validate_event_order` asks for."""
    for flag, name in ((EXCH, "exch_ts"), (LOCAL, "local_ts")):
        assert (np.diff(data[name][data["ev"] & flag == flag]) >= 0).all(), name


STEPS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 120), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=15, deadline=None)
@given(STEPS, st.integers(3, 9), st.sampled_from([1, 20, 100]))
def test_every_event_is_told_once_to_each_and_to_each_in_order(steps, pieces, window):
    """`steps` are (own time, how late it arrived, which of two sources)."""
    sides = []
    for which in (True, False):
        rows = sorted((own + late, own, n) for n, (own, late, mine) in enumerate(steps) if mine is which)
        columns = {
            "ev": [2 if which else 1] * len(rows), "exch_ts": [row[1] for row in rows],
            "local_ts": [row[0] for row in rows], "px": [float(row[2]) for row in rows], "qty": [1.0] * len(rows),
        }  # fmt: skip
        frame = pl.DataFrame(columns, schema=hft_events.SCHEMA)
        sides.append(iter([frame.slice(at, pieces) for at in range(0, max(frame.height, 1), pieces)]))
    order = hft_events.Ordered()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hft_events, "WINDOW", window)
        frames = list(order.of(hft_events.merged(*sides)))
    data = np.frombuffer(b"".join(hft_events.packed(frame) for frame in frames), EVENT)
    in_order(data)
    for flag in (EXCH, LOCAL):
        assert sorted(data["px"][data["ev"] & flag == flag]) == list(range(len(steps)))
    mine = {n: own for n, (own, _, _) in enumerate(steps)}
    moved = sum(row["exch_ts"] != mine[int(row["px"])] for row in data if row["ev"] & EXCH)
    assert moved == order.behind
    assert window < 100 or not moved or max(late for _, late, _ in steps) >= window


def read(one):
    table = pq.read_table(one.path)
    raw = {name: [int.from_bytes(value, "little", signed=True) for value in table.column(name).to_pylist()]
           for name in table.column_names if table.schema.field(name).type == nautilus._RAW}  # fmt: skip
    with decimal.localcontext(prec=60):
        found = {name: [f"{decimal.Decimal(v).scaleb(-16).normalize():f}" for v in raw[name]] for name in raw}
    plain = {name: table.column(name).to_pylist() for name in table.column_names if name not in raw}
    return found | plain, {key.decode(): value.decode() for key, value in pq.read_metadata(one.path).metadata.items()}


def test_nautilus_gets_a_catalog_of_trades_quotes_book_and_bars(lake, tmp_path):
    found = made(lake, tmp_path / "out", "nautilus", ("trade", "quote", "book_delta", "bar_1m"))
    paths = [Path(one.path).relative_to(tmp_path / "out").as_posix() for one in found]
    day = "2024-07-19T00-00-00-000000000Z_2024-07-19T23-59-59-999999999Z.parquet"
    closes = "2024-07-19T00-01-00-000000000Z_2024-07-20T00-00-00-000000000Z.parquet"
    assert paths == [
        f"data/trade_tick/BTCUSDT-LINEAR.BINANCE/{day}",
        f"data/quote_tick/BTCUSDT-LINEAR.BINANCE/{day}",
        f"data/order_book_delta/BTCUSDT-LINEAR.BINANCE/{day}",
        f"data/bar/BTCUSDT-LINEAR.BINANCE-1-MINUTE-LAST-EXTERNAL/{closes}",
    ]
    trades, said = read(found[0])
    assert {name: said[name] for name in said if name != "ARROW:schema"} == {
        "instrument_id": "BTCUSDT-LINEAR.BINANCE", "price_precision": "1", "size_precision": "2",
    }  # fmt: skip
    assert (trades["price"], trades["size"][0]) == (["100.1", "100.3", "100.4", "100.2", "100.5"], "0.25")
    assert (trades["aggressor_side"], trades["trade_id"]) == ([2, 2, 1, 1, 2], ["1", "3", "4", "2", "5"])
    assert trades["ts_init"] == sorted(trades["ts_init"])
    assert [at // 1000 - T0 for at in trades["ts_event"]] == [n * SECOND for n in (1, 3, 4, 2, 5)]
    quotes, _ = read(found[1])
    assert (quotes["bid_price"], quotes["ask_price"], quotes["ask_size"]) == (["100.1"] * 2, ["100.25"] * 2, ["2"] * 2)
    deltas, said = read(found[2])
    assert (said["price_precision"], said["size_precision"]) == ("2", "0")
    columns = (deltas[name] for name in ("action", "side", "price", "size", "flags"))
    assert list(zip(*columns, strict=True)) == [
        (4, 0, "0", "0", 32), (1, 1, "100", "1", 32), (1, 1, "99.5", "2", 32), (1, 2, "100.5", "1", 32),
        (1, 2, "101", "2", 160), (3, 1, "100", "0", 0), (2, 2, "100.5", "3", 128),
        (4, 0, "0", "0", 32), (1, 1, "98", "1", 32), (1, 2, "99.25", "2", 160),
    ]  # fmt: skip
    bars, said = read(found[3])
    assert said["bar_type"] == "BTCUSDT-LINEAR.BINANCE-1-MINUTE-LAST-EXTERNAL"
    assert (bars["open"], bars["close"], bars["volume"]) == (["100.1"], ["100.5"], ["1.25"])
    assert bars["ts_event"] == bars["ts_init"] == [(T0 + MINUTE) * 1000]
    assert [one.left_out for one in found] == [1, 0, 0, 0]


def test_a_part_of_a_day_and_a_name_of_ones_own(lake, tmp_path):
    span = Interval(T0 + 2 * SECOND, T0 + 4 * SECOND)
    (one,) = made(lake, tmp_path / "out", "nautilus", ("trade",), span, instrument="BTCUSDT-PERP.BINANCE")
    assert (one.rows, Path(one.path).parent.name) == (2, "BTCUSDT-PERP.BINANCE")
    (events,) = made(lake, tmp_path / "out", "hftbacktest", (), span)
    data = np.load(events.path)["data"]
    assert int(data["ev"][0]) & 0xFF == 3, "the book as it is at the start"
    in_order(data)


def test_a_day_without_a_book_or_without_trades(tmp_path):
    held = TestLake(tmp_path / "lake")
    held.day("agg_trade", [trade(T0 + n, "1.5", "2", n, first_id=n, last_id=n) for n in range(1, 3)])
    held.day("book_delta", books([whole(T0 + DAY, 10, BIDS, ASKS)]))
    found = made(held, tmp_path / "out", "hftbacktest")
    assert [(one.date, one.rows) for one in found] == [("2024-07-20", 5), ("2024-07-19", 2)]
    held.close()


def test_what_the_formats_cannot_hold_is_said(lake, tmp_path):
    with Lake(lake.root) as held:
        for form, what, why in (
            ("hftbacktest", "trades", "trades is not exported for hftbacktest .use events"),
            ("nautilus", "liquidation", "use trade, quote, book_delta, bar_1s, bar_1m"),
        ):
            with pytest.raises(WrongQuestion, match=why):
                native.plan(held, form, [what], None, None, [], None)
    with pytest.raises(WrongQuestion, match="price cannot be told to nautilus"):
        nautilus.fixed(pl.Series(["0.00000000000000001"]), "price")
    lake.day("trade", [trade(T0 + DAY, "1", "1", 9, symbol="btc.usdt")], symbol="btc.usdt")
    lake.day("trade", [trade(T0 + DAY, "1", "1", 9, symbol="btc usdt")], symbol="btc usdt")
    with pytest.raises(WrongQuestion, match=r"would both be data/trade_tick/btc_usdt-LINEAR.BINANCE"):
        made(lake, tmp_path / "out", "nautilus", ("trade",))
