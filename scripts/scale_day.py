"""A day at scale: how many files, how large a manifest, how much memory and CPU, for many symbols and for large books.

    python scripts/scale_day.py [--quick] [--json] [--symbols 500] [--rate 0.02] [--days 1] [--book] [--curves]
                                [--out FILE]

The day (default): every kind of `--symbols` symbols, `--rate` trades a second and symbol, as many quotes twice over, a
book update of 20 levels a minute, a mark price and an aggregated trade a minute, a candle a quarter of an hour, a book
snapshot and open interest an hour, a funding rate every eight, a liquidation for one symbol in ten. Lines are
made by the lake's own encoder and sealed by its own writer of segments with simulated times, nobody waits for a day;
every ten simulated minutes the transformer makes a pass, every hour the compactor, at the end the day is closed. No
frames are written: they are the collectors' part; syncs are counted and not carried out. What must come out is known,
and exit code 1 says that it did not: one daily file a symbol and kind (one for all symbols where the kind is of that
grain), and nothing hot left.

`--book`: a day of one book, a million updates of 50 levels in 144 parts, through 24 merges of an hour and the close of
the day, in a worker process whose peak memory must stay below 500 MB.

`--curves`: days of fewer symbols, of other rates, and several days, for the slopes. Exit code 64: a wrong command line.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import bench_harness as harness  # noqa: E402 -- it lies beside this file
from scale_market import HOUR, MINUTE, Market  # noqa: E402 -- likewise

DAY = 24 * HOUR
PATIENCE = 4 * 3600.0
"""Seconds that some simulated days may take."""
STEP = 10
"""Minutes between two passes of the transformer."""
BY_SYMBOL = ("trade", "agg_trade", "quote", "book_delta", "book_snapshot", "bar_1s", "bar_1m")
FOR_ALL = ("liquidation", "mark_price", "funding_rate", "open_interest", "contract", "kline")
BOOK_LIMIT_MB = 500


# -- a day ------------------------------------------------------------------------------------------------------------


class Life:
    """A lake that lives simulated days, and what that costs."""

    def __init__(self, root: Path, symbols: int, rate: float) -> None:
        import bench_load

        from compactor.config import CompactorConfig
        from lake.writer import LakeWriter
        from runtime.workers import InlineExecutor
        from transformer.config import TransformerConfig

        self.root, self.start = root, bench_load.START
        self.names = bench_load.symbols(symbols)
        self.market = Market(self.names, rate, self.start)
        self.writer = LakeWriter.open(root, "scale", self.start, simulated=True)
        self.executor, self.settings = InlineExecutor(), (TransformerConfig(), CompactorConfig())
        self.split = harness.Split()
        self.number = itertools.count()
        self.open: dict[str, tuple[int, list[Any]]] = {}
        self.lines = self.hot = self.passes = 0
        self.problems: list[str] = []

    def day(self, start: int) -> None:
        """One day from its first minute to its close and the end of what it replaced."""
        from market.session import Coverage

        stream = ("binance", "linear")
        self.writer.record_coverage(
            [Coverage(*stream, kind, name, f"scale-{start}-1", start, start + DAY)
             for kind in (*BY_SYMBOL[:5], "mark_price", "kline") for name in self.names]
        )  # fmt: skip
        for at in range(start, start + DAY, MINUTE):
            with self.split.stage("write lines, seal"):
                for kind, events in self.market.minute(at):
                    self.open.setdefault(kind, (at, []))[1].extend(events)
                self._seal(at + MINUTE)
            if (at + MINUTE - start) % (STEP * MINUTE) == 0:
                self._transform(at + MINUTE)
            if (at + MINUTE - start) % HOUR == 0:
                self._compact(at + MINUTE + MINUTE)
        self._seal(start + DAY + HOUR)
        self._transform(start + DAY + MINUTE)
        self.hot = max(self.hot, sum(1 for _ in (self.root / "hot").rglob("*.parquet")))
        self._compact(start + DAY + 16 * MINUTE)
        self._compact(start + DAY + 40 * MINUTE)

    def _seal(self, at: int) -> None:
        """What is due by the cadence of its kind: a minute, ten minutes, an hour."""
        from lake import segments
        from lake.layout import raw_path
        from lake.rows import SegmentRow
        from lake.segment_files import SegmentFile
        from market.kinds import kind as kind_of

        cadence = {"fast": MINUTE, "slow": 10 * MINUTE, "reference": HOUR}
        rows = []
        for kind, (begun, events) in list(self.open.items()):
            if at - begun < cadence[kind_of(kind).cadence] and at % DAY:
                continue
            del self.open[kind]
            path = raw_path("binance", "linear", kind, begun, "scale", next(self.number))
            row = SegmentRow(path=path, exchange="binance", market_type="linear", kind=kind, state="open",
                             period_start=begun)  # fmt: skip
            with SegmentFile(self.root, row) as file:
                if events:
                    file.append(segments.encode_lines(events), len(events), segments.extent(events))
                self.lines += len(events)
                rows.append(file.seal(at))
        if rows:
            self.writer.record(segments=rows)

    def _transform(self, now: int) -> None:
        from transformer.service import transform_once

        with self.split.stage("transform"):
            done = transform_once(self.writer, self.executor, now, self.settings[0])
        self.passes += 1
        if done.failed or done.parked or done.quarantined:
            self.problems.append(f"transformer at {now}: {done}")

    def _compact(self, now: int) -> None:
        from compactor.service import compact_once

        self.hot = max(self.hot, sum(1 for _ in (self.root / "hot").rglob("*.parquet")))
        with self.split.stage("compact"):
            done = compact_once(self.writer, self.executor, now, self.settings[1])
        self.problems += [f"compactor: {failure}" for failure in done.failures]


def side_day(load: dict[str, Any], out: Path) -> harness.Measured:
    """Some days of some symbols in one process: what they cost, and what lies on the disk afterwards."""
    import bench_load
    from loguru import logger

    logger.remove()
    with harness.unsynced() as syncs:
        life = Life(out / "lake", load["symbols"], load["rate"])
        watch = harness.Stopwatch()
        for day in range(load["days"]):
            life.day(bench_load.START + day * DAY)
        measured = watch.result()
        life.writer.close()
        measured["syncs"] = next(syncs)
    return measured | counted(life) | {"split": {name: round(s, 2) for name, s in life.split.seconds.items()}}


def counted(life: Life) -> dict[str, Any]:
    """Files and bytes by place, and what is not as design says."""
    root, symbols = life.root, len(life.names)
    places: dict[str, tuple[int, int]] = {}
    for place in ("raw", "hot", "tables", "versions", "quarantine", "ledger"):
        held = [path for path in (root / place).rglob("*") if path.is_file() and path.suffix != ".json"]
        places[place] = (len(held), sum(path.stat().st_size for path in held))
    days = max(1, len({path.parent for path in (root / "tables").rglob("*data_type=mark_price*/**/*.parquet")}))
    wanted = days * (symbols * len(BY_SYMBOL) + len(FOR_ALL))
    problems = list(life.problems)
    if places["tables"][0] != wanted:
        problems.append(f"tables/ holds {places['tables'][0]} files, {wanted} were to be expected")
    if places["hot"][0]:
        problems.append(f"{places['hot'][0]} files are left in hot/")
    if places["quarantine"][0]:
        problems.append(f"{places['quarantine'][0]} files are in quarantine/")
    return {
        "places": places, "manifest": (root / "manifest.db").stat().st_size, "lines": life.lines, "problems": problems,
        "hot_most": life.hot, "passes": life.passes,
    }  # fmt: skip


# -- a large book -----------------------------------------------------------------------------------------------------


def side_book(load: dict[str, Any], out: Path) -> harness.Measured:
    """Hour merges and the close of a day of one book, as a worker runs them."""
    from compactor.jobs import DayClose, HourMerge
    from compactor.merge_job import Place, close_day, merge_hour
    from lake.manifest import Manifest
    from market.session import Coverage

    manifest = Manifest.read_only(Path(load["lake"]))
    by_hour: dict[int, list[Any]] = {}
    for row in manifest.files("book_delta"):
        by_hour.setdefault(row.hour or 0, []).append(row)
    manifest.close()
    stream = ("binance", "linear", "book_delta")
    place = Place(load["lake"], "bench", f"scale-{out.name}", load["now"])
    watch = harness.Stopwatch()
    split = harness.Split()
    with split.stage("24 merges of an hour"):
        made = [
            merge_hour(place, HourMerge(stream, load["date"], hour, 1, tuple(rows)), {}).add[0]
            for hour, rows in sorted(by_hour.items())
        ]
    covered = [Coverage(*stream, load["symbol"], "bench-1-1", load["now"] - 2 * DAY, load["now"] - DAY)]
    with split.stage("close of the day"):
        day = close_day(place, DayClose(stream, load["date"], tuple(made), ()), [], covered, {})
    assert day.add[0].rows == load["rows"]
    return watch.result(split={name: round(s, 2) for name, s in split.seconds.items()}, bytes=day.add[0].bytes)


def book(place: Path, messages: int, levels: int) -> dict[str, Any]:
    """A day of one book in 144 parts, written by the lake's own writer, and its compaction."""
    import bench_load
    import numpy as np

    from lake.writer import LakeWriter

    rng = np.random.default_rng(1)
    symbol, per_part = "C000USDT", messages // 144
    root = place / "book"
    with LakeWriter.open(root, "bench", bench_load.START, simulated=True) as writer:
        rows = []
        for number in range(144):
            at = bench_load.START + number * 10 * MINUTE
            table = bench_load.deltas(
                rng, per_part, levels, symbol, at, 10 * MINUTE, 1000 + 10 * number * per_part, whole=number == 0
            )
            rows.append(bench_load.part(root, "book_delta", table))
        writer.publish(add=rows, now=bench_load.START)
    load = {"lake": str(root), "rows": 144 * per_part, "now": bench_load.START + 2 * DAY, "symbol": symbol,
            "date": dt.datetime.fromtimestamp(bench_load.START / 1e6, dt.UTC).date().isoformat()}  # fmt: skip
    found = harness.run_side([sys.executable, __file__, "--side"], "book", load, place / "run")
    return found | {"messages": 144 * per_part, "levels": 144 * per_part * levels}


# -- the command line -------------------------------------------------------------------------------------------------

SIDES = {"day": side_day, "book": side_book}


def one(place: Path, symbols: int, rate: float, days: int) -> dict[str, Any]:
    """A life in a process of its own."""
    print(f"  {symbols} symbols, {rate:g} trades a second each, {days} days ...", file=sys.stderr, flush=True)
    load = {"symbols": symbols, "rate": rate, "days": days}
    return load | harness.run_side([sys.executable, __file__, "--side"], "day", load, place / "run", PATIENCE)


def told(found: dict[str, Any]) -> str:
    """One life in words."""
    places = ", ".join(
        f"{name} {count:,} files {size / 1e6:,.1f} MB" for name, (count, size) in found["places"].items()
    )
    return (
        f"{found['symbols']} symbols, {found['rate']:g} trades/s each, {found['days']} days: {found['lines']:,} lines, "
        f"CPU {found['cpu']:.0f} s {found['split']}, peak RSS {found['rss_mb']:.0f} MB; {places}; "
        f"manifest {found['manifest'] / 1e6:.1f} MB; at most {found['hot_most']:,} hot files"
    )


def curves(place: Path, symbols: int, rate: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(lives, their plots): over symbols, over the rate, over days."""
    step, lived = max(1, symbols // 10), {}
    for sized in ((step, rate, 1), (2 * step, rate, 1), (4 * step, rate, 1), (step, 4 * rate, 1), (step, 16 * rate, 1),
                  (step, rate, 2), (step, rate, 3)):  # fmt: skip
        lived[sized] = one(place, *sized)
    over = {
        "symbols": [lived[n * step, rate, 1] for n in (1, 2, 4)],
        "rate": [lived[step, n * rate, 1] for n in (1, 4, 16)],
        "days": [lived[step, rate, n] for n in (1, 2, 3)],
    }
    plots = []
    for x, found in over.items():
        lines = {
            "CPU s": [(one[x], one["cpu"]) for one in found], "peak RSS MB": [(one[x], one["rss_mb"]) for one in found],
            "files in tables/": [(one[x], one["places"]["tables"][0]) for one in found],
            "manifest MB": [(one[x], one["manifest"] / 1e6) for one in found],
            "MB in tables/": [(one[x], one["places"]["tables"][1] / 1e6) for one in found],
        }  # fmt: skip
        label = {"symbols": "symbols", "rate": "trades a second and symbol", "days": "days"}[x]
        plots += [harness.curve(f"{name} over {label}", label, name, {name: points}) for name, points in lines.items()]
    return list(lived.values()), plots


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = harness.Parser("scale_day.py", __doc__)
    parser.add_argument("--symbols", type=int, help="symbols of the day (500)")
    parser.add_argument("--rate", type=float, default=0.02, help="trades a second and symbol (0.02)")
    parser.add_argument("--days", type=int, help="days (1)")
    parser.add_argument("--book", action="store_true", help="the large book instead of the day")
    parser.add_argument("--curves", action="store_true", help="slopes over symbols, rate and days as well")
    options = parser.counted(given, "symbols", "days")
    symbols = options.symbols or (4 if options.quick else 500)
    result: dict[str, Any] = {"bench": "scale", "parts": [], "curves": [], "lives": [], "targets": []}
    with harness.workplace("scale") as place:
        if options.book:
            found = book(place, 14_400 if options.quick else 1_000_000, 50)
            result["book"] = found
            name = f"peak RSS of compacting a day of {found['levels'] / 1e6:.0f} M levels"
            goal = harness.target(name, found["rss_mb"], BOOK_LIMIT_MB, None, less=True, unit="MB")
            result["targets"].append(goal)
        else:
            result["lives"].append(one(place, symbols, options.rate, options.days or 1))
            if options.curves:
                lives, result["curves"] = curves(place, symbols, options.rate)
                result["lives"] += lives
    result["machine"] = harness.machine("polars", "pyarrow", "duckdb")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    problems = [problem for life in result["lives"] for problem in life["problems"]]
    if options.json:
        print(json.dumps(result))
    else:
        for life in result["lives"]:
            print(told(life))
        if options.book:
            print(f"{found['levels']:,} levels in {found['messages']:,} messages: CPU {found['cpu']:.1f} s "
                  f"{found['split']}, peak RSS {found['rss_mb']:.0f} MB, {found['bytes'] / 1e6:.0f} MB")  # fmt: skip
        missed = [f"{goal['name']}: {goal['value']:.0f} MB" for goal in result["targets"] if not goal["met"]]
        print("\n".join(problems[:20] + missed) or "all as it must be")
    return 1 if problems or any(goal["met"] is False for goal in result["targets"]) else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        harness.play(SIDES, sys.argv[2:])
    else:
        raise SystemExit(main())
