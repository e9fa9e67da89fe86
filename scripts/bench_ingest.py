"""What the live path costs: CPU time of this project's collectors against two peers that receive the same frames.

    python scripts/bench_ingest.py [--quick] [--json] [--frames N] [--rounds N] [--peers baseline,cryptofeed]
                                   [--mix cf|ab] [--pace R] [--out FILE]
    python scripts/bench_ingest.py --stage session,pipeline,noframes,write [--batch N] [--frames N] [--mix cf|ab]

Sides, each in a process of its own, one after another in every round (A B C A B C):

- ours, ours-noframes: the collectors' service as the daemon runs it (session, merger, checks, group commit to segments,
  sealed at the end), keeping frames or not;
- baseline: websockets + json + float + json.dumps to a text file, as small recorders do it;
- cryptofeed: cryptofeed 2.4.1 (trade, ticker and book callbacks, orjson to a file; it keeps the books), installed into
  bench-out/cryptofeed by the first run (needs a C compiler). Patched: its endpoints, its check for wss://, and an event
  loop that is set.

`--stage` measures only what a frame costs inside ours, without a socket (`scripts/bench_stages.py`).

Load is `scripts/blast.py`, synthetic, 10 symbols: 35 % aggTrade, 55 % bookTicker, 10 % depth updates, or with
`--mix ab` 40 % aggTrade and 60 % bookTicker. First a round that only proves that all sides stored the same records,
then the measured ones. CPU is user + system time of all threads from the first frame
to the last synced byte, as the operating system counts it; `whole` is the process from its start to its end.
Ratios are medians of peer / ours of the same round. Wall time is shown and means little. Exit code 0, 1 where records
differ or are lost, 64 for a wrong command line, 69 where a peer cannot be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import bench_harness as harness  # noqa: E402 -- it lies beside this file

OUT = harness.OUT
SIDES = ROOT / "scripts" / "bench_sides.py"
OURS = ("ours", "ours-noframes")
PEERS = ("baseline", "cryptofeed")
STAGES = ("session", "pipeline", "noframes", "write")
CRYPTOFEED = ["cryptofeed==2.4.1", "orjson", "uvloop"]


# -- records: what each side stored, in one form ----------------------------------------------------------------------


def levels(side: list[list[Any]]) -> tuple[tuple[float, float], ...]:
    """(price, quantity) of each level, by price."""
    return tuple(sorted((float(price), float(qty)) for price, qty in side))


def records(name: str, out: Path) -> Counter[tuple[Any, ...]]:
    """(kind, symbol, ...) of everything stored, with the fields that all sides have."""
    files = sorted((out / "lake" / "raw").rglob("*.jsonl")) if name in OURS else [out / "records.jsonl"]
    found: Counter[tuple[Any, ...]] = Counter()
    for path in files:
        if "data_type=contract" in str(path) or "data_type=book_snapshot" in str(path):
            continue
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                symbol = row["symbol"].replace("-", "")
                if "price" in row:
                    number = int(row["seq"] if "seq" in row else row["id"])
                    time_ms = row["ts_event"] / {"baseline": 1, "cryptofeed": 0.001}.get(name, 1000)
                    found[
                        "trade", symbol, number, float(row["price"]), float(row["qty"]), row["side"], round(time_ms)
                    ] += 1
                elif "bids" in row:
                    if "snapshot" not in row.get("flags", ()):  # what the updates go on from
                        number = row["last_id"] if "last_id" in row else row["update_id"]
                        found["depth", symbol, number, levels(row["bids"]), levels(row["asks"])] += 1
                else:
                    found["quote", symbol, float(row["bid"]), float(row["ask"])] += 1
    return found


# -- the bench --------------------------------------------------------------------------------------------------------


def peer_python() -> Path:
    """The interpreter of cryptofeed's environment. Exits with 69 where there can be none."""
    python = harness.peer_python("cryptofeed", CRYPTOFEED, "import cryptofeed, orjson, uvloop")
    if python is None:
        raise SystemExit(69)
    return python


def run_side(name: str, load: dict[str, Any], out: Path) -> dict[str, float]:
    """One run in its own process."""
    python = peer_python() if name == "cryptofeed" else Path(sys.executable)
    return harness.run_side([str(python), str(SIDES)], name, load, out)


class Blast:
    """`scripts/blast.py` as a context."""

    def __init__(self, frames: int, mix: str, pace: float | None) -> None:
        self.command = [sys.executable, str(ROOT / "scripts" / "blast.py"), "--frames", str(frames), "--hold", "3"]
        self.command += ["--mix", mix]
        self.command += ["--pace", str(pace)] if pace else []

    def __enter__(self) -> dict[str, Any]:
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        loaded: dict[str, Any] = json.loads(self.process.stdout.readline())
        return loaded

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


def measure(sides: list[str], frames: int, mix: str, rounds: int, pace: float | None) -> dict[str, Any]:
    """Proof, then rounds, at one rate."""
    place = OUT / f"run-{os.getpid()}"
    with Blast(frames, mix, pace) as load:
        proof = {}
        for name in sides:
            run_side(name, load, place)
            proof[name] = records(name, place)
        first = proof[sides[0]]
        equal = {name: found == first and found.total() == frames for name, found in proof.items()}
        runs = harness.interleaved(sides, rounds, lambda name: run_side(name, load, place))
    shutil.rmtree(place, ignore_errors=True)
    shown = {
        name: {
            "cpu_us_per_frame": statistics.median(run["cpu"] for run in made) / frames * 1e6,
            "cpu_seconds": [round(run["cpu"], 3) for run in made],
            "whole_cpu_seconds": statistics.median(run["whole"] for run in made),
            "wall_seconds": statistics.median(run["wall"] for run in made),
            "rss_mb": max(run["rss_mb"] for run in made),
            "lost": sum(frames - int(run["records"]) for run in made),
            "records_equal": equal[name],
            "stored_in_proof": proof[name].total(),
        }
        for name, made in runs.items()
    }
    return {
        "frames": frames, "mix": mix, "rounds": rounds, "pace": pace, "sides": shown,
        "ratios": harness.ratios(runs, OURS),
    }  # fmt: skip


TARGETS = {
    "cf": {
        False: (
            ("ours-noframes", "cryptofeed", 6, 8),
            ("ours-noframes", "baseline", 6, 8.5),
            ("ours", "cryptofeed", 4, 5.3),
        ),
        True: (("ours", "cryptofeed", 2, 2.8),),
    },
    "ab": {False: (("ours-noframes", "cryptofeed", 4, 5),), True: (("ours", "cryptofeed", 2, 2.6),)},
}
"""By mix and whether it is paced: (ours, peer, must, moonshot)."""


def targets(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the ratios must be."""
    made = []
    for result in results:
        rate = f"{result['pace']:g} frames/s" if result["pace"] else "full rate"
        for side, peer, must, stretch in TARGETS[result["mix"]][bool(result["pace"])]:
            frames = "without frames" if side == "ours-noframes" else "with frames"
            name = f"ingest ({result['mix']}), {rate}, {frames}, v {peer}"
            made.append(harness.target(name, result["ratios"].get(f"{peer} / {side}"), must, stretch))
    return made


def report(result: dict[str, Any]) -> None:
    """The table of one rate."""
    rate = f"{result['mix']}, {result['pace']:g} frames/s" if result["pace"] else f"{result['mix']}, full rate"
    print(f"\n{rate}: {result['frames']:,} frames a run, median of {result['rounds']} interleaved rounds")
    print(f"{'side':<15}{'CPU us/frame':>13}{'whole s':>9}{'wall s':>8}{'RSS MB':>8}{'lost':>6}  records")
    for name, one in result["sides"].items():
        proven = "equal" if one["records_equal"] else f"DIFFER ({one['stored_in_proof']:,} stored)"
        print(
            f"{name:<15}{one['cpu_us_per_frame']:>13.2f}{one['whole_cpu_seconds']:>9.2f}{one['wall_seconds']:>8.2f}"
            f"{one['rss_mb']:>8.0f}{one['lost']:>6}  {proven}"
        )
    for name, ratio in result["ratios"].items():
        print(f"  {name}: {ratio:.2f}x the CPU of ours")


def stages(options: argparse.Namespace) -> int:
    """What a frame costs inside ours."""
    import bench_stages

    found = bench_stages.run(
        options.stage, frames=options.frames or 50_000, mix=options.mix, rounds=options.rounds or 5, batch=options.batch
    )
    if options.json:
        print(json.dumps(found))
    for name, cost in found.items() if not options.json else ():
        print(f"{name:<10}{cost:>8.2f} us of CPU a frame, {options.batch} together")
    return 0


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line; a wrong one ends with 64."""
    parser = harness.Parser("bench_ingest.py", __doc__)
    parser.add_argument("--frames", type=int, help="frames a run at full rate (200000)")
    parser.add_argument("--pace", type=float, default=3000.0, help="frames a second of the paced part; 0 leaves it out")
    parser.add_argument("--mix", choices=("cf", "ab"), default="cf", help="with depth updates (cf), or without")
    parser.add_argument("--peers", default=",".join(PEERS), help="any of baseline,cryptofeed")
    parser.add_argument("--stage", default="", help="only stages inside ours: any of session,pipeline,noframes,write")
    parser.add_argument("--batch", type=int, default=256, help="frames handed over together to a stage (256)")
    options = parser.counted(given, "frames", "batch")
    options.stage = harness.choice(parser, options.stage, STAGES)
    options.peers = harness.choice(parser, options.peers, PEERS)
    if options.pace < 0:
        parser.error("--pace must not be negative")
    return options


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    options = arguments(given)
    if options.stage:
        return stages(options)
    peers = options.peers
    if "cryptofeed" in peers:
        peer_python()
    frames = options.frames or (40_000 if options.quick else 200_000)
    rounds = options.rounds or (2 if options.quick else 5)
    sides = [*OURS, *peers]
    results = [measure(sides, frames, options.mix, rounds, None)]
    if options.pace:
        seconds = 4 if options.quick else 10
        paced = [name for name in sides if name != "ours-noframes"]
        results.append(measure(paced, int(options.pace * seconds), options.mix, rounds, options.pace))
    machine = harness.machine("picows", "websockets", "msgspec", "uvloop")
    whole = {"bench": "ingest", "machine": machine, "results": results, "targets": targets(results)}
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(whole, indent=1) + "\n")
    if options.json:
        print(json.dumps(whole))
    else:
        print(f"Python {machine['python']}, {machine['system']}, {machine['cpus']} CPUs; synthetic load over loopback")
        for result in results:
            report(result)
        harness.show_targets(whole["targets"])
    fine = all(one["records_equal"] and not one["lost"] for result in results for one in result["sides"].values())
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
