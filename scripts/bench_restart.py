"""How fast the daemon comes back, and how cleanly it goes: each figure from real processes over a simulated exchange.

    python scripts/bench_restart.py [--files 2000] [--mb 1024] [--stops 50] [--json] [--out FILE] [--record]

- a lake with so many published files: seconds from the start of the process to the first frame (at most 5), and until a
  second daemon is refused (at most 2)
- so many megabytes of segments that a killed daemon left open: the same (at most 30)
- so many stops under load: the slowest (at most 10 s), none of which may lose anything: every line, frame and session
  in order, no gap with cause `crash`, `dl verify` without a finding
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lake import tables  # noqa: E402 - the checkout is on the path only now
from lake.publish import Placement, publish  # noqa: E402
from lake.rows import SegmentRow  # noqa: E402
from lake.segment_files import SegmentFile  # noqa: E402
from lake.segments import Extent  # noqa: E402
from lake.writer import LakeWriter  # noqa: E402
from market.times import DAY, MINUTE, date_of, floor_to  # noqa: E402
from runtime.clock import SystemClock  # noqa: E402
from scripts import figures  # noqa: E402
from scripts import soak_processes as processes  # noqa: E402
from scripts.bench_harness import machine, target  # noqa: E402

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
SEGMENT_MB = 64
PATIENCE = 600.0
"""Seconds that a busy machine may take for a start."""
LINE = (
    b'{"symbol":"BTCUSDT","stream":"btcusdt@trade","ts_event":%d,"ts_publish":null,"ts_recv":%d,"session":"old-1-1",'
    b'"frame_no":%d,"item":0,"source":"ws","price":"93211.10","qty":"0.025","side":"buy","seq":%d,"condition":"market"}\n'
)
Figures = dict[str, Any]


def main(given: list[str] | None = None) -> int:
    """Exit code 0, 1 where something was lost; a missed target is no failure."""
    options = _options(given)
    with tempfile.TemporaryDirectory(prefix="restart-", dir=options.place) as folder:
        place = Path(folder)
        found: Figures = {"machine": machine("duckdb", "polars", "pyarrow", "sqlalchemy"), "targets": []}
        if options.files:
            found["many_files"] = many_files(place / "files", options.files)
        if options.mb:
            found["unsealed"] = unsealed(place / "unsealed", options.mb)
        if options.stops:
            found["stops"] = stops(place / "stops", options.stops, options.rate, options.seed)
    found["targets"] = _targets(found)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found) if options.json else _text(found))
    if options.record:
        figures.of_restart(found, figures.command("scripts/bench_restart.py", sys.argv[1:] if given is None else given))
    return 1 if found.get("stops", {}).get("lost") else 0


def many_files(place: Path, count: int) -> Figures:
    """A start over a lake with `count` published files."""
    lake, now = place / "lake", SystemClock().now()
    with LakeWriter.open(lake, "old", now) as writer:
        for first in range(0, count, 100):
            rows = [_published(lake, n, now) for n in range(first, min(count, first + 100))]
            writer.publish(add=rows, now=now)
        writer.recover(now)
    with _exchange(place, 500) as exchange:
        config = _config(place, exchange, lake)
        return {"files": count, **_start(config, place)}


def unsealed(place: Path, megabytes: int) -> Figures:
    """A start over what a killed daemon left open."""
    lake, now = place / "lake", SystemClock().now()
    held = 0
    with LakeWriter.open(lake, "old", now) as writer:
        number = 0
        while held < megabytes * 1_000_000:
            number += 1
            held += _left_open(writer, number, now - 10 * MINUTE, min(SEGMENT_MB, megabytes) * 1_000_000)
    with _exchange(place, 500) as exchange:
        config = _config(place, exchange, lake)
        figures = {"bytes": held, "segments": number, **_start(config, place)}
    figures["left_open"] = len(list(lake.rglob("*.open")))
    return figures


def stops(place: Path, count: int, rate: int, seed: int) -> Figures:
    """Starts and stops under load, one after the other on one lake."""
    lake, chance = place / "lake", random.Random(seed)  # noqa: S311 - when to stop is no secret
    took: list[float] = []
    codes: list[int] = []
    with _exchange(place, rate) as exchange:
        config = _config(place, exchange, lake)
        for _ in range(count):
            daemon = processes.Daemon(config, place / "daemon.log", _port(config))
            _first_frame(daemon)
            time.sleep(chance.uniform(0.2, 2.0))
            began = time.monotonic()
            codes.append(daemon.stop())
            took.append(time.monotonic() - began)
    lost = [f"exit code {code}" for code in codes if code] + _lost(lake)
    return {
        "stops": count, "rate": rate, "seed": seed, "slowest_seconds": round(max(took), 3),
        "median_seconds": round(sorted(took)[len(took) // 2], 3), "lost": lost,
    }  # fmt: skip


def _lost(lake: Path) -> list[str]:
    """What a clean stop must not leave behind."""
    with sqlite3.connect(f"file:{lake / 'manifest.db'}?mode=ro", uri=True) as db:
        crashes = db.execute("SELECT count(*) FROM gaps WHERE cause = 'crash'").fetchone()[0]
        unclosed = db.execute("SELECT count(*) FROM sessions WHERE closed_at IS NULL").fetchone()[0]
        unclean = db.execute("SELECT count(*) FROM segments WHERE NOT clean").fetchone()[0]
    found = [
        f"{n} {what}" for n, what in ((crashes, "crash gaps"), (unclosed, "open sessions"), (unclean, "torn")) if n
    ]
    found += [f"{path.name} left open" for path in lake.rglob("*.open")]
    for command in ("transform", "verify"):
        done = subprocess.run(
            [sys.executable, "-m", "cli", command, "--lake", str(lake), "--json"], cwd=ROOT, check=False,
            capture_output=True, text=True, env=processes.environment(),
        )  # fmt: skip
        if done.returncode:
            found.append(f"dl {command}: exit code {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return found


def _published(lake: Path, number: int, now: int) -> Any:
    """One daily file of one trade."""
    at = floor_to(now, DAY) - (1 + number // 500) * DAY + number
    date = date_of(at)
    symbol = f"S{number % 500}USDT"
    row = {
        "exchange": "binance", "market_type": "linear", "symbol": symbol, "date": date,
        "ts_event": at, "ts_estimated": False, "ts_recv": at, "session": "old-1-1", "frame_no": number, "item": 0,
        "source": "ws", "seq": number, "price": 1.5, "qty": 2.0, "qty_unit": "base", "multiplier": "1", "side": "buy",
        "condition": "market",
    }  # fmt: skip
    table = tables.conform(pa.Table.from_pylist([row]), "trade")
    placed = Placement(
        kind="trade", exchange="binance", market_type="linear", level="day", date=date.isoformat(), symbol=symbol
    )
    return publish(lake, placed, [table], run="bench", now=now)


def _left_open(writer: LakeWriter, number: int, at: int, size: int) -> int:
    """One segment that was never sealed; its bytes."""
    market = ("spot", "linear")[number % 2]
    date = date_of(at).isoformat()
    path = f"raw/exchange=binance/market_type={market}/data_type=trade/date={date}/000000-old-{number:06d}.jsonl"
    row = SegmentRow(
        path=path, exchange="binance", market_type=market, kind="trade", state="open", period_start=at + number
    )
    writer.open_segment(row)
    file = SegmentFile(writer.root, row)
    first = number * 1_000_000
    while file.size < size:
        lines = [LINE % (at + n, at + n, n, n) for n in range(first, first + 4000)]
        file.append(b"".join(lines), len(lines), Extent(at + first, at + first + 3999, None, None))
        first += 4000
    file.sync()
    held = file.size
    file.close()
    return held


@contextmanager
def _exchange(place: Path, rate: int) -> Iterator[processes.Exchange]:
    place.mkdir(parents=True, exist_ok=True)
    options = ["--log", str(place / "truth.jsonl"), "--symbols", ",".join(SYMBOLS), "--rate", str(rate)]
    running = processes.Exchange(["-m", "simulator", "--venue", "binance", *options])
    try:
        yield running
    finally:
        running.stop()


def _config(place: Path, exchange: processes.Exchange, lake: Path) -> Path:
    address = exchange.address["venues"]["binance"]
    source = {
        "exchange": "binance", "market_type": "linear", "symbols": SYMBOLS, "kinds": ["trade", "quote"],
        "endpoint": {"rest": address["rest"]["linear"], "ws": address["ws"]["linear"]},
    }  # fmt: skip
    document = {
        "lake": str(lake), "http": {"port": processes.free_port()}, "logs": {"file": False},
        "collectors": {"node": "bench", "sources": [source], "writing": {"seal_seconds": 5}},
    }  # fmt: skip
    path = place / "config.json"
    path.write_text(json.dumps(document))
    return path


def _port(config: Path) -> int:
    return int(json.loads(config.read_text())["http"]["port"])


def _start(config: Path, place: Path) -> Figures:
    """Seconds to the first frame and to the refusal of a second daemon, of one start."""
    began = time.monotonic()
    daemon = processes.Daemon(config, place / "daemon.log", _port(config))
    try:
        _first_frame(daemon)
        first, cpu = time.monotonic() - began, processes.Usage(daemon.process.pid).cpu()
        refused = []
        for _ in range(3):
            began = time.monotonic()
            second = processes.Daemon(config, place / "second.log", 0)
            code = second.process.wait(PATIENCE)
            refused.append(time.monotonic() - began)
            if code != 73:
                raise SystemExit(f"the second daemon ended with {code}: {(place / 'second.log').read_text()[-2000:]}")
    finally:
        code = daemon.stop()
    if code:
        raise SystemExit(f"the daemon ended with {code}: {(place / 'daemon.log').read_text()[-2000:]}")
    return {
        "first_frame_seconds": round(first, 3), "first_frame_cpu_seconds": round(cpu, 2),
        "refused_seconds": round(min(refused), 3),
    }  # fmt: skip


def _first_frame(daemon: processes.Daemon) -> None:
    deadline = time.monotonic() + PATIENCE
    while not processes.total(daemon.metrics(), "lake_received_frames_total"):
        if daemon.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"no frame came:\n{daemon.log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.01)


def _targets(found: Figures) -> list[Figures]:
    made = []
    for name, key, most in (("many files", "many_files", 5.0), ("unsealed segments", "unsealed", 30.0)):
        if key in found:
            seconds = found[key]["first_frame_seconds"]
            made.append(target(f"{name}: first frame", seconds, most, None, less=True, unit="s"))
            refused = found[key]["refused_seconds"]
            made.append(target(f"{name}: second daemon refused", refused, 2.0, None, less=True, unit="s"))
    if "stops" in found:
        made.append(target("slowest stop", found["stops"]["slowest_seconds"], 10.0, None, less=True, unit="s"))
        made.append(target("lost by stops", float(len(found["stops"]["lost"])), 0.0, None, less=True, unit=""))
    return made


def _text(found: Figures) -> str:
    held = found["machine"]
    lines = [f"Python {held['python']}, {held['system']}, {held['cpus']} x {held['cpu']}, load {held.get('load')}"]
    lines += [
        f"{key}: " + ", ".join(f"{name} {value}" for name, value in found[key].items())
        for key in ("many_files", "unsealed", "stops")
        if key in found
    ]
    for one in found["targets"]:
        verdict = "met" if one["met"] else "MISSED"
        lines += [f"{verdict:<7}{one['name']}: {one['value']} {one['unit']} (<= {one['must']})"]
    return "\n".join(lines)


def _options(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="published files; 0 leaves this out")
    parser.add_argument("--mb", type=int, default=1024, help="megabytes of unsealed segments; 0 leaves this out")
    parser.add_argument("--stops", type=int, default=50, help="clean stops; 0 leaves them out")
    parser.add_argument("--rate", type=int, default=2000, help="events per second while it is stopped")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the stops")
    parser.add_argument("--place", type=Path, help="folder for the lakes (default: that of temporary files)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--out", type=Path, help="write the JSON object to this file too")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/reliability-figures.json")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
