"""A daemon against the simulator with every network fault thrown, then the comparison of both records.

    python scripts/soak.py [--minutes 10] [--symbols 200] [--rate 5000] [--markets spot,linear,inverse] [--json]
    python scripts/soak.py --exchanges all|binance,okx,... [...]
    python scripts/soak.py --burst [--json]

The markets of each exchange x N symbols x every kind that it offers: N a market of one exchange; of several, N in all.
`--rate` is trades and quotes a second of the simulated market, over all exchanges; aggregates, books, marks and candles
come on top (5,000 of Binance make about 10,800 events a second with 200 symbols). Faults come by a schedule that fills
the run (`scripts/soak_schedule.py`; `--faults none` leaves them out), each at one exchange after the other. Afterwards
every event that was sent is looked for in the lake, exchange by exchange: it is stored once as it was, or an open gap
names it, and no gap names more than is missing (`simulator/oracle.py`). Also asked for: loop delay p99 below 50 ms,
write passes p99 below 100 ms, memory below 350 MB that does not grow, a clean end, no gap at a planned handover.

`--reads N`: `dl serve` runs beside the daemon on the lake that is written, and N threads ask it for all of it, all the
time (`scripts/soak_reads.py`); the loop's delay is judged as ever.

`--burst`: `scripts/blast.py` sends 60,000 frames a second for ten seconds: all are stored, or what was shed is counted
and in gaps. `--burst-rate 20000 --burst-seconds 60` is what a daemon shall take for as long as one likes.

Writes nothing outside `--out`, whose lake, log and truth stay there. Exit code 0, 1 for a violation, 64 for a wrong
command line. Linux only: memory and CPU time are read from /proc.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import figures  # noqa: E402
import msgspec  # noqa: E402 -- the packages are one folder up
import soak_burst  # noqa: E402
import soak_processes as processes  # noqa: E402
from soak_compare import compare  # noqa: E402
from soak_reads import Readers  # noqa: E402
from soak_schedule import SHORT, Act, Target, schedule  # noqa: E402

from collectors import exchanges  # noqa: E402
from simulator import oracle, venues  # noqa: E402

LOOP_P99 = 0.05
WRITE_PASS, PASS_P99 = "lake_write_pass_seconds", 0.1
"""What comes while a write pass runs is written by the next: a kill loses it."""
BURST_RATE, BURST_SECONDS = 60_000, 10
GROWTH, GROWTH_FROM = 1.15, 480.0
"""What memory may be at the end, of what it was at half time, in runs of so many seconds."""
BOOKS_EVERY = 60
"""Seconds between the books of a symbol that are asked for, where no stream tells them."""
RUN = "run.json"


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.out
        self.seconds = options.minutes * 60
        wanted = options.markets.split(",")
        known = {name: [one for one in venues.load(name).MARKETS if one in wanted] for name in options.exchanges}
        count = options.symbols
        if len(known) > 1:
            count = -(-count // sum(map(len, known.values())))
        self.targets = [Target.of(name, markets, count) for name, markets in known.items()]
        self.count = count
        self.measured: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Both processes, the faults, the end, the judgement."""
        options = self.options
        simulator = processes.Exchange(
            ["-m", "simulator", "--venue", ",".join(options.exchanges), "--log", str(self.folder / "truth.jsonl"),
             *(f"--markets={target.name}={','.join(target.symbols)}" for target in self.targets),
             "--symbols", str(self.count), "--rate", str(options.rate), "--seed", str(options.seed),
             "--dormant", "1", "--log-sync", "0"]
        )  # fmt: skip
        try:
            port = processes.free_port()
            config = processes.write_config(
                self.folder, self._sources(simulator), port, short=self.seconds < SHORT,
                stop_seconds=60.0 if self.options.lenient else 10.0,
            )  # fmt: skip
            daemon = processes.Daemon(config, self.folder / "daemon.log", port)
            try:
                daemon.wait_until_ready()
                readers = Readers(config, options.reads) if options.reads else None
                try:
                    self._hold(simulator, daemon, readers)
                finally:
                    if readers is not None:
                        self.measured["reads"] = readers.stop(self.seconds)
                until = time.time_ns() // 1000
                began = time.monotonic()
                code = daemon.stop()
                self.measured |= {"exit_code": code, "stop_seconds": round(time.monotonic() - began, 2)}
            finally:
                daemon.kill()
        finally:
            simulator.stop()
        processes.transform(config)
        logs = {name: told["log"] for name, told in simulator.address["venues"].items()}
        (self.folder / RUN).write_text(json.dumps({"until": until, "logs": logs, "measured": self.measured}))
        return self.judge()

    def _sources(self, simulator: processes.Exchange) -> list[dict[str, Any]]:
        return [
            {
                "exchange": target.name, "market_type": market,
                "symbols": ["*"] if market == "inverse" and self.options.pattern else symbols,
                "kinds": list(exchanges.load(target.name).OFFERS[market]), "redundancy": self.options.redundancy,
                "endpoint": {name: simulator.address["venues"][target.name][name][market] for name in ("rest", "ws")},
            } | ({} if target.streams(market, "book_snapshot") else {"polls": {"depth_seconds": BOOKS_EVERY}})
            for target in self.targets
            for market, symbols in target.symbols.items()
        ]  # fmt: skip

    def _hold(self, simulator: processes.Exchange, daemon: processes.Daemon, readers: Readers | None) -> None:
        """Let it run, throw what is due, look at it once a second."""
        acts: list[Act] = []
        if self.options.faults == "all":
            acts = schedule(self.seconds, self.targets)
        used = {"daemon": processes.Usage(daemon.process.pid), "simulator": processes.Usage(simulator.process.pid)}
        began, before = time.monotonic(), {name: one.cpu() for name, one in used.items()}
        beats = processes.delays(daemon.metrics())
        looked = 0.0
        while (now := time.monotonic() - began) < self.seconds:
            while acts and acts[0].at <= now:
                act = acts.pop(0)
                self._say(f"{now:6.1f} s  {act.venue} {act.name}: {act.body}")
                simulator.ask(act.venue, act.route, act.body)
            if now - looked >= 1:
                looked = now
                for one in (*used.values(), *([readers.used] if readers is not None else ())):
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
            "write_pass_p99_seconds": processes.quantile({}, processes.seconds(metrics, WRITE_PASS), 0.99),
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
        short = self.seconds < SHORT
        verdicts: dict[str, oracle.Verdict] = {}
        events: dict[str, float] = {}
        for target in self.targets:
            wanted = target.wanted(but=("liquidation", "kline") if short else ("liquidation",))
            log = Path(left["logs"][target.name])
            seen, verdict = compare(self.folder / "lake", log, target.name, until, 15.0 if short else 45.0, wanted)
            verdicts[target.name] = verdict
            events[target.name] = round(seen.events / max(1e-6, (seen.stopped - seen.started) / 1e6), 1)
        self.measured["events_a_second"] = round(sum(events.values()))
        if len(events) > 1:
            self.measured["events_a_second_by_exchange"] = events
        self.measured["judged_in_seconds"] = round(time.monotonic() - began, 1)
        broken = violations(self.measured, verdicts, self.seconds, loaded=not self.options.lenient)
        return {"measured": self.measured, "verdicts": msgspec.to_builtins(verdicts), "violations": broken}

    def _say(self, text: str) -> None:
        if not self.options.json:
            print(text, flush=True)


def violations(
    measured: dict[str, Any], verdicts: dict[str, oracle.Verdict], seconds: float, *, loaded: bool
) -> list[str]:
    """What breaks a promise, in words. Without `loaded` memory and the loop's delay are only shown."""
    found = []
    for exchange, verdict in verdicts.items():
        for rule in dict.fromkeys(finding.rule for finding in verdict.findings):
            count = sum(finding.count for finding in verdict.findings if finding.rule == rule)
            found.append(f"{exchange}: {oracle.RULES[rule]}: {count}")
    reads = measured.get("reads")
    if reads and (reads["failed"] or not reads["answers"] or not reads["served_all_the_time"]):
        found.append(f"of the readers {reads['failed']} questions failed, {reads['answers']} were answered")
    if measured.get("exit_code"):
        found.append(f"the daemon ended with exit code {measured['exit_code']}")
    if not loaded:
        return found
    if (measured["loop_delay_p99_seconds"] or 0) > LOOP_P99:
        found.append(f"loop delay p99 {measured['loop_delay_p99_seconds']} s, promised {LOOP_P99}")
    if (measured["write_pass_p99_seconds"] or 0) > PASS_P99:
        found.append(f"write pass p99 {measured['write_pass_p99_seconds']} s, promised {PASS_P99}")
    if measured["rss_mb"] > processes.RSS_MB:
        found.append(f"memory {measured['rss_mb']} MB, promised {processes.RSS_MB:g}")
    tenths = measured["rss_by_tenths_mb"]
    if seconds >= GROWTH_FROM and tenths[-1] > GROWTH * tenths[4]:
        found.append(f"memory grows: {tenths[4]} MB at half time, {tenths[-1]} MB at the end")
    return found


def show(result: dict[str, Any]) -> None:
    """For people."""
    print("\nmeasured")
    for name, value in result["measured"].items():
        print(f"  {name.replace('_', ' '):24} {value}")
    for exchange, verdict in result.get("verdicts", {}).items():
        print(f"\ncompared: {exchange}")
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


def _exchanges(text: str) -> list[str]:
    known = venues.names()
    found = known if text == "all" else [name for name in text.split(",") if name]
    if not found or set(found) - set(known):
        raise argparse.ArgumentTypeError(f"must be all, or some of {', '.join(known)}")
    return list(dict.fromkeys(found))


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("soak.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--exchanges", type=_exchanges, default=["binance"], help="all, or names with commas between")
    parser.add_argument("--symbols", type=int, default=200, help="a market; of several exchanges: in all")
    parser.add_argument("--rate", type=float, default=5000.0, help="trades and quotes a second, over all markets")
    parser.add_argument("--markets", default="spot,linear,inverse")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redundancy", type=int, choices=(1, 2), default=1)
    parser.add_argument("--faults", choices=("all", "none"), default="all")
    parser.add_argument("--reads", type=int, default=0, metavar="N", help="threads that read over HTTP all the time")
    parser.add_argument("--lenient", action="store_true", help="memory and delays are not judged; stops have a minute")
    parser.add_argument("--pattern", action=argparse.BooleanOptionalAction, default=True, help="inverse collects `*`")
    parser.add_argument("--judge", action="store_true", help="compare again what the last run left in --out")
    parser.add_argument("--burst", action="store_true")
    parser.add_argument("--burst-rate", type=float, default=BURST_RATE, help="frames a second")
    parser.add_argument("--burst-seconds", type=float, default=BURST_SECONDS)
    parser.add_argument("--out", type=Path, default=ROOT / "bench-out" / "soak", help="the lake in it is removed first")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/reliability-figures.json")
    options = parser.parse_args(given)
    if min(options.minutes, options.symbols, options.rate, options.burst_rate, options.burst_seconds) <= 0:
        parser.error("--minutes, --symbols, --rate, --burst-rate and --burst-seconds must be above zero")
    options.out = options.out.resolve()
    if options.judge:
        result = Soak(options).judge()
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(options.out / "lake", ignore_errors=True)
        result = soak_burst.run(options) if options.burst else Soak(options).run()
    (options.out / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1)) if options.json else show(result)
    if options.record:
        of_run = figures.of_reads if options.reads else figures.of_soak
        record = of_run if "verdicts" in result else figures.of_burst
        record(result, figures.command("scripts/soak.py", sys.argv[1:] if given is None else given))
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
