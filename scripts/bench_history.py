"""What history costs: files of trades to Parquet, by this project's own ways and by the tools that people use for it.

    python scripts/bench_history.py [--quick] [--json] [--rows N] [--rounds N] [--sides A,B] [--out FILE]

N trades of one symbol and day are a CSV as Binance publishes them (id, price, qty, quote_qty, time, is_buyer_maker,
is_best_match), and that CSV in a zip beside its CHECKSUM. Two comparisons:

- *CSV to Parquet*: `ours` is `dl import`: the file hashed, every value checked, typed parts published (written, each
  page read back, hashed, synced, renamed), every step in the manifest. pandas, duckdb, polars (lazy to a sink) and
  pyarrow (streaming) write one zstd Parquet of the columns as they are, and check nothing: that is less work;
- *the same work*: `pandas-same` does in memory what a careful user of pandas does by hand to get what ours gives: the
  file and the result hashed, times as such, sides as words, the columns of the kind that say where a row is from, each
  id once, in order, prices and quantities above zero, ids that follow, one zstd Parquet, read back and compared;
- *archive zip to verified Parquet*: `ours` is `dl archive`: besides, the zip held against its CHECKSUM, its CRC, and
  the content against its name (period, unit, order, ids that follow by one). `bound` is what cannot be left out,
  measured alone: inflate, parse, encode the same rows in the lake's columns and encodings. `ours-closed` goes on to
  the certified daily file. pandas reads the zip as it reads the CSV.

First a round proves that all sides wrote the same rows. Exit code 0, 1 where rows differ, 64.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import bench_by_hand  # noqa: E402 -- it lies beside this file
import bench_harness as harness  # noqa: E402

SYMBOL, MARKET = "BTCUSDT", "spot"
NAMES = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match")
CSV, ZIP = "CSV to Parquet", "archive zip to verified Parquet"
SAME = "CSV to Parquet: the same work"
PEERS = ("pandas", "duckdb", "polars", "pyarrow")
BLOCK = 12 * 1024 * 1024


# -- ours -------------------------------------------------------------------------------------------------------------


def _writer(load: dict[str, Any], out: Path) -> Any:
    sys.meta_path.insert(0, harness.WithoutPandas())
    from lake.writer import LakeWriter

    return LakeWriter.open(out / "lake", "bench", load["now"], simulated=True)


def _split(*more: tuple[Any, str, str]) -> harness.Split:
    from lake import adopting, parquet, typed

    split = harness.Split()
    for owner, name, stage in (
        (typed, "typed", "rules, types"), (adopting, "_ordered_rows", "order, duplicates"),
        (parquet, "write", "write Parquet"), (parquet, "verify", "read back and verify"),
        (parquet, "file_sha256", "hash files"), (adopting, "check_table", "checks"), *more,
    ):  # fmt: skip
        split.watch(owner, name, stage)
    return split


def _told(measured: harness.Measured, split: harness.Split, load: dict[str, Any], out: Path) -> harness.Measured:
    """The measurement with its split, once all rows are seen to be there."""
    stages = split.seconds | {"read, parse, the rest": measured["cpu"] - sum(split.seconds.values())}
    made = [path for path, _ in _parts(out)]
    assert sum(rows for _, rows in _parts(out)) == load["rows"]
    return measured | {
        "split": {name: round(seconds, 4) for name, seconds in stages.items()},
        "bytes": sum((out / "lake" / path).stat().st_size for path in made),
    }


def _parts(out: Path) -> list[tuple[str, int]]:
    from lake.manifest import Manifest

    manifest = Manifest.read_only(out / "lake")
    try:
        return [(row.path, row.rows) for row in manifest.files("trade")]
    finally:
        manifest.close()


def ours_import(load: dict[str, Any], out: Path) -> harness.Measured:
    """`dl import` of the CSV: what its process and its worker do, in this one."""
    with _writer(load, out) as writer:
        from collectors.files import importing
        from collectors.files.reading import Options
        from runtime.workers import InlineExecutor

        split = _split((importing, "_hashed", "hash files"))
        columns = {"1": "id", "2": "price", "3": "qty", "5": "time"}
        watch = harness.Stopwatch()
        options = Options(exchange="binance", market_type=MARKET, kind="trade", symbol=SYMBOL, columns=columns)
        request = importing.request_of(Path(load["csv"]), options)
        done = importing.take_in(writer, InlineExecutor(), "bench", load["now"], request, lambda *_: None)
        measured = watch.result()
    assert (done.rows, done.quarantined, done.duplicates) == (load["rows"], 0, 0)
    return _told(measured, split, load, out)


def ours_archive(load: dict[str, Any], out: Path, *, closed: bool = False) -> harness.Measured:
    """`dl archive` of the zip from a folder that holds it."""
    with _writer(load, out) as writer:
        from collectors import exchanges
        from compactor import service
        from daemon.archiving import archive_job
        from daemon.config import Config
        from runtime.clock import SystemClock
        from runtime.workers import InlineExecutor

        split = _split((zipfile.ZipExtFile, "read", "inflate"), (service, "compact_once", "close the day"))
        config = Config.model_validate({"lake": str(out / "lake"), "disk": {"low_percent": 0, "ballast_mb": 1}})
        wanted = {"exchange": "binance", "market_type": MARKET, "kind": "trade", "symbols": [SYMBOL],
                  "first": load["date"], "last": load["date"], "source": load["archive"]}  # fmt: skip
        watch = harness.Stopwatch()
        done = archive_job(writer, InlineExecutor(), SystemClock(), wanted, config, lambda *_: None)
        if closed:
            service.compact_once(
                writer, InlineExecutor(), load["now"], config.compactor, lambda *_: None, retention=False,
                parsers=exchanges.parsers,
            )  # fmt: skip
        measured = watch.result()
    assert (done.ok, done.taken) == (True, 1), done.told()
    return _told(measured, split, load, out)


def ours_closed(load: dict[str, Any], out: Path) -> harness.Measured:
    """The same with the day closed: what `dl archive` does in all."""
    return ours_archive(load, out, closed=True)


def bound(load: dict[str, Any], out: Path) -> harness.Measured:
    """Inflate, parse, encode, each once and nothing else: the lake's columns, encodings and row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    from lake import tables

    split = harness.Split()
    options = csv.ConvertOptions(
        column_types={"id": pa.int64(), "time": pa.int64(), "price": pa.float64(), "qty": pa.float64(),
                      "quote_qty": pa.float64(), "is_buyer_maker": pa.bool_(), "is_best_match": pa.bool_()},
        true_values=["True"], false_values=["False"],
    )  # fmt: skip
    schema = tables.schema("trade")
    watch = harness.Stopwatch()
    with (
        zipfile.ZipFile(load["zip"]) as opened, opened.open(opened.namelist()[0]) as stream,
        pq.ParquetWriter(out / "day.parquet", schema, **tables.parquet_options("trade", lasting=False)) as writer,
    ):  # fmt: skip
        rest, line = b"", 0
        while True:
            with split.stage("inflate"):
                piece = stream.read(BLOCK)
            if not piece:
                break
            cut = piece.rfind(b"\n") + 1
            block, rest = rest + piece[:cut], piece[cut:]
            with split.stage("parse"):
                table = csv.read_csv(
                    pa.BufferReader(block),
                    csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=list(NAMES)),
                    convert_options=options,
                )
            with split.stage("to the lake's columns"):
                made = _as_lake(table, line, load, schema)
            line += made.num_rows
            with split.stage("encode"):
                writer.write_table(made, row_group_size=tables.ROW_GROUP_ROWS)
    measured = watch.result()
    measured["cpu"] -= split.seconds["to the lake's columns"]  # some of it any reader would do: counted for nobody
    shown = {name: round(seconds, 4) for name, seconds in split.seconds.items()}
    return measured | {"split": shown, "bytes": (out / "day.parquet").stat().st_size}


def _as_lake(table: Any, line: int, load: dict[str, Any], schema: Any) -> Any:
    """The rows with the columns that the lake's parts have."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from lake import tables

    count = table.num_rows
    made = {
        "ts_event": table["time"], "seq": table["id"], "price": table["price"], "qty": table["qty"],
        "side": pc.if_else(table["is_buyer_maker"], "sell", "buy").dictionary_encode(),
        "frame_no": pa.array(range(line + 1, line + 1 + count), pa.int64()),
        "date": pc.cast(pc.cast(pc.divide(table["time"], 86_400_000_000), pa.int32()), pa.date32()),
    }  # fmt: skip
    constants = {
        "exchange": "binance", "market_type": MARKET, "symbol": SYMBOL, "source": "archive", "session": "bench-1-1",
        "ts_recv": load["now"], "ts_estimated": False, "item": 0, "condition": "market", "qty_unit": "base",
        "multiplier": 1.0,
    }  # fmt: skip
    return tables.conform(pa.table(made).cast(pa.schema([(n, schema.field(n).type) for n in made])), "trade", constants)


# -- what people use --------------------------------------------------------------------------------------------------


def pandas(load: dict[str, Any], out: Path) -> harness.Measured:
    return _pandas(load["csv"], out)


def pandas_zip(load: dict[str, Any], out: Path) -> harness.Measured:
    return _pandas(load["zip"], out)


def _pandas(path: str, out: Path) -> harness.Measured:
    import pandas as pd

    watch = harness.Stopwatch()
    pd.read_csv(path, names=list(NAMES)).to_parquet(out / "day.parquet", index=False, compression="zstd")
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


def duckdb(load: dict[str, Any], out: Path) -> harness.Measured:
    import duckdb as db

    watch = harness.Stopwatch()
    with db.connect(config={"autoinstall_known_extensions": False}) as connection:
        names = ", ".join(f"'{name}'" for name in NAMES)
        connection.execute(
            f"COPY (SELECT * FROM read_csv('{load['csv']}', header=false, names=[{names}]))"
            f" TO '{out / 'day.parquet'}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)"
        )
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


def polars(load: dict[str, Any], out: Path) -> harness.Measured:
    import polars as pl

    watch = harness.Stopwatch()
    frame = pl.scan_csv(load["csv"], has_header=False, new_columns=list(NAMES))
    frame.sink_parquet(out / "day.parquet", compression="zstd", compression_level=3)
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


def pyarrow(load: dict[str, Any], out: Path) -> harness.Measured:
    import pyarrow.parquet as pq
    from pyarrow import csv

    watch = harness.Stopwatch()
    read = csv.ReadOptions(column_names=list(NAMES), block_size=BLOCK)
    with csv.open_csv(load["csv"], read) as source, pq.ParquetWriter(
        out / "day.parquet", source.schema, compression="zstd", compression_level=3
    ) as writer:  # fmt: skip
        for batch in source:
            writer.write_batch(batch)
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


SIDES = {
    "ours-import": ours_import, "ours": ours_archive, "ours-closed": ours_closed, "bound": bound, "pandas": pandas,
    "pandas-zip": pandas_zip, "pandas-same": bench_by_hand.pandas_same, "duckdb": duckdb, "polars": polars,
    "pyarrow": pyarrow,
}  # fmt: skip


# -- the bench --------------------------------------------------------------------------------------------------------


def published(place: Path, rows: int) -> dict[str, Any]:
    """A day of trades as the venue publishes it: CSV, zip and CHECKSUM, in the archive's own folders."""
    import bench_load
    import numpy as np
    import polars as pl

    from collectors.files.archive import series
    from market.times import DAY, date_of

    made = bench_load.trades(np.random.default_rng(13), rows, [SYMBOL], DAY)
    date = date_of(bench_load.START).isoformat()
    file = series.ArchiveFile(date, series.series_of("binance", MARKET, "trade", SYMBOL))
    packed = place / "archive" / file.path
    packed.parent.mkdir(parents=True)
    assert file.member is not None
    plain = place / file.member
    worth = (pl.col("price").cast(pl.Float64) * pl.col("qty").cast(pl.Float64)).round(8)
    sold = pl.when(pl.col("side") == "sell").then(pl.lit("True")).otherwise(pl.lit("False"))
    made.select(
        pl.col("seq").alias("id"), pl.col("price") + "000000", pl.col("qty") + "000", worth.alias("quote_qty"),
        pl.col("ts_event").alias("time"), sold.alias("is_buyer_maker"), pl.lit("True").alias("is_best_match"),
    ).write_csv(plain, include_header=False, float_precision=8)  # fmt: skip
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        target.write(plain, file.member)
    packed.with_name(f"{packed.name}.CHECKSUM").write_text(
        f"{hashlib.sha256(packed.read_bytes()).hexdigest()}  {packed.name}\n"
    )
    return {
        "rows": rows, "date": date, "csv": str(plain), "zip": str(packed), "archive": str(place / "archive"),
        "now": bench_load.START + 3 * DAY, "market": MARKET, "symbol": SYMBOL, "names": NAMES,
    }  # fmt: skip


def rows_of(name: str, out: Path) -> Any:
    """What a side wrote, in one form: id, time, price, quantity, and who took (of an import of a CSV nobody knows)."""
    import polars as pl

    paths = [out / "lake" / path for path, _ in _parts(out)] if name.startswith("ours") else [out / "day.parquet"]
    frame = pl.read_parquet(paths, hive_partitioning=False)
    if "seq" in frame.columns:
        wanted = frame.select(
            pl.col("seq").alias("id"), pl.col("ts_event").to_physical().alias("time"), "price", "qty",
            pl.col("side").cast(pl.String),
        )  # fmt: skip
    elif "ts_event" in frame.columns:
        wanted = frame.select("id", pl.col("ts_event").to_physical().alias("time"), "price", "qty")
    else:
        sold = pl.col("is_buyer_maker").cast(pl.String).str.to_lowercase() == "true"
        side = pl.when(sold).then(pl.lit("sell")).otherwise(pl.lit("buy")).alias("side")
        wanted = frame.select("id", "time", "price", "qty", side)
    return (wanted.drop("side") if name == "ours-import" else wanted).sort("id")


def same(first: Any, made: Any) -> bool:
    """Whether two sides wrote the same rows, in the columns that both have."""
    return bool(made.height and made.equals(first.select(made.columns)))


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = harness.Parser("bench_history.py", __doc__)
    parser.add_argument("--rows", type=int, help="trades of the day (10000000)")
    parser.add_argument("--sides", default=",".join(PEERS), help="peers to run beside ours")
    options = parser.counted(given, "rows")
    peers = harness.choice(parser, options.sides, PEERS)
    rows = options.rows or (20_000 if options.quick else 10_000_000)
    rounds = options.rounds or (0 if options.quick else 5)
    command = [sys.executable, __file__, "--side"]
    with harness.workplace("history") as place:
        load = published(place / "load", rows)
        first: list[Any] = []

        def run(name: str) -> harness.Measured:
            return harness.run_side(command, name, load, place / "run")

        def equals(name: str, _: harness.Measured) -> bool:
            made = rows_of(name, place / "run")
            if not first:
                first.append(made)
            return made.height == rows and same(first[0], made)

        zipped = ["bound", "ours", "ours-closed", *(["pandas-zip"] if "pandas" in peers else [])]
        same_work = ["pandas-same"] if "pandas" in peers else []
        runs, equal = harness.proven([*zipped, "ours-import", *peers, *same_work], rounds, run, equals)
        note = f"{rows:,} trades, {Path(load['csv']).stat().st_size / 1e6:,.0f} MB as CSV, "
        note += f"{Path(load['zip']).stat().st_size / 1e6:,.0f} MB as zip"

        def part(title: str, names: list[str], ours: list[str]) -> dict[str, Any]:
            made = {name: runs[name] for name in names}
            return harness.part(title, made, ours, {name: equal[name] for name in names}, note)

        parts = [part(CSV, ["ours-import", *peers], ["ours-import"])]
        parts += [part(SAME, ["ours-import", *same_work], ["ours-import"]), part(ZIP, zipped, ["ours", "ours-closed"])]
    result = {
        "bench": "history", "parts": parts, "curves": [], "targets": targets(*parts),
        "machine": harness.machine("polars", "duckdb", "pyarrow", "pandas"),
    }  # fmt: skip
    return harness.finish(result, options)


def targets(plain: dict[str, Any], alike: dict[str, Any], packed: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures that history has to reach."""
    rss = max(plain["sides"]["ours-import"]["rss_mb"], packed["sides"]["ours"]["rss_mb"])
    return [
        harness.target("CSV to Parquet (dl import), v pandas", plain["ratios"].get("pandas / ours-import"), 1.8, 2.5),
        harness.target(
            "CSV to Parquet (dl import), the same work, v pandas", alike["ratios"].get("pandas-same / ours-import"),
            1.8, 2.5,
        ),
        harness.target(
            "archive zip to verified Parquet, share of inflate + parse + encode",
            100 * packed["ratios"]["bound / ours"], 60, None, unit="%",
        ),
        harness.target("peak RSS of taking in a file", rss, 1000, 324, less=True, unit="MB"),
    ]  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    if sys.argv[1:2] == ["--side"]:
        harness.play(SIDES, sys.argv[2:])
    else:
        raise SystemExit(main())
