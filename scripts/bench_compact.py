"""What compaction costs: the parts of one symbol's day to one sorted daily file, by ours and by what people use.

    python scripts/bench_compact.py [--quick] [--json] [--rows N] [--parts N] [--rounds N] [--sides A,B] [--out FILE]

N trades of one day lie in 1,440 parts of a minute, published by the lake's own writer. Sides:

- ours-merge: the compactor's merge and writer alone (order, duplicates, encodings): what the peers do;
- ours: the whole close of a day as the daemon runs it: every input hashed, merged, written, each page read back and
  checked, sums of inputs and output compared, content digest, certificate; its split is shown;
- ours-hours: the way a live day goes, 24 hours merged first and the day closed from them: every row is written twice;
- pandas (concat, sort, snappy), polars (scan, sort, write), duckdb (COPY ... ORDER BY), pyarrow (dataset, sort_by),
  the last three to zstd 3: none of them hashes, checks or reads back anything;
- codec: the day read and written with our encodings and nothing else, the bound of any merge.

First a round proves that all sides wrote the same rows in the same order. Exit code 0, 1 where rows differ, 64.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import bench_harness as harness  # noqa: E402 -- it lies beside this file

SYMBOL = "C000USDT"
OURS = ("ours-merge", "ours", "ours-hours")
PEERS = ("pandas", "polars", "duckdb", "pyarrow")


def parts_of(load: dict[str, Any]) -> list[Path]:
    return [Path(load["lake"]) / row.path for row in _rows(load)]


# -- ours -------------------------------------------------------------------------------------------------------------


def _rows(load: dict[str, Any]) -> list[Any]:
    from lake.manifest import Manifest

    manifest = Manifest.read_only(Path(load["lake"]))
    try:
        return sorted(manifest.files("trade"), key=lambda row: (row.ts_min, row.path))
    finally:
        manifest.close()


def ours_merge(load: dict[str, Any], out: Path) -> harness.Measured:
    """The compactor's merge into the lake's writer of Parquet, and nothing of what makes a file publishable."""
    sys.meta_path.insert(0, harness.WithoutPandas())
    from compactor import merge_job
    from lake import parquet

    rows = _rows(load)
    watch = harness.Stopwatch()
    flow = merge_job.Flow(Path(load["lake"]), "trade")
    flow.sums.add = lambda *_: None  # type: ignore[method-assign] # conservation is not the merge's own
    for row in rows:
        flow.source([row])
    with (out / "day.parquet").open("wb") as sink:
        parquet.write(sink, "trade", flow.pieces(), lambda _: None)
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


def ours(load: dict[str, Any], out: Path) -> harness.Measured:
    """The close of the day, from the parts themselves."""
    from compactor.jobs import DayClose

    job = DayClose(_stream(), load["date"], tuple(_rows(load)), ())
    return _closed(load, out, lambda place: _close(place, job))


def ours_hours(load: dict[str, Any], out: Path) -> harness.Measured:
    """24 merges of an hour and the close of the day from what they made."""
    from compactor.jobs import DayClose, HourMerge
    from compactor.merge_job import merge_hour

    by_hour: dict[int, list[Any]] = {}
    for row in _rows(load):
        by_hour.setdefault(row.hour, []).append(row)

    def run(place: Any) -> Any:
        made = [
            merge_hour(place, HourMerge(_stream(), load["date"], hour, 1, tuple(rows)), {}).add[0]
            for hour, rows in sorted(by_hour.items())
        ]
        closed = _close(place, DayClose(_stream(), load["date"], tuple(made), ()))
        for row in made:
            (place.path / row.path).unlink()
        return closed

    return _closed(load, out, run)


def _stream() -> tuple[str, str, str]:
    import bench_load

    return (*bench_load.STREAM, "trade")


def _close(place: Any, job: Any) -> Any:
    from compactor.merge_job import close_day
    from market.session import Coverage
    from market.times import DAY

    start = job.inputs[0].ts_min // DAY * DAY
    covered = [Coverage(*job.stream, SYMBOL, "bench-1-1", start, start + DAY)]
    return close_day(place, job, [], covered, {})


def _closed(load: dict[str, Any], out: Path, run: Any) -> harness.Measured:
    """`run` with its CPU seconds split by what it does; the daily file becomes `day.parquet`."""
    sys.meta_path.insert(0, harness.WithoutPandas())
    from compactor import certificate, merge_job
    from lake import checks, digest, merge, parquet

    split = harness.Split()
    for owner, name, stage in (
        (parquet, "write", "read, merge, write"), (parquet, "verify", "read back and verify"),
        (merge_job, "check_inputs", "hash inputs"), (digest.ContentDigest, "update", "content digest"),
        (parquet, "file_sha256", "hash the output"), (merge, "duplicates", "look for duplicates"),
        (merge_job.Flow, "extent", "bounds of the inputs"),
        (certificate.Measure, "add", "certificate"), (checks.Sums, "add", "sums (conservation)"),
        (parquet.Stats, "add", "statistics, decimals"),
    ):  # fmt: skip
        split.watch(owner, name, stage)
    place = merge_job.Place(load["lake"], "bench", f"bench-{out.name}", load["now"])
    watch = harness.Stopwatch()
    made = run(place)
    measured = watch.result()
    rest = measured["cpu"] - sum(split.seconds.values())
    file = Path(load["lake"]) / made.add[0].path
    assert made.add[0].rows == load["rows"] == made.certificates[0].rows
    file.replace(out / "day.parquet")
    shown = {name: round(seconds, 4) for name, seconds in (split.seconds | {"rest": rest}).items()}
    return measured | {"split": shown, "bytes": made.add[0].bytes}


def codec(load: dict[str, Any], out: Path) -> harness.Measured:
    """The day read and written again, row group by row group."""
    import pyarrow.parquet as pq

    from lake import tables

    watch = harness.Stopwatch()
    target = out / "day.parquet"
    with (
        pq.ParquetFile(load["day"], page_checksum_verification=True, memory_map=False) as source,
        pq.ParquetWriter(target, source.schema_arrow, **tables.parquet_options("trade")) as writer,
    ):
        for group in range(source.num_row_groups):
            writer.write_table(source.read_row_group(group), row_group_size=tables.ROW_GROUP_ROWS)
    return watch.result(bytes=target.stat().st_size)


# -- what people use --------------------------------------------------------------------------------------------------

KEYS = ["symbol", "ts_event", "seq"]


def pandas(load: dict[str, Any], out: Path) -> harness.Measured:
    import pandas as pd

    watch = harness.Stopwatch()
    frame = pd.concat([pd.read_parquet(path, partitioning=None) for path in parts_of(load)], ignore_index=True)
    frame.sort_values(KEYS, kind="stable").to_parquet(out / "day.parquet", index=False)
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


def polars(load: dict[str, Any], out: Path) -> harness.Measured:
    import polars as pl

    watch = harness.Stopwatch()
    frame = pl.scan_parquet(parts_of(load), hive_partitioning=False, glob=False).sort(KEYS, maintain_order=True)
    frame.sink_parquet(out / "day.parquet", compression="zstd", compression_level=3)
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


def duckdb(load: dict[str, Any], out: Path) -> harness.Measured:
    import duckdb as db

    watch = harness.Stopwatch()
    with db.connect(config={"autoinstall_known_extensions": False}) as connection:
        files = [str(path) for path in parts_of(load)]
        connection.execute(
            f"COPY (SELECT * FROM read_parquet({files}, hive_partitioning=false) ORDER BY {', '.join(KEYS)})"
            f" TO '{out / 'day.parquet'}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)"
        )
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


def pyarrow(load: dict[str, Any], out: Path) -> harness.Measured:
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    watch = harness.Stopwatch()
    table = ds.dataset([str(path) for path in parts_of(load)], format="parquet").to_table()
    table = table.unify_dictionaries().combine_chunks().sort_by([(name, "ascending") for name in KEYS[1:]])
    pq.write_table(table, out / "day.parquet", compression="zstd", compression_level=3)
    return watch.result(bytes=(out / "day.parquet").stat().st_size)


def sha256(load: dict[str, Any], _: Path) -> harness.Measured:
    """Our hash of a file on disk, and hashlib over the same bytes in memory."""
    from lake import parquet

    path, times = Path(load["day"]), 20
    data = path.read_bytes()
    watch = harness.Stopwatch()
    for _ in range(times):
        parquet.file_sha256(path)
    disk = watch.seconds() / times
    start = time.process_time()
    for _ in range(times):
        hashlib.sha256(data).hexdigest()
    memory = (time.process_time() - start) / times
    return watch.result(disk=disk, memory=memory)


SIDES = {
    "ours-merge": ours_merge, "ours": ours, "ours-hours": ours_hours, "codec": codec, "pandas": pandas,
    "polars": polars, "duckdb": duckdb, "pyarrow": pyarrow, "sha256": sha256,
}  # fmt: skip


# -- the bench --------------------------------------------------------------------------------------------------------


def made_parts(root: Path, rows: int, parts: int) -> dict[str, Any]:
    """A lake with the day in parts."""
    import bench_load
    import numpy as np

    from lake.writer import LakeWriter
    from market.times import DAY, date_of

    rng = np.random.default_rng(11)
    frame = bench_load.table("trade", bench_load.trades(rng, rows, [SYMBOL], DAY - 60_000_000))
    times = frame.column("ts_event").cast("int64").to_numpy()
    edges = np.searchsorted(times, bench_load.START + DAY // parts * np.arange(parts + 1))
    with LakeWriter.open(root, "bench", bench_load.START, simulated=True) as writer:

        def published() -> Iterator[Any]:
            for first, last in itertools.pairwise(edges):
                if last > first:
                    yield bench_load.part(root, "trade", frame.slice(int(first), int(last - first)).combine_chunks())

        writer.publish(add=list(published()), now=bench_load.START)
    return {
        "lake": str(root), "rows": rows, "now": bench_load.START + 2 * DAY,
        "date": date_of(bench_load.START).isoformat(), "arrow_mb": round(frame.nbytes / 1e6, 1),
    }  # fmt: skip


def rows_of(path: Path) -> Any:
    """What a side wrote, in one form."""
    import polars as pl

    names = ["symbol", "side", "session"]
    wanted = ["ts_event", "ts_recv", "seq", "frame_no", "price", "qty", *names]
    return pl.read_parquet(path, hive_partitioning=False).select(
        pl.col(name).cast(pl.String) if name in names else pl.col(name).to_physical() for name in wanted
    )


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = harness.Parser("bench_compact.py", __doc__)
    parser.add_argument("--rows", type=int, help="trades of the day (5000000)")
    parser.add_argument("--parts", type=int, help="parts they lie in (1440)")
    parser.add_argument("--sides", default=",".join(PEERS), help="peers to run beside ours")
    options = parser.counted(given, "rows", "parts")
    peers = harness.choice(parser, options.sides, PEERS)
    rows = options.rows or (30_000 if options.quick else 5_000_000)
    count = options.parts or (48 if options.quick else 1440)
    rounds = options.rounds or (0 if options.quick else 5)
    command = [sys.executable, __file__, "--side"]
    with harness.workplace("compact") as place:
        load = made_parts(place / "lake", rows, count)
        (place / "kept").mkdir()
        load["day"] = str(place / "kept" / "day.parquet")

        def run(name: str) -> harness.Measured:
            return harness.run_side(command, name, load, place / "run")

        sides = [*OURS, *peers, "codec"]
        first: list[Any] = []

        def equals(_: str, __: harness.Measured) -> bool:
            made = rows_of(place / "run" / "day.parquet")
            if not first:
                first.append(made)
                (place / "run" / "day.parquet").replace(load["day"])
            return bool(first[0].height == rows and first[0].equals(made))

        runs, equal = harness.proven(sides, rounds, run, equals)
        part = harness.part(f"{count:,} parts to one day", runs, OURS, equal)
        part["note"] = f"{rows:,} trades, {load['arrow_mb']} MB as Arrow"
        hashed = run("sha256")
        sizes = {name: side["bytes"] for name, side in part["sides"].items()}
    result = {
        "bench": "compact", "parts": [part], "curves": [], "targets": targets(part, hashed, sizes), "sizes": sizes,
        "machine": harness.machine("polars", "duckdb", "pyarrow", "pandas"),
        "sha256": {"share": hashed["memory"] / hashed["disk"], "gb_per_cpu_s": sizes["ours"] / hashed["disk"] / 1e9},
    }  # fmt: skip
    return harness.finish(result, options)


def targets(part: dict[str, Any], hashed: dict[str, Any], sizes: dict[str, int]) -> list[dict[str, Any]]:
    """The figures that this bench has to reach."""
    made = []
    for side, words in (("ours-merge", "merge and write"), ("ours", "whole close of a day")):
        for peer, must, stretch in (("pandas", 2.5, 3.3), ("polars", 1.7, 2.2), ("duckdb", 1.8, 2.3)):
            made.append(
                harness.target(f"compaction, {words}, v {peer}", part["ratios"].get(f"{peer} / {side}"), must, stretch)
            )
    bound = part["ratios"]["codec / ours-merge"]
    made.append(harness.target("merge and write, share of the codec bound", 100 * bound, 45, 65, unit="%"))
    rss = max(part["sides"][name]["rss_mb"] for name in OURS)
    made.append(harness.target("peak RSS of compaction", rss, 350, 220, less=True, unit="MB"))
    for peer, must, stretch in (("pyarrow", 25, 30), ("pandas", 60, 65)):
        saved = None if peer not in sizes else 100 * (1 - sizes["ours"] / sizes[peer])
        made.append(harness.target(f"daily file smaller than {peer}'s by", saved, must, stretch, unit="%"))
    share = 100 * hashed["memory"] / hashed["disk"]
    made.append(harness.target("SHA-256 of a file v hashlib on memory", share, 80, 88, unit="%"))
    return made


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        harness.play(SIDES, sys.argv[2:])
    else:
        raise SystemExit(main())
