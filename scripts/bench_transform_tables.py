"""The peers of `bench_transform.py` doing the transformer's work: lines to tables of trades and quotes, and to bars.

Every column typed, one row of each id (the first received), sorted by symbol, time and id, as Parquet with zstd; then
1 s bars from these rows. Without what they have no name for: no seal, no proof of each value, float sums, nothing read
back, one file a table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import bench_harness as harness  # noqa: E402 -- it lies beside this file
from bench_transform_peers import duckdb_bars, files, pandas_bars, polars_bars  # noqa: E402 -- likewise

TEXTS = ("symbol", "session", "source")
TIMES = ("ts_event", "ts_publish", "ts_recv")
COUNTS = ("frame_no", "item")
OWN = {
    "trade": ("price", "qty", "side", "condition", "seq"),
    "quote": ("bid", "bid_qty", "ask", "ask_qty", "update_id"),
}
NUMBERS = ("price", "qty", "bid", "bid_qty", "ask", "ask_qty")
IDS = {"trade": "seq", "quote": "update_id"}


def json_pandas(load: dict[str, Any], out: Path) -> harness.Measured:
    import pandas as pd

    watch = harness.Stopwatch()
    frames = []
    for kind, own in OWN.items():
        columns: dict[str, list[Any]] = {name: [] for name in (*TEXTS, *TIMES, *COUNTS, *own)}
        numbers = [name for name in own if name in NUMBERS]
        for path in files(load, kind):
            with Path(path).open("rb") as file:
                for line in file:
                    row = json.loads(line)
                    for name in numbers:
                        row[name] = float(row[name])
                    for name, held in columns.items():
                        held.append(row[name])
        frame = pd.DataFrame(columns).drop_duplicates(["symbol", IDS[kind]], keep="first")
        frame = frame.sort_values(["symbol", "ts_event", IDS[kind]], kind="stable", ignore_index=True)
        typed = frame.assign(**{name: pd.to_datetime(frame[name], unit="us", utc=True) for name in TIMES})
        typed.to_parquet(out / f"{kind}.parquet", compression="zstd", index=False)
        frames.append(frame)
    pandas_bars(*frames, out)
    return watch.result()


def polars_json(load: dict[str, Any], out: Path) -> harness.Measured:
    import polars as pl

    watch = harness.Stopwatch()
    frames = []
    for kind, own in OWN.items():
        integers = (*TIMES, *COUNTS, IDS[kind])
        schema = {name: pl.Int64 if name in integers else pl.String for name in (*TEXTS, *TIMES, *COUNTS, *own)}
        lines = pl.scan_ndjson(files(load, kind), schema=schema).with_columns(
            *(pl.col(name).cast(pl.Float64) for name in own if name in NUMBERS),
            *(pl.col(name).cast(pl.Datetime("us", "UTC")) for name in TIMES),
        )
        once = lines.unique(["symbol", IDS[kind]], keep="first", maintain_order=True)
        frame = once.sort("symbol", "ts_event", IDS[kind]).collect()
        frame.write_parquet(out / f"{kind}.parquet", compression="zstd", compression_level=3)
        frames.append(frame.lazy().with_columns(window=pl.col("ts_event").dt.truncate("1s")))
    polars_bars(*frames).sink_parquet(out / "bars.parquet")
    return watch.result()


def duckdb_json(load: dict[str, Any], out: Path) -> harness.Measured:
    import duckdb

    watch = harness.Stopwatch()
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        for kind, own in OWN.items():
            integers = (*TIMES, *COUNTS, IDS[kind])
            names = (*TEXTS, *TIMES, *COUNTS, *own)
            types = ", ".join(f"{name}: '{'BIGINT' if name in integers else 'VARCHAR'}'" for name in names)
            typed = [
                f"{name}::DOUBLE AS {name}" if name in NUMBERS
                else f"make_timestamptz({name}) AS {name}" if name in TIMES else name
                for name in names
            ]  # fmt: skip
            connection.execute(
                f"""
                CREATE TABLE {kind} AS
                SELECT {", ".join(typed)} FROM
                  (SELECT * FROM read_ndjson({files(load, kind)}, columns={{{types}}})
                   QUALIFY row_number() OVER (PARTITION BY symbol, {IDS[kind]} ORDER BY ts_recv) = 1)
                ORDER BY symbol, ts_event, {IDS[kind]}
                """
            )
            connection.execute(f"COPY {kind} TO '{out / kind}.parquet' (FORMAT parquet, COMPRESSION zstd)")
        duckdb_bars(connection, "epoch_us(ts_event)", "trade", "quote", out)
    return watch.result()
