"""A small lake that every question of docs/queries has an answer in: some hours of one day, made by hand."""

from pathlib import Path

import polars as pl
import pyarrow as pa

from features import Put, put
from lake import tables
from lake.rows import CertificateRow, FileRow, SessionRow
from market.times import DAY, HOUR, MINUTE, SECOND
from tests.support import book_rows, candles
from tests.support.lakes import STREAM, TestLake, bar_table
from tests.support.market_rows import T0, quote, table, trade

HOURS = 3
OKX = {"exchange": "okx", "symbol": "BTC-USDT-SWAP"}
HOLE = (T0 + 95 * MINUTE, T0 + 97 * MINUTE)


def trades(every: int = 15 * SECOND, **more: object) -> list[dict]:
    """Prices that swing around 60,000; the largest trade is the one of id 300."""
    count = HOURS * HOUR // every
    return [
        trade(T0 + n * every + 1, f"{60_000 + (n * 37) % 101 - 50}.5", "9" if n == 300 else f"0.{1 + n % 9}", seq=n,
              ts_recv=T0 + n * every + 4_001, side="buy" if n % 3 else "sell", **more)
        for n in range(1, count)
        if not HOLE[0] <= T0 + n * every < HOLE[1]
    ]  # fmt: skip


def build(root: Path) -> TestLake:
    lake = TestLake(root)
    held = trades()
    day = lake.day("trade", held)
    lake.day("bar_1m", bar_table(held))
    other = trades(**OKX)
    lake.day("bar_1m", bar_table(other), **OKX)
    lake.day("quote", [
        quote(T0 + n * 10 * SECOND, f"{60_000 + n % 50 - 25}", f"{60_001 + n % 50 - 25}", update_id=n)
        for n in range(1, 600)
    ])  # fmt: skip
    _momentum(lake)
    _books(lake)
    _reference(lake, candles.candles_of(held))
    lake.cover(T0, T0 + DAY)
    lake.gap(*HOLE, id_from=380, id_to=388)
    lake.gap(T0 + HOUR, T0 + HOUR + SECOND, symbol="ETHUSDT", state="repaired", closed_at=T0 + DAY)
    lake.writer.record_sessions([
        SessionRow(session="n-1-1", source="ws", url="wss://venue.test/ws", opened_at=T0, closed_at=T0 + DAY, **STREAM)
    ])  # fmt: skip
    lake.writer.publish(certificates=[certificate(day)], now=T0 + DAY)
    return lake


def certificate(file: FileRow) -> CertificateRow:
    return CertificateRow(
        path=file.path, sha256=file.sha256, kind=file.kind, symbol=file.symbol, date=file.date, revision=1,
        issued_at=T0 + DAY, rows=file.rows, missing=8, gap_seconds=120.0, verified="candles", **STREAM,
    )  # fmt: skip


def _momentum(lake: TestLake) -> None:
    """A feature set: of each minute its number, known a minute later."""
    times = pl.Series("ts_event", [T0 + n * MINUTE for n in range(HOURS * 60)], pl.Datetime("us", "UTC"))
    rows = pl.DataFrame([times, pl.Series("x", range(HOURS * 60))])
    put(lake.writer, rows, Put(**STREAM, symbol="BTCUSDT", feature_set="momentum", delay=MINUTE), T0 + DAY)


def _books(lake: TestLake) -> None:
    bids, asks = [("60000", "1"), ("59999", "2.5")], [("60001", "0.5")]
    updates = [
        book_rows.delta(T0 + n * SECOND, n, bids=bids if n % 2 else [("59999", "0")], asks=asks) for n in range(1, 60)
    ]
    lake.day("book_delta", book_rows.table([book_rows.whole(T0, 0, bids, asks), *updates]))
    sampled = {name: book_rows.levels([side])[0][0].as_py() for name, side in (("bids", bids), ("asks", asks))}
    rows = [
        {name: trade(T0 + n * SECOND, "1", "1")[name] for name in _COMMON} | sampled | {"in_sync": True}
        for n in range(60)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    lists = {name: pa.array(columns.pop(name), tables.LEVELS) for name in ("bids", "asks")}
    made = {name: pa.array(values) for name, values in columns.items()} | lists
    lake.day("book_sample", tables.conform(pa.table(made), "book_sample"))


_COMMON = ("exchange", "market_type", "symbol", "date", "ts_event", "ts_estimated", "ts_recv", "source")


def _reference(lake: TestLake, told: list[dict]) -> None:
    """Kinds whose daily files hold all symbols."""
    told[5] |= {"close": "1234.5", "revision": 0}
    told.insert(8, told[7] | {"revision": 1, "volume_base": "77", "frame_no": 2})

    def at(time: int, **more: object) -> dict:
        return {name: trade(time, "1", "1")[name] for name in (*_COMMON, "session", "frame_no", "item")} | more

    lake.day("kline", table("kline", told), symbol=None)
    lake.day("funding_rate", table("funding_rate", [at(T0, rate="0.0001", rate_kind="ratio", interval_s=28_800)]),
             symbol=None)  # fmt: skip
    lake.day("open_interest", table("open_interest", [
        at(T0 + n * 10 * MINUTE, oi=f"{1000 + n}", oi_unit="base", sides=1) for n in range(HOURS * 6)
    ]), symbol=None)  # fmt: skip
    lake.day("mark_price", table("mark_price", [
        at(T0 + n * SECOND, mark="60006", index="60000", predicted_rate="0.0002") for n in range(90)
    ]), symbol=None)  # fmt: skip
    forced = at(T0 + 90 * SECOND, side="sell", price="58000", qty="2", qty_unit="base", multiplier="1", seq=1)
    lake.day("liquidation", table("liquidation", [forced]), symbol=None)
    share = {"exchange": "import", "market_type": "equity", "symbol": "SPY"}
    minutes = [
        candles.candle(T0 + n * MINUTE, open=f"{500 + n % 7}", high="600", low="400", close=f"{500 + n % 7}",
                       volume_base="1", **share)
        for n in range(30)
    ]  # fmt: skip
    lake.day("kline", table("kline", minutes), **(share | {"symbol": None}))
