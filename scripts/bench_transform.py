"""What transforming costs: sealed JSONL to bars, by this project's transformer and by the tools that people use for it.

    python scripts/bench_transform.py [--quick] [--json] [--rows N] [--rounds N] [--sides A,B] [--flat N] [--out FILE]

N trades and N quotes of 10 symbols over an hour lie as sealed one-minute segments (`scripts/bench_load.py`). Sides:

- ours: the whole transformer as the daemon runs it: seals checked, every value checked, typed Parquet parts of all
  trades and quotes published (written, read back, hashed, synced, renamed), bars of 1 s and 1 m from them, every step
  in the manifest. `ours-bars` is the part of it that makes bars from parts that exist;
- json-pandas, pandas-json, orjson-pandas, pyarrow, polars, duckdb: the same lines straight to one Parquet file of 1 s
  bars, kept nowhere else: no typed rows, no checks, float sums;
- pandas-tables, polars-tables, duckdb-tables: the same work as ours (`scripts/bench_transform_tables.py`): typed,
  deduplicated, sorted Parquet tables of all trades and quotes, and bars.

They are compared twice. *Bars only*: the first peers, which do less than ours. *Same work: tables and bars*: the
others.

First a round proves that all sides made the same bars (open, high, low, close, volumes, count, vwap, bid, ask, spread;
sums to 1e-9 of each other, since only ours are exact). Then a day of 1 s bars of 20 symbols is folded to 1 m, by each
side once to load what it needs, then measured: a worker folds all day.
`--flat N` also transforms N rows of each by ours alone and compares peak memory. Exit code 0, 1 where bars differ, 64.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import bench_harness as harness  # noqa: E402 -- it lies beside this file
import bench_transform_peers as peers_of  # noqa: E402 -- likewise
import bench_transform_tables as tables_of  # noqa: E402 -- likewise
from bench_transform_peers import COLUMNS  # noqa: E402 -- likewise

NAMES = 10
HOUR = 3600 * 1_000_000
OURS = ("ours", "ours-bars")
PEERS = ("json-pandas", "pandas-json", "orjson-pandas", "pyarrow", "polars", "duckdb")
SAME_WORK = ("pandas-tables", "polars-tables", "duckdb-tables")
BARS_ONLY = "JSONL to 1 s bars: bars only"
WHOLE = "JSONL to 1 s bars: same work, tables and bars"
FOLD = "1 s bars to 1 m bars"
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
    sys.meta_path.insert(0, harness.WithoutPandas())
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
        (reader, "_bytes", "parts: read bytes"), (reader, "_typed", "parts: lines to columns"),
        (run, "check_table", "parts: checks"), (run, "ordered", "parts: order, duplicates"),
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


SIDES = {
    "ours": ours, "ours-bars": ours_bars, "json-pandas": peers_of.json_pandas, "pandas-json": peers_of.pandas_json,
    "orjson-pandas": peers_of.orjson_pandas, "pyarrow": peers_of.pyarrow_json, "polars": peers_of.polars_json,
    "duckdb": peers_of.duckdb_json, "pandas-tables": tables_of.json_pandas, "polars-tables": tables_of.polars_json,
    "duckdb-tables": tables_of.duckdb_json, "ours-fold": peers_of.ours_fold, "pandas-fold": peers_of.pandas_fold,
    "polars-fold": peers_of.polars_fold, "duckdb-fold": peers_of.duckdb_fold,
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


def rows_of(name: str, out: Path, kind: str) -> Any:
    """The rows of a table that a side made, in one form and order."""
    import polars as pl

    columns = [column for column in tables_of.OWN[kind] if column != "condition"]
    if name in OURS:
        from lake import Lake

        with Lake(out / "lake") as lake:
            made = pl.DataFrame(lake.read(kind))
    else:
        made = pl.read_parquet(out / f"{kind}.parquet")
    wanted = [pl.col("symbol").cast(pl.String), *(pl.col(time).dt.epoch("us") for time in tables_of.TIMES)]
    texts = pl.col(pl.Categorical).cast(pl.String)
    return made.select(*wanted, *columns).with_columns(texts).sort("symbol", "ts_event", tables_of.IDS[kind])


def compare(title: str, sides: list[str], ours: tuple[str, ...], load: dict[str, Any], place: Path, rounds: int) -> Any:
    """Proof, then rounds."""
    command = [sys.executable, __file__, "--side"]
    run = lambda name: harness.run_side(command, name, load, place / "run")  # noqa: E731
    first: list[Any] = []

    rows: dict[str, Any] = {}

    def equals(name: str, _: harness.Measured) -> bool:
        first.append(bars_of(name, place / "run"))
        if not same(first[0], first.pop() if len(first) > 1 else first[0]):
            return False
        if not set(sides) & set(SAME_WORK):
            return True
        held = {kind: rows_of(name, place / "run", kind) for kind in tables_of.OWN}
        return all(rows.setdefault(kind, made).equals(made) for kind, made in held.items())

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
    parser.add_argument("--sides", default=",".join((*PEERS, *SAME_WORK)), help="peers to run beside ours")
    options = parser.counted(given, "rows", "flat")
    peers = harness.choice(parser, options.sides, (*PEERS, *SAME_WORK))
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    rounds = options.rounds or (0 if options.quick else 5)

    import bench_load

    parts, curves = [], []
    with harness.workplace("transform") as place:
        load = loaded(place / "source", rows)
        size = f" from {rows:,} trades and {rows:,} quotes, {load['bytes'] / 1e6:.0f} MB of lines"
        for title, mine, others in ((BARS_ONLY, OURS, PEERS), (WHOLE, OURS[:1], SAME_WORK)):
            if sides := [name for name in peers if name in others]:
                parts.append(compare(title, [*mine, *sides], mine, load, place, rounds))
                parts[-1]["note"] += size
        fold = {"seconds": str(place / "seconds.parquet")}
        seconds_of_a_day(Path(fold["seconds"]), 4 if options.quick else 20, 3_600 if options.quick else 86_400)
        parts.append(compare(FOLD, list(FOLDS), FOLDS[:1], fold, place, rounds))
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
    held = {one["title"]: one for one in parts}
    ratios = {title: one["ratios"] for title, one in held.items()}
    made = []
    for side, words in (("ours", "whole transformer"), ("ours-bars", "bars from parts")):
        for peer, must, stretch in (("json-pandas", 10, 20), ("pandas-json", 7, 14), ("polars", 1.2, 2.2)):
            ratio = ratios.get(BARS_ONLY, {}).get(f"{peer} / {side}")
            made.append(harness.target(f"{BARS_ONLY}, {words}, v {peer}", ratio, must, stretch))
    for peer, must, stretch in (("pandas-tables", 10, 20), ("polars-tables", 1.2, 2.2)):
        ratio = ratios.get(WHOLE, {}).get(f"{peer} / ours")
        made.append(harness.target(f"{WHOLE}, v {peer}", ratio, must, stretch))
    most = [one["sides"]["ours"]["rss_mb"] for one in parts if "ours" in one["sides"]]
    rss = max([*most, *(point[1] for one in curves for point in one["lines"]["ours"])], default=None)
    made.append(harness.target("peak RSS of the transformer", rss, 400, 250, less=True, unit="MB"))
    made.append(harness.target("1 s to 1 m v pandas resample", ratios[FOLD].get("pandas-fold / ours-fold"), 6, 30))
    return made


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        harness.play(SIDES, sys.argv[2:])
    else:
        raise SystemExit(main())
