"""The peers of `bench_transform.py`: lines to 1 s bars, and 1 s bars to 1 m, as their users write it.

Each is one function of (what it is told, its folder), runs in a process of its own and measures itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import bench_harness as harness  # noqa: E402 -- it lies beside this file

FOLDS = 3
"""Times that a day is folded after the first."""
COLUMNS = ("open", "high", "low", "close", "volume_base", "volume_quote", "trade_count", "vwap", "bid", "ask", "spread")


# -- what people use: the lines to one file of bars -------------------------------------------------------------------


def files(load: dict[str, Any], kind: str) -> list[str]:
    return sorted(
        str(path) for path in (Path(load["lake"]) / "raw").rglob("*.jsonl") if f"data_type={kind}/" in str(path)
    )


def pandas_bars(trades: Any, quotes: Any, out: Path) -> None:
    import pandas as pd

    def window(frame: Any) -> Any:
        return pd.to_datetime(frame["ts_event"], unit="us", utc=True).dt.floor("1s")

    trades["window"], quotes["window"] = window(trades), window(quotes)
    trades["quote"] = trades["price"] * trades["qty"]
    grouped = trades.groupby(["symbol", "window"], sort=True)
    bars = grouped["price"].agg(["first", "max", "min", "last"])
    bars.columns = ["open", "high", "low", "close"]
    bars["volume_base"] = grouped["qty"].sum()
    bars["volume_quote"] = grouped["quote"].sum()
    bars["trade_count"] = grouped.size()
    bars["vwap"] = bars["volume_quote"] / bars["volume_base"]
    last = quotes.groupby(["symbol", "window"], sort=True)[["bid", "ask"]].last()
    bars = bars.join(last)
    bars["spread"] = bars["ask"] - bars["bid"]
    bars.reset_index().to_parquet(out / "bars.parquet")


def _looped(loads: Callable[[bytes], Any], load: dict[str, Any], out: Path) -> harness.Measured:
    import pandas as pd

    watch = harness.Stopwatch()
    frames = []
    for kind, numbers in (("trade", ("price", "qty")), ("quote", ("bid", "ask"))):
        columns: dict[str, list[Any]] = {name: [] for name in ("symbol", "ts_event", *numbers)}
        for path in files(load, kind):
            with Path(path).open("rb") as file:
                for line in file:
                    row = loads(line)
                    columns["symbol"].append(row["symbol"])
                    columns["ts_event"].append(row["ts_event"])
                    for name in numbers:
                        columns[name].append(float(row[name]))
        frames.append(pd.DataFrame(columns))
    pandas_bars(*frames, out)
    return watch.result()


def json_pandas(load: dict[str, Any], out: Path) -> harness.Measured:
    return _looped(json.loads, load, out)


def orjson_pandas(load: dict[str, Any], out: Path) -> harness.Measured:
    import orjson

    return _looped(orjson.loads, load, out)


def pandas_json(load: dict[str, Any], out: Path) -> harness.Measured:
    import pandas as pd

    watch = harness.Stopwatch()
    frames = []
    for kind, numbers in (("trade", ["price", "qty"]), ("quote", ["bid", "ask"])):
        read = [pd.read_json(path, lines=True, dtype=False, convert_dates=False) for path in files(load, kind)]
        frame = pd.concat(read, ignore_index=True)[["symbol", "ts_event", *numbers]]
        frames.append(frame.astype(dict.fromkeys(numbers, "float64")))
    pandas_bars(*frames, out)
    return watch.result()


def pyarrow_json(load: dict[str, Any], out: Path) -> harness.Measured:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from pyarrow import json as pj

    watch = harness.Stopwatch()
    made = []
    for kind, numbers in (("trade", ("price", "qty")), ("quote", ("bid", "ask"))):
        fields = [("symbol", pa.string()), ("ts_event", pa.int64()), *((name, pa.string()) for name in numbers)]
        options = pj.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore")
        table = pa.concat_tables([pj.read_json(path, parse_options=options) for path in files(load, kind)])
        for name in numbers:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.float64()))
        at = table["ts_event"]
        window = pc.multiply(pc.divide(at, 1_000_000), 1_000_000)
        made.append(table.append_column("window", window.cast(pa.timestamp("us", "UTC"))))
    trades, quotes = made
    trades = trades.append_column("quote", pc.multiply(trades["price"], trades["qty"]))
    keys = ["symbol", "window"]
    bars = trades.group_by(keys, use_threads=False).aggregate(
        [("price", "first"), ("price", "max"), ("price", "min"), ("price", "last"), ("qty", "sum"), ("quote", "sum"),
         ("price", "count")]
    )  # fmt: skip
    last = quotes.group_by(keys, use_threads=False).aggregate([("bid", "last"), ("ask", "last")])
    bars = bars.rename_columns([*keys, *COLUMNS[:7]]).join(last.rename_columns([*keys, "bid", "ask"]), keys)
    bars = bars.append_column("vwap", pc.divide(bars["volume_quote"], bars["volume_base"]))
    bars = bars.append_column("spread", pc.subtract(bars["ask"], bars["bid"]))
    pq.write_table(bars, out / "bars.parquet")
    return watch.result()


def polars_json(load: dict[str, Any], out: Path) -> harness.Measured:
    import polars as pl

    watch = harness.Stopwatch()

    def scan(kind: str, numbers: tuple[str, ...]) -> pl.LazyFrame:
        schema = {"symbol": pl.String, "ts_event": pl.Int64} | dict.fromkeys(numbers, pl.String)
        window = pl.from_epoch(
            pl.col("ts_event") - pl.col("ts_event") % 1_000_000, time_unit="us"
        ).dt.replace_time_zone("UTC")
        # schema, not schema_overrides: nothing is inferred, and fields that are not named are not read
        lines = pl.scan_ndjson(files(load, kind), schema=schema)
        return lines.with_columns(*(pl.col(name).cast(pl.Float64) for name in numbers), window=window)

    polars_bars(scan("trade", ("price", "qty")), scan("quote", ("bid", "ask"))).sink_parquet(
        out / "bars.parquet", engine="streaming"
    )
    return watch.result()


def polars_bars(trades: Any, quotes: Any) -> Any:
    """1 s bars from lazy frames of trades and quotes, which have their `window`."""
    import polars as pl

    bars = trades.group_by("symbol", "window", maintain_order=True).agg(
        pl.col("price").first().alias("open"), pl.col("price").max().alias("high"), pl.col("price").min().alias("low"),
        pl.col("price").last().alias("close"), pl.col("qty").sum().alias("volume_base"),
        (pl.col("price") * pl.col("qty")).sum().alias("volume_quote"), pl.len().alias("trade_count"),
    )  # fmt: skip
    last = quotes.group_by("symbol", "window", maintain_order=True).agg(pl.col("bid", "ask").last())
    return bars.join(last, on=["symbol", "window"], how="left").with_columns(
        vwap=pl.col("volume_quote") / pl.col("volume_base"), spread=pl.col("ask") - pl.col("bid")
    )


def duckdb_json(load: dict[str, Any], out: Path) -> harness.Measured:
    import duckdb

    watch = harness.Stopwatch()

    def source(kind: str, number: str, texts: str) -> str:
        types = {"symbol": "VARCHAR", "ts_event": "BIGINT", number: "BIGINT"} | dict.fromkeys(texts.split(), "VARCHAR")
        columns = ", ".join(f"{name}: '{type_}'" for name, type_ in types.items())
        return f"read_ndjson({files(load, kind)}, columns={{{columns}}})"

    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        duckdb_bars(
            connection, "ts_event", source("trade", "seq", "price qty"), source("quote", "update_id", "bid ask"), out
        )
    return watch.result()


def duckdb_bars(connection: Any, time: str, trades: str, quotes: str, out: Path) -> None:
    """1 s bars from what `trades` and `quotes` name; `time` is their event time in us."""
    connection.execute(
        f"""
        COPY (
          WITH t AS (SELECT symbol, {time} // 1000000 AS w, seq, price::DOUBLE AS price, qty::DOUBLE AS qty
                     FROM {trades}),
               q AS (SELECT symbol, {time} // 1000000 AS w, arg_max(bid, update_id)::DOUBLE AS bid,
                            arg_max(ask, update_id)::DOUBLE AS ask
                     FROM {quotes}
                     GROUP BY ALL),
               b AS (SELECT symbol, w, arg_min(price, seq) AS open, max(price) AS high, min(price) AS low,
                            arg_max(price, seq) AS close, sum(qty) AS volume_base, sum(price * qty) AS volume_quote,
                            count(*) AS trade_count
                     FROM t GROUP BY ALL)
          SELECT b.* EXCLUDE (w), make_timestamptz(b.w * 1000000) AS "window", volume_quote / volume_base AS vwap,
                 q.bid, q.ask, q.ask - q.bid AS spread
          FROM b LEFT JOIN q ON b.symbol = q.symbol AND b.w = q.w
        ) TO '{out / "bars.parquet"}' (FORMAT parquet)
        """
    )


# -- one second to one minute -----------------------------------------------------------------------------------------


def _folded(load: dict[str, Any], read: Callable[[Path], Any], fold: Callable[[Any], Any]) -> harness.Measured:
    """The CPU time of a fold, once every library has loaded what it needs: a worker folds all day."""
    bars = read(Path(load["seconds"]))
    fold(bars)
    watch = harness.Stopwatch()
    for _ in range(FOLDS):
        fold(bars)
    measured = watch.result()
    return measured | {"cpu": measured["cpu"] / FOLDS, "wall": measured["wall"] / FOLDS}


def ours_fold(load: dict[str, Any], out: Path) -> harness.Measured:
    import pyarrow.parquet as pq

    from lake import bars

    kept: list[Any] = []
    measured = _folded(load, pq.read_table, lambda table: kept.append(bars.fold(table, 60_000_000)))
    pq.write_table(kept[0].rename_columns({"window_start": "window"}), out / "bars.parquet")
    return measured


def pandas_fold(load: dict[str, Any], out: Path) -> harness.Measured:
    import pandas as pd

    def fold(frame: Any) -> Any:
        rule = {"open": "first", "high": "max", "low": "min", "close": "last"}
        rule |= dict.fromkeys(("volume_base", "volume_quote", "trade_count"), "sum")
        rule |= dict.fromkeys(("bid", "ask", "spread"), "last")
        bars = frame.set_index("window_start").groupby("symbol", observed=True).resample("1min").agg(rule)
        bars["vwap"] = bars["volume_quote"] / bars["volume_base"]
        return bars.dropna(subset=["open"])

    kept: list[Any] = []
    measured = _folded(load, pd.read_parquet, lambda frame: kept.append(fold(frame)))
    kept[0].reset_index().rename(columns={"window_start": "window"}).to_parquet(out / "bars.parquet")
    return measured


def polars_fold(load: dict[str, Any], out: Path) -> harness.Measured:
    import polars as pl

    def fold(frame: pl.DataFrame) -> pl.DataFrame:
        window = pl.col("window_start").dt.truncate("1m").alias("window")
        return frame.group_by("symbol", window, maintain_order=True).agg(
            pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(),
            pl.col("volume_base", "volume_quote", "trade_count").sum(),
            pl.col("bid", "ask", "spread").drop_nulls().last(),
        ).with_columns(vwap=pl.col("volume_quote") / pl.col("volume_base"))  # fmt: skip

    kept: list[pl.DataFrame] = []
    measured = _folded(load, pl.read_parquet, lambda frame: kept.append(fold(frame)))
    kept[0].write_parquet(out / "bars.parquet")
    return measured


def duckdb_fold(load: dict[str, Any], out: Path) -> harness.Measured:
    import duckdb
    import pyarrow.parquet as pq

    query = """
        SELECT symbol, date_trunc('minute', window_start) AS "window", arg_min(open, window_start) AS open,
               max(high) AS high, min(low) AS low, arg_max(close, window_start) AS close,
               sum(volume_base) AS volume_base, sum(volume_quote) AS volume_quote, sum(trade_count) AS trade_count,
               arg_max(bid, window_start) AS bid, arg_max(ask, window_start) AS ask,
               arg_max(spread, window_start) AS spread, sum(volume_quote) / sum(volume_base) AS vwap
        FROM bars GROUP BY ALL"""

    def fold(bars: Any) -> Any:
        return duckdb.from_arrow(bars).query("bars", query).to_arrow_table()

    kept: list[Any] = []
    measured = _folded(load, pq.read_table, lambda bars: kept.append(fold(bars)))
    pq.write_table(kept[0], out / "bars.parquet")
    return measured
