"""Lines and branches that tests run, children of tests among them: of the code that must not lose data, or of all.

    make coverage                          python scripts/cover.py TOOL [--all] [--record]

TOOL is a folder that holds coverage.py (`make coverage` puts it there: it is no requirement of the tests). First the
files of `TESTS` are run and every line and branch of `CODE` has to have been taken; `--all` runs every quick test
instead, asks for 90 % of everything too, and takes two to three times as long as `make test`. `--record` writes the
figures to docs/reliability-figures.json. Exit code 0, 1 where too little was run, that of pytest where a test failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import figures  # noqa: E402 - the checkout is on the path only now

CODE = (
    "lake/durable.py", "lake/failpoints.py", "lake/refused.py", "lake/place.py", "lake/lock.py",
    "lake/manifest*.py", "lake/migrations.py", "lake/schema.py", "lake/rows.py", "lake/input_sets.py", "lake/job*.py",
    "lake/feature_table.py", "lake/publish.py", "lake/links.py", "lake/writer.py",
    "lake/ledger.py", "lake/commits.py", "lake/history*.py",
    "lake/recovery.py", "lake/resume.py", "lake/segment*.py", "lake/frames.py", "lake/rebuild.py", "lake/survey.py",
    "lake/feature_care.py", "lake/backup.py", "collectors/recovery.py", "collectors/reread.py",
    "collectors/unsettled.py", "collectors/doubts.py", "collectors/giving.py",
)  # fmt: skip
"""What writes, commits and recovers: each line and each branch of it."""
TESTS = {
    "tests/lake": [
        "backup", "durable", "durable_systems", "frames", "history", "input_sets", "job_book", "job_standing", "jobs",
        "ledger", "lock", "manifest", "manifest_edges", "migrations", "one_snapshot", "past", "publish", "rebuild",
        "recovery", "segment_files", "segments", "space", "survey", "writer",
    ],
    "tests/collectors": ["doubts", "recovery", "two_halves"],
    "tests/features": ["store"],
    "tests/properties": ["job_plan_properties"],
    "tests/security": ["files"],
}  # fmt: skip
PACKAGES = (
    "api",
    "cli",
    "client",
    "collectors",
    "compactor",
    "daemon",
    "features",
    "lake",
    "market",
    "runtime",
    "transformer",
)
OVERALL = 90.0
SETTINGS = """\
[run]
branch = True
include = {include}
parallel = True
data_file = {folder}/data
concurrency = thread,multiprocessing
sigterm = True
disable_warnings = no-data-collected
[report]
exclude_also =
    if TYPE_CHECKING
"""
STARTED = "import coverage\ncoverage.process_startup()\n"
"""Run by every Python that is started meanwhile: daemons, workers, commands."""


def main(given: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", type=Path, help="folder with coverage.py")
    parser.add_argument("--all", action="store_true", help="every quick test, and 90 %% of everything")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/reliability-figures.json")
    options = parser.parse_args(given)
    if not (options.tool / "coverage").is_dir():
        parser.error(f"{options.tool} holds no coverage.py: run make coverage")
    with tempfile.TemporaryDirectory(prefix="coverage-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        include = (
            ",".join(f"*/{name}/*" for name in PACKAGES) if options.all else ",".join(f"*/{name}" for name in CODE)
        )
        (place / "settings").write_text(SETTINGS.format(include=include, folder=folder), encoding="utf-8")
        (place / "sitecustomize.py").write_text(STARTED, encoding="utf-8")
        tool = str(options.tool.resolve())
        settings = {name: str(place / "settings") for name in ("COVERAGE_PROCESS_START", "COVERAGE_RCFILE")}
        environment = os.environ | settings | {"PYTHONPATH": os.pathsep.join((folder, tool, str(ROOT)))}
        tests = ["tests"] if options.all else [f"{at}/test_{name}.py" for at, names in TESTS.items() for name in names]
        at_once = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
        told = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "--timeout=900"]
        code = _run(["-m", "pytest", *told, *at_once, *tests], environment)
        if code:
            return code
        _run(["-m", "coverage", "combine", "-q"], environment)
        _run(["-m", "coverage", "json", "-q", "-o", str(place / "found.json")], environment)
        found = json.loads((place / "found.json").read_text(encoding="utf-8"))
    return judged(found, whole=options.all, record=options.record)


def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=False).returncode


def judged(found: Mapping[str, Any], *, whole: bool, record: bool) -> int:
    """Say what was not run of a report in JSON. Exit code 1 for too little, which is not written down."""
    parts = {name: held for name, held in found["files"].items() if any(Path(name).match(one) for one in CODE)}
    if not parts:
        print("nothing was run of", *CODE)
        return 1
    missed = 0
    for name, held in sorted(parts.items()):
        lines, jumps = held["missing_lines"], held["missing_branches"]
        missed += len(lines) + len(jumps)
        if lines or jumps:
            print(f"{name}: never run: lines {lines}, branches {jumps}")
    branches = sum(held["summary"]["num_branches"] for held in parts.values())
    total = float(found["totals"]["percent_covered"])
    print(f"{len(parts)} modules that must not lose data: {branches:,} branches, {missed:,} lines and branches not run")
    measured = {"branches of what must not lose data": (100, f"% of {branches:,} branches in {len(parts)} modules")}
    if whole:
        print(f"everything: {total:.1f} % of lines and branches, {OVERALL:g} asked for")
        measured["lines and branches of everything"] = (round(total, 1), "%")
    if missed or (whole and total < OVERALL):
        return 1
    if record:
        figures.record(measured, "make coverage" + " ALL=1" * whole)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
