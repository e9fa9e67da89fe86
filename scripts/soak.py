"""A daemon against the simulator with every network fault thrown, then the comparison of both records.

    python scripts/soak.py [--minutes 10] [--symbols 200] [--rate 5000] [--markets spot,linear,inverse] [--json]
    python scripts/soak.py --burst [--json]

Three markets x N symbols x every kind that the venue offers. `--rate` is trades and quotes a second of the simulated
market; aggregates, books, marks and candles come on top (5,000 make about 10,800 events a second with 200 symbols).
Faults come by a schedule that fills the run (`scripts/soak_schedule.py`; `--faults none` leaves them out). Afterwards
every event that was sent is looked for in the lake: it is stored once as it was, or an open gap names it, and no gap
names more than is missing (`simulator/oracle.py`). Also asked for: loop delay p99 below 50 ms, memory below 350 MB, a
clean end, no gap at a planned handover.

`--burst`: `scripts/blast.py` sends 60,000 frames a second for ten seconds: all are stored, or what was shed is counted
and in gaps.

Writes nothing outside `--out`, whose lake, log and truth stay there. Exit code 0, 1 for a violation, 64 for a wrong
command line. Linux only: memory and CPU time are read from /proc.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import figures  # noqa: E402
import msgspec  # noqa: E402 -- the packages are one folder up
import soak_processes as processes  # noqa: E402
from soak_schedule import Act, schedule  # noqa: E402

from collectors import exchanges  # noqa: E402
from lake import Lake  # noqa: E402
from lake.manifest import Manifest  # noqa: E402
from simulator import oracle, witness  # noqa: E402
from simulator.instruments import dormant, named_in, names  # noqa: E402

LOOP_P99, RSS_MB = 0.05, 350.0
BURST_RATE, BURST_SECONDS = 60_000, 10
RUN = "run.json"
SHORT = 240.0
"""Seconds below which patience and seals are shortened, so that a short run sees the same."""


def write_config(folder: Path, sources: list[dict[str, Any]], port: int, *, short: bool) -> Path:
    """The daemon's configuration; a JSON document is YAML too."""
    collectors: dict[str, Any] = {"node": "soak", "sources": sources}
    if short:
        collectors["writing"] = {"seal_seconds": 5, "slow_seal_seconds": 10}
        collectors["connections"] = {
            "silent_socket_seconds": 4, "silent_stream_seconds": 5,
            "backoff_first_seconds": 0.2, "backoff_max_seconds": 2,
        }  # fmt: skip
    document = {"lake": str(folder / "lake"), "http": {"port": port}, "logs": {"file": False}, "collectors": collectors}
    path = folder / "config.json"
    path.write_text(json.dumps(document, indent=1))
    return path


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.out
        self.seconds = options.minutes * 60
        self.markets: list[str] = options.markets.split(",")
        listed = names(options.symbols)
        self.symbols = {market: [named_in(market, name) for name in listed] for market in self.markets}
        self.new = named_in("inverse", dormant(listed, 1)[0])
        self.measured: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Both processes, the faults, the end, the judgement."""
        options = self.options
        simulator = processes.Exchange(
            ["-m", "simulator", "--log", str(self.folder / "truth.jsonl"), "--markets", options.markets,
             "--symbols", str(options.symbols), "--rate", str(options.rate), "--seed", str(options.seed),
             "--dormant", "1", "--log-sync", "0"]
        )  # fmt: skip
        try:
            port = processes.free_port()
            config = write_config(self.folder, self._sources(simulator), port, short=self.seconds < SHORT)
            daemon = processes.Daemon(config, self.folder / "daemon.log", port)
            try:
                daemon.wait_until_ready()
                self._hold(simulator, daemon)
                until = time.time_ns() // 1000
                began = time.monotonic()
                code = daemon.stop()
                self.measured |= {"exit_code": code, "stop_seconds": round(time.monotonic() - began, 2)}
            finally:
                daemon.kill()
        finally:
            simulator.stop()
        transform(config)
        (self.folder / RUN).write_text(json.dumps({"until": until, "measured": self.measured}))
        return self.judge()

    def _sources(self, simulator: processes.Exchange) -> list[dict[str, Any]]:
        offers = exchanges.load("binance").OFFERS
        return [
            {
                "exchange": "binance", "market_type": market,
                "symbols": ["*"] if market == "inverse" and self.options.pattern else self.symbols[market],
                "kinds": list(offers[market]), "redundancy": self.options.redundancy,
                "endpoint": {name: simulator.address[name][market] for name in ("rest", "ws")},
            }
            for market in self.markets
        ]  # fmt: skip

    def _hold(self, simulator: processes.Exchange, daemon: processes.Daemon) -> None:
        """Let it run, throw what is due, look at it once a second."""
        acts: list[Act] = []
        if self.options.faults == "all":
            acts = schedule(self.seconds, self.symbols, self.new)
        used = {"daemon": processes.Usage(daemon.process.pid), "simulator": processes.Usage(simulator.process.pid)}
        began, before = time.monotonic(), {name: one.cpu() for name, one in used.items()}
        beats = processes.delays(daemon.metrics())
        looked = 0.0
        while (now := time.monotonic() - began) < self.seconds:
            while acts and acts[0].at <= now:
                act = acts.pop(0)
                self._say(f"{now:6.1f} s  {act.name}: {act.body}")
                simulator.ask(act.route, act.body)
            if now - looked >= 1:
                looked = now
                for one in used.values():
                    one.look()
            if daemon.process.poll() is not None:
                raise SystemExit(f"the daemon ended:\n{daemon.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.05)
        metrics = daemon.metrics()
        (self.folder / "metrics.txt").write_text(metrics)
        (self.folder / "status.json").write_bytes(processes.get(f"{daemon.url}/status")[1])
        self.measured |= {
            "seconds": round(now, 1),
            "loop_delay_p99_seconds": processes.quantile(beats, processes.delays(metrics), 0.99),
            "rss_mb": round(used["daemon"].rss_mb, 1),
            "rss_by_tenths_mb": [round(mb) for mb in used["daemon"].tenths()],
            "rss_with_workers_mb": round(used["daemon"].all_rss_mb, 1),
            "daemon_cores": round((used["daemon"].cpu() - before["daemon"]) / now, 3),
            "simulator_cores": round((used["simulator"].cpu() - before["simulator"]) / now, 3),
            "simulator_rss_mb": round(used["simulator"].rss_mb, 1),
            "received": int(processes.total(metrics, "lake_received_events_total")),
            "duplicates": int(processes.total(metrics, "lake_duplicate_events_total")),
            "rejected": int(processes.total(metrics, "lake_rejected_frames_total")),
            "shed": int(processes.total(metrics, "lake_shed_events_total")),
            "restarts": processes.by_label(metrics, "lake_service_restarts_total", "service"),
        }

    def judge(self) -> dict[str, Any]:
        """The comparison of what a run left."""
        began = time.monotonic()
        left = json.loads((self.folder / RUN).read_text())
        self.measured, until = left["measured"], left["until"]
        seen = witness.read(self.folder / "truth.jsonl")
        stored, twice = read_lake(self.folder / "lake", self.markets)
        manifest = Manifest.read_only(self.folder / "lake")
        gaps, aside = manifest.gaps(), sum(row.count for row in manifest.quarantine())
        manifest.close()
        offers = exchanges.load("binance").OFFERS
        wanted = {
            (kind, market, symbol)
            for market, symbols in self.symbols.items()
            for kind in IDS
            if kind in offers[market] and kind != "liquidation" and (kind != "kline" or self.seconds > SHORT)
            for symbol in symbols
        }
        verdict = oracle.judge(seen, stored, gaps, until, 15.0 if self.seconds < SHORT else 45.0, wanted)
        verdict.findings += twice
        if aside < verdict.in_quarantine:
            text = f"{verdict.in_quarantine} rejected events have no gap, and {aside} items are in quarantine"
            verdict.findings.append(oracle.Finding("unexplained_loss", "", "", "", verdict.in_quarantine - aside, text))
        self.measured["events_a_second"] = round(seen.events / max(1e-6, (seen.stopped - seen.started) / 1e6))
        self.measured["judged_in_seconds"] = round(time.monotonic() - began, 1)
        broken = violations(self.measured, verdict, loaded=not self.options.lenient)
        return {"measured": self.measured, "verdict": msgspec.to_builtins(verdict), "violations": broken}

    def _say(self, text: str) -> None:
        if not self.options.json:
            print(text, flush=True)


def transform(config: Path) -> None:
    """What was sealed last, into tables."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "transform", "--config", str(config)],
        cwd=ROOT, env=processes.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"dl transform failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


IDS = {
    "trade": "seq", "agg_trade": "seq", "quote": "update_id", "book_delta": "last_id", "book_snapshot": "last_id",
    "mark_price": "ts_event", "liquidation": "ts_event", "kline": "open_time",
}  # fmt: skip


def read_lake(root: Path, markets: list[str]) -> tuple[dict[witness.Key, oracle.Stored], list[oracle.Finding]]:
    """Streams as stored, and lines that stand twice in the segments: readers would not show those."""
    import polars as pl

    stored: dict[witness.Key, oracle.Stored] = {}
    twice = []
    lake, manifest = Lake(root), Manifest.read_only(root)
    aside: dict[str, int] = {}
    for row in manifest.quarantine():
        aside[row.origin] = aside.get(row.origin, 0) + row.count
    for market in markets:
        for kind, number in IDS.items():
            if kind not in exchanges.load("binance").OFFERS[market]:
                continue
            extra = ["flags"] if kind == "book_delta" else []
            columns = list(dict.fromkeys(["symbol", "source", number, *witness.VALUES.get(kind, ()), *extra]))
            frame = pl.DataFrame(pl.from_arrow(lake.read(kind, market_type=market, columns=columns)))
            segments = [one for one in manifest.segments(market_type=market, kind=kind) if one.state != "quarantined"]
            lines = sum(one.rows - aside.get(one.path, 0) for one in segments)
            if lines != frame.height:
                text = f"{lines} lines in segments, {frame.height} rows read"
                twice.append(oracle.Finding("twice", kind, market, "", lines - frame.height, text))
            rows = frame.filter(pl.col("source") == "ws").with_columns(pl.col("symbol").cast(pl.String))
            if kind == "book_delta":
                rows = rows.filter(~pl.col("flags").cast(pl.String).str.contains("snapshot|carried"))
            for (symbol,), part in rows.group_by("symbol"):
                values = witness.VALUES.get(kind)
                digests = (
                    [witness.digest(*pair) for pair in part.select(values).rows()] if values else [0] * part.height
                )
                stored[kind, market, str(symbol)] = oracle.Stored(part[number].cast(pl.Int64).to_list(), digests)
    manifest.close()
    return stored, twice


def violations(measured: dict[str, Any], verdict: oracle.Verdict, *, loaded: bool) -> list[str]:
    """What breaks a promise, in words. Without `loaded` memory and the loop's delay are only shown."""
    found = [
        f"{oracle.RULES[rule]}: {sum(f.count for f in verdict.findings if f.rule == rule)}"
        for rule in dict.fromkeys(finding.rule for finding in verdict.findings)
    ]
    if measured.get("exit_code"):
        found.append(f"the daemon ended with exit code {measured['exit_code']}")
    if loaded and (measured["loop_delay_p99_seconds"] or 0) > LOOP_P99:
        found.append(f"loop delay p99 {measured['loop_delay_p99_seconds']} s, promised {LOOP_P99}")
    if loaded and measured["rss_mb"] > RSS_MB:
        found.append(f"memory {measured['rss_mb']} MB, promised {RSS_MB:g}")
    return found


def burst(options: argparse.Namespace) -> dict[str, Any]:
    """F44: 60,000 frames a second for ten seconds into one connection."""
    frames = round(options.burst_rate * BURST_SECONDS)
    load = processes.Exchange(
        [str(ROOT / "scripts" / "blast.py"), "--frames", str(frames), "--pace", str(options.burst_rate),
         "--symbols", "20", "--mix", "tb", "--hold", "2"]
    )  # fmt: skip
    measured: dict[str, Any] = {"sent": frames}
    try:
        sources = [
            {
                "exchange": "binance", "market_type": "spot", "symbols": load.address["symbols"],
                "kinds": ["trade", "quote"],
                "endpoint": {"rest": load.address["rest"], "ws": {"stream": load.address["ws"]}},
            }
        ]  # fmt: skip
        port = processes.free_port()
        config = write_config(options.out, sources, port, short=False)
        daemon = processes.Daemon(config, options.out / "daemon.log", port)
        try:
            daemon.wait_until_ready()
            measured |= _take_in(daemon, frames)
            measured["exit_code"] = daemon.stop()
        finally:
            daemon.kill()
    finally:
        load.stop()
    transform(config)
    return {"measured": measured, "violations": burst_violations(options.out / "lake", measured, load.address)}


def _take_in(daemon: processes.Daemon, frames: int) -> dict[str, Any]:
    """Until all has come in, or nothing has for 15 seconds."""
    used = processes.Usage(daemon.process.pid)
    beats, begun, waiting = processes.delays(daemon.metrics()), 0.0, 0.0
    got, last = 0, time.monotonic()
    while True:
        metrics = daemon.metrics()
        used.look()
        waiting = max(waiting, processes.total(metrics, "lake_queue_bytes"))
        taken = int(processes.total(metrics, "lake_received_frames_total"))
        if taken > got:
            begun, got, last = begun or time.monotonic(), taken, time.monotonic()
        if got >= frames or time.monotonic() - last > 15:
            break
        time.sleep(0.1)
    time.sleep(3)
    metrics = daemon.metrics()
    return {
        "frames": got,
        "seconds": round(last - begun, 1),
        "received": int(processes.total(metrics, "lake_received_events_total")),
        "shed": int(processes.total(metrics, "lake_shed_events_total")),
        "rss_mb": round(used.rss_mb, 1),
        "queue_mb": round(waiting / 1e6, 2),
        "loop_delay_p99_seconds": processes.quantile(beats, processes.delays(metrics), 0.99),
    }


def burst_violations(root: Path, measured: dict[str, Any], sent: dict[str, Any]) -> list[str]:
    """Trades are never shed; what was shed of quotes is counted and in gaps."""
    lake, manifest = Lake(root), Manifest.read_only(root)
    gaps = [gap for gap in manifest.gaps() if gap.state == "open"]
    manifest.close()
    measured["stored"] = {kind: lake.read(kind, columns=["symbol"]).num_rows for kind in ("trade", "quote")}
    measured["gaps"] = len(gaps)
    missing = {kind: sent[f"{kind}s"] - measured["stored"][kind] for kind in ("trade", "quote")}
    found = []
    if missing["trade"]:
        found.append(f"{missing['trade']} trades are not stored")
    if missing["quote"] != measured["shed"]:
        found.append(f"{missing['quote']} quotes are not stored, {measured['shed']} were counted as shed")
    if measured["shed"] and not gaps:
        found.append("quotes were shed, and no gap says so")
    if measured["exit_code"]:
        found.append(f"the daemon ended with exit code {measured['exit_code']}")
    if measured["rss_mb"] > RSS_MB:
        found.append(f"memory {measured['rss_mb']} MB, promised {RSS_MB:g}")
    return found


def show(result: dict[str, Any]) -> None:
    """For people."""
    print("\nmeasured")
    for name, value in result["measured"].items():
        print(f"  {name.replace('_', ' '):24} {value}")
    verdict = result.get("verdict")
    if verdict is not None:
        print("\ncompared")
        for name, value in verdict.items():
            if name != "findings":
                print(f"  {name.replace('_', ' '):24} {value}")
        for finding in verdict["findings"][:60]:
            where = " ".join((finding["market"], finding["kind"], finding["symbol"]))
            print(f"  ! {finding['rule']} x {finding['count']}  {where}: {finding['detail']}")
    print()
    for text in result["violations"]:
        print(f"VIOLATION  {text}")
    if not result["violations"]:
        print("everything as promised")


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("soak.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--symbols", type=int, default=200, help="a market")
    parser.add_argument("--rate", type=float, default=5000.0, help="trades and quotes a second, over all markets")
    parser.add_argument("--markets", default="spot,linear,inverse")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redundancy", type=int, choices=(1, 2), default=1)
    parser.add_argument("--faults", choices=("all", "none"), default="all")
    parser.add_argument("--lenient", action="store_true", help="memory and the loop's delay are shown, not judged")
    parser.add_argument("--pattern", action=argparse.BooleanOptionalAction, default=True, help="inverse collects `*`")
    parser.add_argument("--judge", action="store_true", help="compare again what the last run left in --out")
    parser.add_argument("--burst", action="store_true")
    parser.add_argument("--burst-rate", type=float, default=BURST_RATE)
    parser.add_argument("--out", type=Path, default=ROOT / "bench-out" / "soak", help="the lake in it is removed first")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/reliability-figures.json")
    options = parser.parse_args(given)
    if options.minutes <= 0 or options.symbols < 1 or options.rate <= 0:
        parser.error("--minutes, --symbols and --rate must be above zero")
    options.out = options.out.resolve()
    if options.judge:
        result = Soak(options).judge()
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(options.out / "lake", ignore_errors=True)
        result = burst(options) if options.burst else Soak(options).run()
    (options.out / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1)) if options.json else show(result)
    if options.record and "verdict" in result:
        figures.of_soak(result, " ".join(["scripts/soak.py", *(given if given is not None else sys.argv[1:])]))
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
