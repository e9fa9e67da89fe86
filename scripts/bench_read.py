"""What a read costs: the last 30 days of 1 m bars of one of 200 symbols, and other questions, answered by peers too.

    python scripts/bench_read.py [--quick] [--json] [--symbols N] [--days N] [--rounds N] [--sides A,B] [--out FILE]

The lake holds 200 symbols x 30 daily files of 1 m bars, published by its own writer. Every side asks for the same
twelve columns over and over in one process, files warm, after a first time that is shown as `first` (opening the lake
and, for ours, hashing every file that is read).

- ours: `Lake.read` by the manifest, files hashed when first opened; `ours-scan`: `Lake.scan(...).collect()`;
  `ours-sql`: the same by `Lake.sql`;
- glob-polars, glob-duckdb, glob-pyarrow: the tree that the lake wrote, by its hive glob, with filters on the path's
  symbol and the time;
- wide-polars, wide-duckdb, wide-pyarrow: the same by a tree whose symbol is in no path, as most recorders lay it out;
- list-polars: polars over just the 30 files, by somebody who knows them: the floor of a reader that plans nothing;
- arcticdb: one LMDB library with a table a symbol, `read` to pandas; installed into bench-out/arcticdb by the first
  run, left out with a word where that fails.

First a round proves that all sides give the same rows. Then a day of trades and an order book at a time are asked of
ours alone. CPU and wall are of one question. Exit code 0, 1 where rows differ, 64.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import bench_harness as harness  # noqa: E402 -- it lies beside this file

OURS = ("ours", "ours-scan", "ours-sql")
PEERS = (
    "glob-polars", "glob-duckdb", "glob-pyarrow", "wide-polars", "wide-duckdb", "wide-pyarrow", "list-polars",
    "arcticdb",
)  # fmt: skip
ARCTICDB = ["arcticdb==6.28.2", "pyarrow"]
FIELDS = ("open", "high", "low", "close", "volume_base", "volume_quote", "trade_count", "vwap", "bid", "ask", "spread")
COLUMNS = ["window_start", *FIELDS]
DAY = 86_400_000_000
PATIENCE = 3.0
"""CPU seconds after which a slow side need not answer again."""


def asked(
    ask: Callable[[], Any], shown: Callable[[Any], Any], load: dict[str, Any], begun: harness.Stopwatch | None = None
) -> harness.Measured:
    """One question, once (from `begun` on, where there was something to open) and then again `times` times, or for
    three seconds of CPU; what it answers as rows and sums that must be equal everywhere.
    """
    first = begun or harness.Stopwatch()
    answer = ask()
    first_wall = first.result()["wall"]
    told = shown(answer)
    watch = harness.Stopwatch()
    turns = 0
    while turns < load["times"] and (turns == 0 or watch.seconds() < PATIENCE):
        ask()
        turns += 1
    found = watch.result(first=first_wall, told=told)
    return found | {"cpu": found["cpu"] / turns, "wall": found["wall"] / turns}


def _sums(frame: Any) -> list[float]:
    """Rows, and the sum of every number of them."""
    return [len(frame), *(round(float(sum(frame[name].to_list())), 4) for name in FIELDS)]


def _polars_sums(table: Any) -> list[float]:
    import polars as pl

    return _sums(table if isinstance(table, pl.DataFrame) else pl.DataFrame(pl.from_arrow(table)))


def _span(load: dict[str, Any]) -> tuple[dt.datetime, dt.datetime]:
    return tuple(dt.datetime.fromtimestamp(load[name] / 1e6, dt.UTC) for name in ("start", "end"))  # type: ignore[return-value] # two


# -- ours -------------------------------------------------------------------------------------------------------------


def ours(load: dict[str, Any], _: Path) -> harness.Measured:
    from lake import Lake

    begun = harness.Stopwatch()
    with Lake(load["lake"]) as lake:
        more = {"start": load["start"], "end": load["end"], "columns": COLUMNS}
        return asked(lambda: lake.read("bar_1m", symbol=load["symbol"], **more), _polars_sums, load, begun)


def ours_scan(load: dict[str, Any], _: Path) -> harness.Measured:
    from lake import Lake

    begun = harness.Stopwatch()
    with Lake(load["lake"]) as lake:
        span = {"start": load["start"], "end": load["end"]}
        ask = lambda: lake.scan("bar_1m", symbol=load["symbol"], **span).select(COLUMNS).collect()  # noqa: E731
        return asked(ask, _polars_sums, load, begun)


def ours_sql(load: dict[str, Any], _: Path) -> harness.Measured:
    from lake import Lake

    start, end = _span(load)
    between = f"window_start >= '{start}' AND window_start < '{end}'"
    query = f"SELECT {', '.join(COLUMNS)} FROM bar_1m WHERE symbol = '{load['symbol']}' AND {between}"
    begun = harness.Stopwatch()
    with Lake(load["lake"]) as lake:
        return asked(lambda: lake.sql(query), _polars_sums, load, begun)


def ours_trades(load: dict[str, Any], _: Path) -> harness.Measured:
    """A whole day of trades of a symbol, every column."""
    from lake import Lake

    with Lake(load["lake"]) as lake:
        span = {"start": load["end"] - DAY, "end": load["end"]}
        return asked(lambda: lake.read("trade", symbol=load["symbol"], **span), len, load)


def ours_book(load: dict[str, Any], _: Path) -> harness.Measured:
    """The book in the middle of that day."""
    from lake import Lake

    with Lake(load["lake"]) as lake:
        at = load["end"] - DAY // 2
        return asked(lambda: lake.book(load["symbol"], at=at, depth=20), lambda book: len(book.bids), load)


# -- peers ------------------------------------------------------------------------------------------------------------


def _globbed_polars(glob: str, load: dict[str, Any], *, hive: bool) -> harness.Measured:
    import polars as pl

    start, end = _span(load)
    wanted = (
        (pl.col("symbol").cast(pl.String) == load["symbol"]) & (pl.col("window_start") >= start)
        & (pl.col("window_start") < end)
    )  # fmt: skip
    scan = lambda: pl.scan_parquet(glob, hive_partitioning=hive).filter(wanted).select(COLUMNS)  # noqa: E731
    return asked(lambda: scan().collect(), _polars_sums, load)


def _globbed_duckdb(glob: str, load: dict[str, Any], *, hive: bool) -> harness.Measured:
    import duckdb

    start, end = _span(load)
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    query = (
        f"SELECT {', '.join(COLUMNS)} FROM read_parquet('{glob}', hive_partitioning={str(hive).lower()})"
        f" WHERE symbol = '{load['symbol']}' AND window_start >= '{start}' AND window_start < '{end}'"
    )
    return asked(lambda: connection.execute(query).to_arrow_table(), _polars_sums, load)


def _globbed_pyarrow(root: str, load: dict[str, Any], *, hive: bool) -> harness.Measured:
    import pyarrow as pa
    import pyarrow.dataset as ds

    start, end = _span(load)
    wanted = (
        (ds.field("symbol") == load["symbol"]) & (ds.field("window_start") >= pa.scalar(start))
        & (ds.field("window_start") < pa.scalar(end))
    )  # fmt: skip
    partitioning = ds.HivePartitioning.discover(infer_dictionary=True) if hive else None
    return asked(
        lambda: ds.dataset(root, format="parquet", partitioning=partitioning).to_table(COLUMNS, filter=wanted),
        _polars_sums,
        load,
    )


def _tree(load: dict[str, Any]) -> str:
    return f"{load['lake']}/tables/exchange=binance/market_type=linear/data_type=bar_1m"


def list_polars(load: dict[str, Any], _: Path) -> harness.Measured:
    import polars as pl

    files = sorted(Path(f"{_tree(load)}/symbol={load['symbol']}").rglob("*.parquet"))
    scan = lambda: pl.scan_parquet(files, hive_partitioning=False, glob=False).select(COLUMNS)  # noqa: E731
    return asked(lambda: scan().collect(), _polars_sums, load)


def arcticdb(load: dict[str, Any], _: Path) -> harness.Measured:
    """Runs in the peer's own environment."""
    import arcticdb as adb  # type: ignore[import-not-found,unused-ignore] # the peer's environment has it

    begun = harness.Stopwatch()
    library = adb.Arctic(f"lmdb://{load['arctic']}").get_library("bars", create_if_missing=True)
    start, end = _span(load)
    last = end - dt.timedelta(microseconds=1)  # its ranges include their end
    return asked(
        lambda: library.read(load["symbol"], date_range=(start.replace(tzinfo=None), last.replace(tzinfo=None))).data,
        _sums, load, begun,
    )  # fmt: skip


def arctic_fill(load: dict[str, Any], _: Path) -> harness.Measured:
    """Runs in the peer's own environment: the same bars into its library."""
    import arcticdb as adb  # type: ignore[import-not-found,unused-ignore] # the peer's environment has it
    import pyarrow.parquet as pq

    library = adb.Arctic(f"lmdb://{load['arctic']}").get_library("bars", create_if_missing=True)
    watch = harness.Stopwatch()
    for folder in sorted(Path(_tree(load)).glob("symbol=*"))[: load["arctic_symbols"]]:
        import pyarrow as pa

        tables = [pq.ParquetFile(path).read([*FIELDS, "window_start"]) for path in sorted(folder.rglob("*.parquet"))]
        frame = pa.concat_tables(tables).to_pandas()
        frame["window_start"] = frame["window_start"].dt.tz_localize(None)
        library.write(folder.name.removeprefix("symbol="), frame.set_index("window_start").sort_index())
    return watch.result()


SIDES: dict[str, Callable[[dict[str, Any], Path], harness.Measured]] = {
    "ours": ours, "ours-scan": ours_scan, "ours-sql": ours_sql, "ours-trades": ours_trades, "ours-book": ours_book,
    "list-polars": list_polars, "arcticdb": arcticdb, "arctic-fill": arctic_fill,
    "glob-polars": lambda load, _: _globbed_polars(f"{_tree(load)}/**/*.parquet", load, hive=True),
    "glob-duckdb": lambda load, _: _globbed_duckdb(f"{_tree(load)}/**/*.parquet", load, hive=True),
    "glob-pyarrow": lambda load, _: _globbed_pyarrow(_tree(load), load, hive=True),
    "wide-polars": lambda load, _: _globbed_polars(f"{load['wide']}/**/*.parquet", load, hive=False),
    "wide-duckdb": lambda load, _: _globbed_duckdb(f"{load['wide']}/**/*.parquet", load, hive=False),
    "wide-pyarrow": lambda load, _: _globbed_pyarrow(load["wide"], load, hive=False),
}  # fmt: skip


# -- the bench --------------------------------------------------------------------------------------------------------


def _day_of(table: Any, kind: str, symbol: str, root: Path) -> Any:
    import bench_load

    from lake.publish import Placement, publish
    from market.times import date_of

    at = table.column("ts_event")[0].value
    placement = Placement(
        kind=kind, exchange=bench_load.STREAM[0], market_type=bench_load.STREAM[1], level="day",
        date=date_of(at).isoformat(), symbol=symbol, lake_id="bench",
    )  # fmt: skip
    return publish(root, placement, [table], run="bench", now=at)


def _bars(symbol: str, number: int, days: int) -> Iterator[Any]:
    """A day of 1 m bars each, those of every symbol with numbers of their own."""
    import bench_load
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from lake import scaled, tables
    from market.times import MINUTE, date_of

    rng = np.random.default_rng(number)
    for day in range(days):
        at = bench_load.START + day * DAY + np.arange(1440) * MINUTE
        price = (1_000_000 + 977 * number + rng.integers(-50, 51, 1440).cumsum()) / 100
        data: dict[str, Any] = {
            name: pa.array(at) for name in ("window_start", "ts_event", "ts_first", "ts_last", "ts_quote")
        }
        for name, more in (("open", 0), ("high", 0.5), ("low", -0.5), ("close", 0.1), ("bid", 0.09), ("ask", 0.11)):
            data[name] = pa.array((price + more).round(2))
        for name, decimals in (("volume_base", 3), ("volume_quote", 5), ("taker_buy_base", 3), ("taker_buy_quote", 5)):
            texts = scaled.unscale(scaled.Scaled(pl.Series(rng.integers(1, 10**7, 1440)), decimals))
            data[name] = scaled.split(texts)[0].to_arrow()
        count = pa.array(rng.integers(1, 900, 1440))
        data |= {"trade_count": count, "first_seq": count, "last_seq": count, "bid_qty": data["open"],
                 "ask_qty": data["open"], "vwap": data["open"], "spread": pa.array(np.full(1440, 0.02))}  # fmt: skip
        same = {"exchange": bench_load.STREAM[0], "market_type": bench_load.STREAM[1], "symbol": symbol,
                "date": date_of(int(at[0])), "ts_estimated": False, "source": "derived", "partial": False, "gap": False,
                "late": 0, "revision": 0}  # fmt: skip
        yield tables.conform(pa.table(data), "bar_1m", same)


def made_lake(root: Path, wide: Path, symbols: int, days: int, trades: int) -> dict[str, Any]:
    """The lake, and the same bar files under names that do not say whose they are."""
    import bench_load
    import numpy as np

    from lake.writer import LakeWriter
    from market.session import Coverage

    names = bench_load.symbols(symbols)
    symbol = names[symbols // 2]
    end = bench_load.START + days * DAY
    wide.mkdir(parents=True)
    rng = np.random.default_rng(5)
    with harness.unsynced(), LakeWriter.open(root, "bench", bench_load.START, simulated=True) as writer:
        for number, name in enumerate(names):
            rows = [_day_of(table, "bar_1m", name, root) for table in _bars(name, number, days)]
            writer.publish(add=rows, now=end)
            writer.record_coverage([Coverage(*bench_load.STREAM, "trade", name, "bench-1-1", bench_load.START, end)])
            for row in rows:
                folder = wide / f"date={row.date}"
                folder.mkdir(exist_ok=True)
                os.link(root / row.path, folder / f"{number:04d}.parquet")
        rows = bench_load.trades(rng, trades, [symbol], DAY - 1_000_000)
        shift = (days - 1) * DAY
        table = bench_load.table(
            "trade", rows.with_columns(ts_event=rows["ts_event"] + shift, ts_recv=rows["ts_recv"] + shift)
        )
        deltas = bench_load.deltas(rng, trades // 10, 20, symbol, end - DAY, DAY, 1000, whole=True)
        kept = [_day_of(table, "trade", symbol, root), _day_of(deltas, "book_delta", symbol, root)]
        writer.publish(add=kept, now=end)
        covered = [
            Coverage(*bench_load.STREAM, kind, symbol, "bench-1-1", end - DAY, end) for kind in ("trade", "book_delta")
        ]
        writer.record_coverage(covered)
    return {"lake": str(root), "wide": str(wide), "symbol": symbol, "start": bench_load.START, "end": end}


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = harness.Parser("bench_read.py", __doc__)
    parser.add_argument("--symbols", type=int, help="symbols in the lake (200)")
    parser.add_argument("--days", type=int, help="days of bars (30)")
    parser.add_argument("--sides", default=",".join(PEERS), help="peers to run beside ours")
    options = parser.counted(given, "symbols", "days")
    peers = harness.choice(parser, options.sides, PEERS)
    symbols, days = options.symbols or (6 if options.quick else 200), options.days or (3 if options.quick else 30)
    rounds = options.rounds or (0 if options.quick else 5)
    arctic = harness.peer_python("arcticdb", ARCTICDB, "import arcticdb, pyarrow") if "arcticdb" in peers else None
    if "arcticdb" in peers and arctic is None:
        peers.remove("arcticdb")
    with harness.workplace("read") as place:
        begun = time.monotonic()
        load = made_lake(place / "lake", place / "wide", symbols, days, 20_000 if options.quick else 1_000_000)
        print(f"a lake of {symbols * days:,} daily files in {time.monotonic() - begun:.0f} s", file=sys.stderr)
        load |= {"times": 3 if options.quick else 20, "arctic": str(place / "arctic"), "arctic_symbols": symbols}

        def run(name: str) -> harness.Measured:
            python = arctic if name.startswith("arctic") else sys.executable
            return harness.run_side([str(python), __file__, "--side"], name, load, place / "run")

        if arctic is not None:
            run("arctic-fill")
        sides = [*OURS, *peers]
        told: list[Any] = []

        def equals(_: str, found: harness.Measured) -> bool:
            told.append(found["told"])
            return bool(found["told"] == told[0])

        runs, equal = harness.proven(sides, rounds, run, equals)
        part = harness.part(f"{days} days of 1 m bars of one of {symbols} symbols", runs, OURS, equal)
        part["note"] = f"{told[0][0]:,} rows out of {symbols * days:,} daily files, warm"
        for name, made in runs.items():
            part["sides"][name]["note"] = f"first time {1000 * harness.median(made, 'first'):.0f} ms"
        more = harness.interleaved(["ours-trades", "ours-book"], max(1, min(rounds, 3)), run)
        rest = harness.part("other questions", more, (), dict.fromkeys(more, True))
        rest["note"] = f"a day of {more['ours-trades'][0]['told']:,} trades; a book rebuilt in the middle of a day"
    result = {
        "bench": "read", "parts": [part, rest], "curves": [], "targets": targets(part),
        "machine": harness.machine("polars", "duckdb", "pyarrow", "pandas"),
    }  # fmt: skip
    result["machine"]["versions"]["arcticdb"] = "6.28.2" if arctic else "not installed"
    return harness.finish(result, options)


def targets(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures that this bench has to reach: CPU of one question, and the time that its answer takes."""
    ratio, sides = part["ratios"], part["sides"]
    made = [
        harness.target("30 d query v polars over the tree's hive glob", ratio.get("glob-polars / ours"), 8, 12),
        harness.target("30 d query v polars over a glob of all files", ratio.get("wide-polars / ours"), 8, 12),
    ]
    slower = sides["ours"]["wall"] / sides["arcticdb"]["wall"] if "arcticdb" in sides else None
    made.append(harness.target("30 d query, times ArcticDB's latency", slower, 4, 1.6, less=True))
    return made


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        harness.play(SIDES, sys.argv[2:])
    else:
        raise SystemExit(main())
