"""What transforming costs: sealed JSONL to bars, by this project's transformer and by the tools that people use for it.

    python scripts/bench_transform.py [--quick] [--json] [--rows N] [--rounds N] [--sides A,B] [--flat N] [--out FILE]

N trades and N quotes of 10 symbols over an hour lie as sealed one-minute segments (`scripts/bench_load.py`). Sides:

- ours: the whole transformer as the daemon runs it: seals checked, every value checked, typed Parquet parts of all
  trades and quotes published (written, read back, hashed, synced, renamed), bars of 1 s and 1 m from them, every step
  in the manifest. `ours-bars` is the part of it that makes bars from parts that exist;
- json-pandas, pandas-json, orjson-pandas, pyarrow, polars, duckdb: the same lines straight to one Parquet file of 1 s
  bars, kept nowhere else: no typed rows, no checks, float sums.

First a round proves that all sides made the same bars (open, high, low, close, volumes, count, vwap, bid, ask, spread;
sums to 1e-9 of each other, since only ours are exact). Then a day of 1 s bars of 20 symbols is folded to 1 m.
`--flat N` also transforms N rows of each by ours alone and compares peak memory. Exit code 0, 1 where bars differ, 64.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import bench_harness as harness  # noqa: E402 -- it lies beside this file

NAMES = 10
HOUR = 3600 * 1_000_000
COLUMNS = ("open", "high", "low", "close", "volume_base", "volume_quote", "trade_count", "vwap", "bid", "ask", "spread")
OURS = ("ours", "ours-bars")
PEERS = ("json-pandas", "pandas-json", "orjson-pandas", "pyarrow", "polars", "duckdb")
FOLDS = ("ours-fold", "pandas-fold", "polars-fold", "duckdb-fold")


# -- ours -------------------------------------------------------------------------------------------------------------


def copied(load: dict[str, Any], out: Path) -> Path:
    """The sealed lake, its segments linked and not copied: nobody writes into them."""
    lake = out / "lake"
    shutil.copytree(load["lake"], lake, copy_function=lambda a, b: os.link(a, b) if "raw" in a else shutil.copy2(a, b))
    return lake


def ours(load: dict[str, Any], out: Path) -> harness.Measured:
    """One pass of the transformer over everything that is sealed."""
    return _transformed(copied(load, out), load)[0]


def ours_bars(load: dict[str, Any], out: Path) -> harness.Measured:
    """The part of that pass that makes bars; the parts before it are not counted, in memory they are."""
    measured, bars = _transformed(copied(load, out), load)
    return measured | {"cpu": bars, "split": {}}


def _transformed(lake: Path, load: dict[str, Any]) -> tuple[harness.Measured, float]:
    """(the whole pass, CPU seconds of the part that makes bars)."""
    from lake import parquet
    from lake.writer import LakeWriter
    from runtime.workers import InlineExecutor
    from transformer import reader, run, service
    from transformer.config import TransformerConfig

    bars, split = harness.Split(), harness.Split()
    bars.watch(service, "run_bars", "bars")
    split.watch(service, "run_transform", "parts: the rest")
    split.watch(service, "run_bars", "bars: read, fold")
    for owner, name, stage in (
        (reader, "_opened", "parts: read and hash bytes"), (reader, "_fast", "parts: lines to columns"),
        (run, "check_table", "parts: checks"), (run, "_ordered", "parts: order, duplicates"),
        (parquet, "write", "write Parquet"), (parquet, "verify", "read back and verify"),
        (parquet, "file_sha256", "hash what was written"),
    ):  # fmt: skip
        split.watch(owner, name, stage)
    with LakeWriter.open(lake, "bench", load["now"], simulated=True) as writer:
        watch = harness.Stopwatch()
        summary = service.transform_once(writer, InlineExecutor(), load["now"], TransformerConfig())
        measured = watch.result()
    assert summary.failed == summary.parked == summary.quarantined == 0
    assert summary.rows == 2 * load["rows"] == summary.lines
    stages = split.seconds | {"manifest, plan": measured["cpu"] - sum(split.seconds.values())}
    return measured | {"split": {name: round(seconds, 4) for name, seconds in stages.items()}}, bars.seconds["bars"]


# -- what people use: the lines to one file of bars -------------------------------------------------------------------


def files(load: dict[str, Any], kind: str) -> list[str]:
    return sorted(
        str(path) for path in (Path(load["lake"]) / "raw").rglob("*.jsonl") if f"data_type={kind}/" in str(path)
    )


def _pandas_bars(trades: Any, quotes: Any, out: Path) -> None:
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
    _pandas_bars(*frames, out)
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
    _pandas_bars(*frames, out)
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

    bars = scan("trade", ("price", "qty")).group_by("symbol", "window", maintain_order=True).agg(
        pl.col("price").first().alias("open"), pl.col("price").max().alias("high"), pl.col("price").min().alias("low"),
        pl.col("price").last().alias("close"), pl.col("qty").sum().alias("volume_base"),
        (pl.col("price") * pl.col("qty")).sum().alias("volume_quote"), pl.len().alias("trade_count"),
    )  # fmt: skip
    last = (
        scan("quote", ("bid", "ask")).group_by("symbol", "window", maintain_order=True).agg(pl.col("bid", "ask").last())
    )
    bars = bars.join(last, on=["symbol", "window"], how="left").with_columns(
        vwap=pl.col("volume_quote") / pl.col("volume_base"), spread=pl.col("ask") - pl.col("bid")
    )
    bars.sink_parquet(out / "bars.parquet", engine="streaming")
    return watch.result()


def duckdb_json(load: dict[str, Any], out: Path) -> harness.Measured:
    import duckdb

    watch = harness.Stopwatch()

    def source(kind: str, number: str, texts: str) -> str:
        types = {"symbol": "VARCHAR", "ts_event": "BIGINT", number: "BIGINT"} | dict.fromkeys(texts.split(), "VARCHAR")
        columns = ", ".join(f"{name}: '{type_}'" for name, type_ in types.items())
        return f"read_ndjson({files(load, kind)}, columns={{{columns}}})"

    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute(
            f"""
            COPY (
              WITH t AS (SELECT symbol, ts_event // 1000000 AS w, seq, price::DOUBLE AS price, qty::DOUBLE AS qty
                         FROM {source("trade", "seq", "price qty")}),
                   q AS (SELECT symbol, ts_event // 1000000 AS w, arg_max(bid, update_id)::DOUBLE AS bid,
                                arg_max(ask, update_id)::DOUBLE AS ask
                         FROM {source("quote", "update_id", "bid ask")}
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
    return watch.result()


# -- one second to one minute -----------------------------------------------------------------------------------------


def _folded(load: dict[str, Any], read: Callable[[Path], Any], fold: Callable[[Any], Any]) -> harness.Measured:
    bars = read(Path(load["seconds"]))
    watch = harness.Stopwatch()
    fold(bars)
    return watch.result()


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


SIDES = {
    "ours": ours, "ours-bars": ours_bars, "json-pandas": json_pandas, "pandas-json": pandas_json,
    "orjson-pandas": orjson_pandas, "pyarrow": pyarrow_json, "polars": polars_json, "duckdb": duckdb_json,
    "ours-fold": ours_fold, "pandas-fold": pandas_fold, "polars-fold": polars_fold, "duckdb-fold": duckdb_fold,
}  # fmt: skip


# -- the bench --------------------------------------------------------------------------------------------------------


def bars_of(name: str, out: Path) -> Any:
    """The bars that a side made, in one form: sorted by symbol and window."""
    import polars as pl

    if name in OURS:
        from lake import Lake

        with Lake(out / "lake") as lake:
            made = pl.DataFrame(lake.read("bar_1s")).rename({"window_start": "window"})
    else:
        made = pl.read_parquet(out / "bars.parquet")
    wanted = [pl.col("symbol").cast(pl.String), pl.col("window").dt.epoch("us").alias("window")]
    return made.select(*wanted, *(pl.col(name).cast(pl.Float64) for name in COLUMNS)).sort("symbol", "window")


def same(left: Any, right: Any) -> bool:
    """Whether two sides made the same bars: all windows, and every column to 1e-9 of each other."""
    import polars as pl

    if left.height != right.height or not left.height or not left[:, :2].equals(right[:, :2]):
        return False
    for name in COLUMNS:
        a, b = left[name], right[name]
        if not (a.is_null() == b.is_null()).all():
            return False
        near = pl.select((a - b).abs() <= pl.lit(a).abs() * 1e-9 + 1e-9).to_series()
        if not near.drop_nulls().all():
            return False
    return True


def compare(title: str, sides: list[str], ours: tuple[str, ...], load: dict[str, Any], place: Path, rounds: int) -> Any:
    """Proof, then rounds."""
    command = [sys.executable, __file__, "--side"]
    run = lambda name: harness.run_side(command, name, load, place / "run")  # noqa: E731
    first: list[Any] = []

    def equals(name: str, _: harness.Measured) -> bool:
        first.append(bars_of(name, place / "run"))
        return same(first[0], first.pop() if len(first) > 1 else first[0])

    runs, equal = harness.proven(sides, rounds, run, equals)
    note = f"{first[0].height:,} bars"
    return harness.part(title, runs, ours, equal, note)


def seconds_of_a_day(path: Path, symbols: int, seconds: int) -> None:
    """A file of 1 s bars as ours are, a bar in every second."""
    import bench_load
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lake import scaled, tables

    rng = np.random.default_rng(3)
    count = symbols * seconds
    start = bench_load.START + np.tile(np.arange(seconds) * 1_000_000, symbols)
    price = (10_000 + rng.integers(-5, 6, count).cumsum() % 5_000) / 100
    data: dict[str, Any] = {
        "symbol": pl.Series(bench_load.symbols(symbols)).gather(np.repeat(np.arange(symbols), seconds)).to_arrow(),
        "window_start": start, "ts_event": start, "ts_first": start + 1000, "ts_last": start + 900_000,
        "ts_quote": start + 950_000, "open": price, "high": price + 0.02, "low": price - 0.02, "close": price + 0.01,
        "bid": price, "ask": price + 0.01, "spread": np.full(count, 0.01), "bid_qty": price, "ask_qty": price,
        "trade_count": rng.integers(1, 50, count), "first_seq": np.arange(count), "last_seq": np.arange(count) + 1,
        "late": np.zeros(count, np.int64), "revision": np.zeros(count, np.int64),
    }  # fmt: skip
    for name, decimals in (("volume_base", 5), ("volume_quote", 7), ("taker_buy_base", 5), ("taker_buy_quote", 7)):
        texts = scaled.unscale(scaled.Scaled(pl.Series(rng.integers(1, 10**9, count)), decimals))
        floats, kept = scaled.split(texts)
        data[name], data[f"{name}_text"] = floats.to_arrow(), kept.to_arrow(compat_level=pl.CompatLevel.oldest())
    data["vwap"] = data["volume_quote"].to_numpy() / data["volume_base"].to_numpy()
    constants = {"exchange": "binance", "market_type": "linear", "source": "derived", "partial": False, "gap": False,
                 "ts_estimated": False, "date": None}  # fmt: skip
    made = pa.table(
        {name: pa.array(values) if isinstance(values, np.ndarray) else values for name, values in data.items()}
    )
    pq.write_table(tables.conform(made, "bar_1s", constants), path)


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = harness.Parser("bench_transform.py", __doc__)
    parser.add_argument("--rows", type=int, help="trades, and as many quotes (1000000)")
    parser.add_argument("--flat", type=int, help="also ours alone over so many of each, for its memory")
    parser.add_argument("--sides", default=",".join(PEERS), help="peers to run beside ours")
    options = parser.counted(given, "rows", "flat")
    peers = harness.choice(parser, options.sides, PEERS)
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    rounds = options.rounds or (0 if options.quick else 5)

    import bench_load

    parts, curves = [], []
    with harness.workplace("transform") as place:
        load = loaded(place / "source", rows)
        parts.append(compare("JSONL to 1 s bars", [*OURS, *peers], OURS, load, place, rounds))
        parts[0]["note"] += f" from {rows:,} trades and {rows:,} quotes, {load['bytes'] / 1e6:.0f} MB of lines"
        fold = {"seconds": str(place / "seconds.parquet")}
        seconds_of_a_day(Path(fold["seconds"]), 4 if options.quick else 20, 3_600 if options.quick else 86_400)
        parts.append(compare("1 s bars to 1 m bars", list(FOLDS), FOLDS[:1], fold, place, rounds))
        if options.flat:
            more = loaded(place / "more", options.flat)
            rss = harness.run_side([sys.executable, __file__, "--side"], "ours", more, place / "run")["rss_mb"]
            points = [(rows, parts[0]["sides"]["ours"]["rss_mb"]), (options.flat, rss)]
            curves.append(
                harness.curve("Memory of the transformer", "trades, and as many quotes", "MB", {"ours": points})
            )
    result = {
        "bench": "transform", "parts": parts, "curves": curves, "targets": targets(parts, curves),
        "machine": harness.machine("polars", "duckdb", "pyarrow", "pandas", "orjson", "msgspec"),
        "symbols": bench_load.symbols(NAMES),
    }  # fmt: skip
    return harness.finish(result, options)


def loaded(root: Path, rows: int) -> dict[str, Any]:
    """A sealed lake, and what a side is told of it."""
    import bench_load

    bench_load.sealed_lake(root, rows, bench_load.symbols(NAMES), HOUR)
    size = sum(path.stat().st_size for path in (root / "raw").rglob("*.jsonl"))
    return {"lake": str(root), "rows": rows, "now": bench_load.START + 2 * HOUR, "bytes": size}


def targets(parts: list[dict[str, Any]], curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures that this bench has to reach."""
    made = []
    for side, words in (("ours", "whole transformer"), ("ours-bars", "bars from parts")):
        for peer, must, stretch in (("json-pandas", 10, 20), ("pandas-json", 7, 14), ("polars", 1.2, 2.2)):
            ratio = parts[0]["ratios"].get(f"{peer} / {side}")
            made.append(harness.target(f"JSONL to 1 s bars, {words}, v {peer}", ratio, must, stretch))
    rss = max([parts[0]["sides"]["ours"]["rss_mb"], *(point[1] for one in curves for point in one["lines"]["ours"])])
    made.append(harness.target("peak RSS of the transformer", rss, 400, 250, less=True, unit="MB"))
    made.append(
        harness.target("1 s to 1 m v pandas resample", parts[1]["ratios"].get("pandas-fold / ours-fold"), 6, 30)
    )
    return made


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        harness.play(SIDES, sys.argv[2:])
    else:
        raise SystemExit(main())
