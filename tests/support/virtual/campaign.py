"""Several lakes at once, each in a process of its own: one lives through the whole month, the others through its worst.

What all of them show together is what docs/reliability.md says of F63.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from scripts import figures
from tests.support.leash import watched
from tests.support.virtual.soak import Report

SCRIPT = Path("scripts/virtual_soak.py")
ROOT = Path(__file__).resolve().parents[3]
RATE = 0.5
"""Trades and quotes a second of each lake: with what follows from them, more than three million events in 30 days."""


class Lane(NamedTuple):
    """One lake: its seed, its days, and the faults that strike in them."""

    seed: int
    days: float
    faults: int


def lanes(seed: int, days: float, faults: int) -> list[Lane]:
    """The first lake lives through all the days with half of the faults; of the other half each takes a third, in a
    fifth of the days. Their seeds follow each other, so that every market of each venue is lived.
    """
    rest = faults - faults // 2
    parts = [rest // 3 + (n < rest % 3) for n in range(3)]
    return [Lane(seed, days, faults // 2), *(Lane(seed + n, days / 5, part) for n, part in enumerate(parts, 1))]


def run(
    planned: Sequence[Lane], processes: int, tell: Callable[[str], None], options: Sequence[str] = ()
) -> tuple[list[Report], float]:
    """The reports in the order of the lanes, and how many seconds all of it took. `options` go to every lane. Raises
    RuntimeError where a lane does not come to its end.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(processes) as pool:
        reports = list(pool.map(lambda lane: _one(lane, tell, options), planned))
    return reports, time.monotonic() - began


def _one(lane: Lane, tell: Callable[[str], None], options: Sequence[str]) -> Report:
    command = [sys.executable, str(SCRIPT), "--seed", str(lane.seed), "--days", f"{lane.days:g}"]
    command += ["--faults", str(lane.faults), "--json", *options]
    last = deque[str](maxlen=20)
    with (
        tempfile.TemporaryFile("w+") as told,
        watched(subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=subprocess.PIPE, text=True)) as process,
    ):
        for line in process.stderr or ():
            last.append(line)
            if line.startswith(("--", "   !")):
                tell(f"seed {lane.seed}: {line.rstrip()}")
        code = process.wait()
        told.seek(0)
        found = told.read()
    if not found.strip():
        raise RuntimeError(f"{' '.join(command)} ended with {code}: {''.join(last)}")
    report = msgspec.json.decode(found, type=Report)
    tell(
        f"seed {lane.seed}: {report.days:g} days, {sum(report.faults.values())} faults, {report.events:,} events,"
        f" {report.handovers} handovers, {len(report.findings)} findings, {report.cpu_seconds:.0f} s of CPU"
    )
    for text in (*report.findings, *report.errors_in_callbacks):
        tell(f"   ! {text}")
    return report


def measured(reports: Sequence[Report], seconds: float) -> dict[str, tuple[float, str]]:
    """The figures of docs/reliability.md."""
    struck = sum(sum(report.faults.values()) for report in reports)
    longest = max(report.days for report in reports)
    cpu = sum(report.cpu_seconds for report in reports)
    return {
        "virtual days of one lake": (longest, f"days, {sum(report.days for report in reports):g} of all lakes"),
        "virtual events": (sum(report.events for report in reports), "events"),
        "virtual faults": (struck, "faults"),
        "virtual handovers": (sum(report.handovers for report in reports), "handovers"),
        "findings of the virtual soak": (sum(len(report.findings) for report in reports), "findings"),
        "time of the virtual soak": (round(seconds), f"s, {cpu:.0f} s of CPU"),
    }


def main(seed: int, days: float, faults: int, processes: int, options: Sequence[str] = (), *, record: bool) -> int:
    """Run it, say what it showed, and with `record` write that down. The exit code: 1 for findings. A `--rate` among
    the `options` takes the place of ours.
    """
    options_of_lanes = ["--rate", f"{RATE:g}", *options]
    reports, seconds = run(lanes(seed, days, faults), processes, lambda text: print(text, flush=True), options_of_lanes)
    found = measured(reports, seconds)
    for name, (value, unit) in found.items():
        print(f"  {name:32} {value:,} {unit}")
    if record:
        command = ["scripts/virtual_soak.py --campaign", f"--seed {seed} --days {days:g} --faults {faults}", *options]
        figures.record(found, " ".join(command))
    return 1 if any(report.findings or report.errors_in_callbacks for report in reports) else 0
