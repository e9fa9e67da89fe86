"""What was measured last: docs/reliability-figures.json, which docs/reliability.md shows.

    python scripts/figures.py NAME VALUE UNIT --command "make soak"

Scripts and `make test-faults` write it through `record`. Exit code 0, or 1 for a name that scripts/promises.toml does
not ask for.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "reliability-figures.json"
PROMISES = ROOT / "scripts" / "promises.toml"
FIGURE = "figure: "
"""Before the name of a figure that a test tells by `record_property`: (count, unit)."""
BURST = 50_000
"""Frames a second from which on a run is a burst, whose queues matter, and no load that goes on."""
OF_BURST = ("frames", "queue_mb", "shed")
FIELDS = ("figure", "value", "unit", "command", "date", "machine")


def asked() -> dict[str, dict[str, str]]:
    """The figures there are: name -> what is demanded of it, and how it is measured."""
    return dict(tomllib.loads(PROMISES.read_text(encoding="utf-8"))["figures"])


def held() -> dict[str, dict[str, object]]:
    """What was measured, by name."""
    found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
    return {entry["figure"]: entry for entry in found}


def record(measured: Mapping[str, tuple[float, str]], command: str) -> None:
    """Write down value and unit of figures, measured here and now by `command`. Raises KeyError for unknown ones."""
    known = asked()
    figures = held()
    for name, (value, unit) in measured.items():
        if name not in known:
            raise KeyError(f"{PROMISES.name} asks for no figure {name!r}")
        today = dt.datetime.now(dt.UTC).date().isoformat()
        entry = (name, value, unit, command, today, machine())
        figures[name] = dict(zip(FIELDS, entry, strict=True))
    made = FILE.with_suffix(".tmp")
    made.write_text(json.dumps([figures[name] for name in sorted(figures)], indent=1) + "\n", encoding="utf-8")
    made.replace(FILE)


def command(script: str, given: Sequence[str]) -> str:
    """What measured, as anybody may run it: without where its files lay, and that the figures were written down."""
    told = list(given)
    while "--out" in told:
        place = told.index("--out")
        del told[place : place + 2]
    kept = [one for one in told if one not in ("--judge", "--record", "--json") and not one.startswith("--out=")]
    return " ".join([script, *kept])


def of_soak(result: Mapping[str, Any], command: str) -> None:
    """What scripts/soak.py found, of a run that compared lake and truth."""
    measured, verdicts = result["measured"], result["verdicts"].values()
    of_rule = Counter[str]()
    for finding in (finding for verdict in verdicts for finding in verdict["findings"]):
        of_rule[finding["rule"]] += finding["count"]
    handovers = sum(verdict["handovers"] for verdict in verdicts)
    record(
        {
            "events of the soak": (sum(verdict["happened"] for verdict in verdicts), "events"),
            "events without a row or a gap": (of_rule["unexplained_loss"], "events"),
            "events stored twice": (of_rule["twice"], "events"),
            "gaps of planned handovers": (of_rule["planned_gap"], f"gaps at {handovers} handovers"),
            "memory of the daemon": (measured["rss_mb"], "MB"),
            "memory of the daemon and its workers": (measured["rss_with_workers_mb"], "MB"),
            "lateness of the event loop, p99": (round(measured["loop_delay_p99_seconds"] * 1000), "ms"),
            "time of a write pass, p99": (round(measured["write_pass_p99_seconds"] * 1000), "ms"),
        },
        command,
    )


def of_burst(result: Mapping[str, Any], command: str) -> None:
    """What scripts/soak.py --burst found, of a run that kept its promises: of a burst, or of a rate that goes on."""
    measured = result["measured"]
    if result["violations"]:
        return
    if measured["rate"] >= BURST:
        found = {"frames of a burst": "frames", "queues in a burst": "MB", "quotes shed in a burst": "quotes"}
        record(
            {name: (measured[key], unit) for (name, unit), key in zip(found.items(), OF_BURST, strict=True)}, command
        )
        return
    at = f"at {measured['frames'] / measured['seconds']:,.0f} events a second"
    ms = {key: round((measured[key] or 0.0) * 1000) for key in measured if key.endswith("_seconds")}
    record(
        {
            "cores of the daemon under load": (measured["cores"], f"cores {at}, {measured['shed']} shed"),
            "age of what is not yet durable, p99": (ms["durable_lag_p99_seconds"], f"ms {at}"),
            "lateness of the event loop, most": (ms["loop_delay_most_seconds"], f"ms at most {at}"),
        },
        command,
    )


def of_restart(found: Mapping[str, Any], command: str) -> None:
    """What scripts/bench_restart.py found, of the parts that ran; of stops only where nothing was lost."""
    told: dict[str, tuple[float, str]] = {}
    if "many_files" in found:
        part = found["many_files"]
        told["first frame over many files"] = (part["first_frame_seconds"], f"s over {part['files']:,} files")
        told["refusal of a second daemon"] = (part["refused_seconds"], "s")
    if "unsealed" in found:
        part = found["unsealed"]
        size = f"s over {part['bytes'] / 1e9:.2f} GB"
        told["first frame over unsealed segments"] = (part["first_frame_seconds"], size)
    if "stops" in found and not found["stops"]["lost"]:
        part = found["stops"]
        told["slowest clean stop"] = (part["slowest_seconds"], f"s of {part['stops']} stops, nothing lost")
    record(told, command)


def of_reads(result: Mapping[str, Any], command: str) -> None:
    """What scripts/soak.py found with readers beside the daemon (`--reads`)."""
    measured = result["measured"]
    reads = measured["reads"]
    rate = f"{reads['mb']:,.0f} MB at {measured['events_a_second']:,} events a second"
    record(
        {
            "heavy reads beside collection": (reads["answers"], f"answers, {rate}"),
            "lateness of the event loop beside heavy reads, p99": (
                round(measured["loop_delay_p99_seconds"] * 1000), "ms",
            ),
        },
        command,
    )  # fmt: skip


def of_backfill(report: Mapping[str, Any], command: str) -> None:
    """What scripts/prove_backfill.py found; only of a run without fault: its figures count what was the same."""
    if report["wrong"]:
        return
    venues = len({name.partition(" ")[0] for name in report["rows"]})
    record(
        {
            "venues' days of a backfill over kills": (report["days"], f"days of {venues} venues"),
            "kills of a backfill": (report["kills"], "SIGKILLs"),
            "rows of it, exactly those of the venues": (sum(report["rows"].values()), "rows"),
            "requests of it, none for what was held": (report["requests"], "requests"),
        },
        command,
    )


def machine() -> str:
    """Where it was measured, without a name: cores, memory, system, Python."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        size = f", {memory:.0f} GB"
    except (AttributeError, ValueError, OSError):
        size = ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores{size}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("figures.py", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("name")
    parser.add_argument("value", type=float)
    parser.add_argument("unit")
    parser.add_argument("--command", required=True, help="what measured it")
    options = parser.parse_args(given)
    value = int(options.value) if options.value == int(options.value) else options.value
    try:
        record({options.name: (value, options.unit)}, options.command)
    except KeyError as error:
        sys.stderr.write(f"{error.args[0]}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
