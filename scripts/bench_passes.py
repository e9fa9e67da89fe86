"""How long a write pass waits for the disk: one file at a time, many abreast (ADR 0029), and in two halves (ADR 0030).

    python scripts/bench_passes.py [--markets 18] [--minutes 2] [--syncs 20] [--rounds 3] [--place DIR] [--json]

The real `GroupCommit` over a lake on the disk of `--place`: of each market four kinds and their frames, a few lines in
every file before each pass. `sync` is a pass that forces all of them to the disk, `minute` the one that seals them all,
`stop` the last. All ways in turn, in every round; each must have stored every line, or the bench ends with 1. Wall time
is what is asked for here: in a pass nothing else that came is written, and a kill loses it. In two halves the time is
that until all of the pass is in files: it waits for files that are being sealed or made, not for those that are synced.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from loguru import logger

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from collectors.abreast import WIDTH, Abreast  # noqa: E402 - the checkout is on the path only now
from collectors.config import WritingConfig  # noqa: E402
from collectors.intake import LaneKey, Lines, MarketKey, Pass, lines_of, lines_of_frames  # noqa: E402
from collectors.writing import GroupCommit  # noqa: E402
from lake.writer import LakeWriter  # noqa: E402
from market.kinds import Trade  # noqa: E402
from market.times import MINUTE, SECOND, floor_to  # noqa: E402
from scripts.bench_harness import Parser, interleaved, machine  # noqa: E402

KINDS = ("trade", "agg_trade", "liquidation", "mark_price")
"""Names of folders: the lines are of one form in all of them."""
LINES = 20
SESSION = "bench-1-1"
SIDES = {"one by one": (0, False), "abreast": (WIDTH, False), "two halves": (WIDTH, True)}
"""Files at a time, and whether a pass has two halves."""
Figures = dict[str, Any]


def main(given: list[str] | None = None) -> int:
    parser = Parser("bench_passes.py", __doc__)
    parser.add_argument("--markets", type=int, default=18, help="markets with five files each (18)")
    parser.add_argument("--minutes", type=int, default=2, help="minutes whose ends seal every file (2)")
    parser.add_argument("--syncs", type=int, default=20, help="passes that sync in each minute (20)")
    parser.add_argument("--place", type=Path, help="folder on the disk that is measured (that of temporary files)")
    options = parser.counted(given, "markets", "minutes", "syncs")
    if options.place is not None and not options.place.is_dir():
        parser.error(f"--place {options.place} is no folder")
    rounds = 1 if options.quick else options.rounds or 3

    def side(name: str) -> Figures:
        with tempfile.TemporaryDirectory(prefix="passes-", dir=options.place) as folder:
            return measured(Path(folder), *SIDES[name], options.markets, options.minutes, options.syncs)

    runs = interleaved(list(SIDES), rounds, side)
    lines = options.markets * len(KINDS) * LINES * options.minutes * (options.syncs + 1)
    found = {
        "machine": machine(), "files": options.markets * (len(KINDS) + 1), "rounds": rounds,
        "sides": {name: _medians(made) for name, made in runs.items()},
        "equal": all(run["lines"] == lines for made in runs.values() for run in made),
    }  # fmt: skip
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found) if options.json else shown(found))
    return 0 if found["equal"] else 1


def shown(found: Figures) -> str:
    """The table."""
    heads = ("sync", "sync_p99", "minute", "stop", "cpu_sync", "cpu_minute")
    said = "equal" if found["equal"] else "DIFFER"
    rows = [f"{found['files']} open files, median of {found['rounds']} rounds, ms; lines {said}"]
    rows.append(f"{'':<12}" + "".join(f"{name:>12}" for name in heads))
    rows += [f"{name:<12}" + "".join(f"{side[key]:>12.1f}" for key in heads) for name, side in found["sides"].items()]
    return "\n".join(rows)


def _medians(runs: Sequence[Figures]) -> Figures:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def measured(place: Path, threads: int, halves: bool, markets: int, minutes: int, syncs: int) -> Figures:
    """Milliseconds of the passes of one life, and the lines that its manifest has in the end."""
    start = floor_to(time.time_ns() // 1000, MINUTE) + SECOND
    kept: list[MarketKey] = [(f"bench{n}", "spot") for n in range(markets)]
    lanes: list[LaneKey] = [(*market, kind) for market in kept for kind in KINDS]
    took: dict[str, list[tuple[float, float]]] = {"sync": [], "minute": [], "stop": []}
    with (
        LakeWriter.open(place / "lake", "bench", start) as writer,
        ThreadPoolExecutor(max(threads, 1)) as files,
        ThreadPoolExecutor(1) as beside,
    ):
        commit = GroupCommit(writer, "bench", WritingConfig(), Abreast(files if threads else None))
        commit.begin(lanes, start, kept)
        step = (MINUTE - 2 * SECOND) // syncs
        ends = [
            (start + minute * MINUTE + (MINUTE if number == syncs else number * step) - SECOND // 2, number == syncs)
            for minute in range(minutes) for number in range(syncs + 1)
        ]  # fmt: skip
        for number, (at, full) in enumerate(ends):
            events, frames = _came(number, at - SECOND // 4)
            work = Pass(at, [(one, [frames]) for one in kept], [(lane, [events]) for lane in lanes], sync=True)
            timed = _in_halves(commit, work, beside) if halves else _timed(commit, work)
            took["minute" if full else "sync"].append(timed)
        took["stop"].append(_timed(commit, Pass(ends[-1][0] + 1, sync=True, final=True)))
        commit.close()
        lines = sum(row.rows for lane in lanes for row in writer.manifest.segments(*lane))
    walls = {name: statistics.median(wall for wall, _ in made) for name, made in took.items()}
    cpu = {f"cpu_{name}": statistics.median(cpu for _, cpu in made) for name, made in took.items()}
    worst = sorted(wall for wall, _ in took["sync"])
    return {**walls, **cpu, "sync_p99": worst[min(len(worst) - 1, len(worst) * 99 // 100)], "lines": lines}


def _came(number: int, at: int) -> tuple[Lines, Lines]:
    first = number * LINES + 1
    trades = [
        Trade("BTCUSDT", "trade", at, None, at, SESSION, no, 0, "ws", "93211.10", "0.025", "buy", no, "market")
        for no in range(first, first + LINES)
    ]
    return lines_of(trades), lines_of_frames(SESSION, [at] * LINES, first, [b'{"e":"trade"}'] * LINES)


def _timed(commit: GroupCommit, work: Pass) -> tuple[float, float]:
    wall, cpu = time.monotonic(), time.process_time()
    commit.commit(work)
    return (time.monotonic() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def _in_halves(commit: GroupCommit, work: Pass, beside: Executor) -> tuple[float, float]:
    """How long what came waited until all of it was in files, while it was made durable."""
    began, cpu = time.monotonic(), time.process_time()
    commit.write(work)
    settling = beside.submit(commit.settle, work.now)
    kept = None
    while not wait([settling], timeout=0.001).done:
        if commit.write(Pass(work.now)) and kept is None:
            kept = time.monotonic()
    settling.result()
    return ((kept or time.monotonic()) - began) * 1e3, (time.process_time() - cpu) * 1e3


if __name__ == "__main__":
    logger.remove()  # what each of the files says at its seal
    raise SystemExit(main())
