"""Several lakes at once, each in a process of its own: two live through the whole month, the others through its worst.

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
from tests.support.virtual.world import VENUES

SCRIPT = Path("scripts/virtual_soak.py")
ROOT = Path(__file__).resolve().parents[3]
RATE = 0.42
"""Trades and quotes a second of six venues: with what follows from them more than three million events in 30 days of
seed 4. How much follows is the seed's: there are venues and kinds that say more.
"""
WORST_DAYS = 15
"""So many days of the month for each day of the lakes that have all the venues."""


class Lane(NamedTuple):
    """One lake: its seed, its days, the faults that strike in them, and its venues."""

    seed: int
    days: float
    faults: int
    venues: tuple[str, ...] = VENUES


def lanes(seed: int, days: float, faults: int, venues: tuple[str, ...] = VENUES) -> list[Lane]:
    """The first two live through all the days, each with every second venue: neither is the last for long. Then two
    have all the venues and a fifth of the faults between them in a few days. Their seeds follow each other, so that
    every market of each venue is lived. The longest come first.
    """
    worst = [faults // 10] * 2
    months = [part for part in (venues[::2], venues[1::2]) if part]
    rest = faults - sum(worst)
    parts = [rest // len(months) + (n < rest % len(months)) for n in range(len(months))]
    return [
        *(Lane(seed, days, count, part) for count, part in zip(parts, months, strict=True)),
        *(Lane(seed + n, days / WORST_DAYS, count, venues) for n, count in enumerate(worst, 1)),
    ]


def run(
    planned: Sequence[Lane],
    processes: int,
    tell: Callable[[str], None],
    options: Sequence[str] = (),
    rate: float = RATE,
) -> tuple[list[Report], float]:
    """The reports in the order of the lanes, and how many seconds all of it took. `options` go to every lane, of `rate`
    each has the share of its venues. Raises RuntimeError where a lane does not come to its end.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(processes) as pool:
        reports = list(pool.map(lambda lane: _one(lane, tell, options, rate), planned))
    return reports, time.monotonic() - began


def _one(lane: Lane, tell: Callable[[str], None], options: Sequence[str], rate: float) -> Report:
    name = f"seed {lane.seed}" + (f" {','.join(lane.venues)}" if lane.venues != VENUES else "")
    command = [sys.executable, str(SCRIPT), "--seed", str(lane.seed), "--days", f"{lane.days:g}"]
    command += ["--faults", str(lane.faults), "--venues", ",".join(lane.venues)]
    command += ["--rate", f"{rate * len(lane.venues) / len(VENUES):g}", "--json", *options]
    last = deque[str](maxlen=20)
    with (
        tempfile.TemporaryFile("w+") as told,
        watched(subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=subprocess.PIPE, text=True)) as process,
    ):
        for line in process.stderr or ():
            last.append(line)
            if line.startswith(("--", "   !")):
                tell(f"{name}: {line.rstrip()}")
        code = process.wait()
        told.seek(0)
        found = told.read()
    if not found.strip():
        raise RuntimeError(f"{' '.join(command)} ended with {code}: {''.join(last)}")
    report = msgspec.json.decode(found, type=Report)
    tell(
        f"{name}: {report.days:g} days, {sum(report.faults.values())} faults, {report.events:,} events,"
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


def main(
    planned: Sequence[Lane],
    processes: int,
    asked: str,
    options: Sequence[str] = (),
    rate: float = RATE,
    *,
    record: bool,
) -> int:
    """Run it, say what it showed, and with `record` write that down, and what was `asked` for. The exit code: 1 for
    findings.
    """
    reports, seconds = run(planned, processes, lambda text: print(text, flush=True), options, rate)
    found = measured(reports, seconds)
    for name, (value, unit) in found.items():
        print(f"  {name:32} {value:,} {unit}")
    if record:
        figures.record(found, f"scripts/virtual_soak.py --campaign {asked}")
    return 1 if any(report.findings or report.errors_in_callbacks for report in reports) else 0
