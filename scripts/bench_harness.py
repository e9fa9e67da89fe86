"""What every bench shares: each side measured in a process of its own, rounds interleaved, ratios, targets, the report.

A side runs as `python SCRIPT --side NAME LOAD OUT`: LOAD is JSON, OUT a folder of its own, and the last line it prints
is what it measured of itself. CPU is user + system time of all its threads and of the children it waited for, from the
moment its work begins (what it imports before is in `whole`). Rounds run the sides one after another (A B C A B C); a
ratio is the median over the rounds of peer / ours in the same round. Only the standard library: peers run it too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench-out"
PATIENCE = 900.0
Measured = dict[str, Any]
"""`cpu`, `wall`, `rss_mb` and whatever else a side tells of itself; `whole` is added by whoever ran it."""


# -- inside a side ----------------------------------------------------------------------------------------------------


def _children() -> float:
    """CPU seconds of the children that were waited for."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Stopwatch:
    """CPU and wall seconds of this process and its children since it was made."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time() + _children(), time.monotonic()

    def seconds(self) -> float:
        """CPU seconds so far."""
        return time.process_time() + _children() - self.cpu

    def result(self, **more: Any) -> Measured:
        """What was measured, with what else the side has to say."""
        return {"cpu": self.seconds(), "wall": time.monotonic() - self.wall, "rss_mb": peak_rss_mb(), **more}


class Split:
    """CPU seconds of named stages, added up wherever they are entered."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is done inside counts for `name`, stages inside it apart."""
        watch = Stopwatch()
        self._inside.append(0.0)
        try:
            yield
        finally:
            spent = watch.seconds()
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inside.pop()
            if self._inside:
                self._inside[-1] += spent

    def watch(self, owner: Any, attribute: str, name: str) -> None:
        """Counts every call of a function or method as a stage; for good, so in a process of its own only."""
        plain = getattr(owner, attribute)

        def counted(*given: Any, **named: Any) -> Any:
            with self.stage(name):
                return plain(*given, **named)

        setattr(owner, attribute, counted)


def peak_rss_mb() -> float:
    """Greatest resident memory of this process."""
    try:
        text = Path("/proc/self/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import psutil

        return float(psutil.Process().memory_info().rss) / 2**20


class WithoutPandas:
    """A finder, for `sys.meta_path`: the product is installed without pandas; where there is one, pyarrow loads it at
    the first list that it is given.
    """

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


@contextmanager
def unsynced() -> Iterator[Iterator[int]]:
    """Inside nothing of ours waits for the disk in this process, for data that are made in haste and for days that pass
    in minutes: their syncs would be all that is measured. The value tells how many there were.
    """
    from lake import durable

    syncs = itertools.count()
    kept = {name: getattr(durable, name) for name in ("_flush", "_flush_dir")}
    for name in kept:  # nobody cuts the power here
        setattr(durable, name, lambda *_, **__: next(syncs))
    try:
        yield syncs
    finally:
        for name, plain in kept.items():
            setattr(durable, name, plain)


def play(sides: Mapping[str, Callable[[dict[str, Any], Path], Measured]], given: Sequence[str]) -> None:
    """The body of a side's process: `given` are NAME LOAD OUT."""
    name, load, out = given
    print(json.dumps(sides[name](json.loads(load), Path(out))))


# -- around the sides -------------------------------------------------------------------------------------------------


def run_side(
    command: Sequence[str], name: str, load: Mapping[str, Any], out: Path, patience: float = PATIENCE
) -> Measured:
    """One run in its own process and an empty folder: what it measured, and the CPU time of the whole process."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    before = os.times()
    done = subprocess.run(
        [*command, name, json.dumps(load), str(out)], capture_output=True, text=True, check=False, timeout=patience
    )
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    result: Measured = json.loads(done.stdout.splitlines()[-1])
    result["whole"] = after.children_user + after.children_system - before.children_user - before.children_system
    return result


def interleaved(sides: Sequence[str], rounds: int, run: Callable[[str], Measured]) -> dict[str, list[Measured]]:
    """Every side once a round, in turn."""
    runs: dict[str, list[Measured]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sides:
            print(f"  round {number + 1} of {rounds}: {name}          ", end="\r", file=sys.stderr, flush=True)
            runs[name].append(run(name))
    print(" " * 60, end="\r", file=sys.stderr)
    return runs


def proven(
    sides: Sequence[str], rounds: int, run: Callable[[str], Measured], same: Callable[[str, Measured], bool]
) -> tuple[dict[str, list[Measured]], dict[str, bool]]:
    """A round that proves equal records (`same` is asked after each side), then the measured ones; without any
    the first round is what was measured, which is enough for a look.
    """
    looked: dict[str, list[Measured]] = {}
    equal: dict[str, bool] = {}
    for name in sides:
        print(f"  proof: {name}          ", end="\r", file=sys.stderr, flush=True)
        looked[name] = [run(name)]
        equal[name] = same(name, looked[name][0])
    return interleaved(sides, rounds, run) if rounds else looked, equal


def median(runs: Sequence[Measured], key: str = "cpu") -> float:
    return statistics.median(run[key] for run in runs)


def ratios(runs: Mapping[str, Sequence[Measured]], ours: Sequence[str]) -> dict[str, float]:
    """`peer / ours` for every pair: the median of the ratios of each round."""
    return {
        f"{peer} / {mine}": statistics.median(p["cpu"] / m["cpu"] for p, m in zip(runs[peer], runs[mine], strict=True))
        for mine in ours if mine in runs for peer in runs if peer not in ours
    }  # fmt: skip


def summary(runs: Mapping[str, Sequence[Measured]]) -> dict[str, dict[str, Any]]:
    """Of each side the medians, the runs' CPU seconds, the greatest memory, and the split of the last run."""
    shown: dict[str, dict[str, Any]] = {}
    for name, made in runs.items():
        shown[name] = {
            "cpu": median(made), "cpu_runs": [round(run["cpu"], 4) for run in made], "wall": median(made, "wall"),
            "whole": median(made, "whole") if "whole" in made[0] else None,
            "rss_mb": max(run["rss_mb"] for run in made),
        }  # fmt: skip
        for key in ("split", "bytes", "note"):
            if key in made[-1]:
                shown[name][key] = made[-1][key]
    return shown


def part(
    title: str, runs: Mapping[str, Sequence[Measured]], ours: Sequence[str], equal: Mapping[str, bool], note: str = ""
) -> dict[str, Any]:
    """One comparison, as the page and the tables show it."""
    return {
        "title": title, "note": note, "rounds": len(next(iter(runs.values()))), "sides": summary(runs),
        "ratios": ratios(runs, ours), "equal": dict(equal), "ours": list(ours),
    }  # fmt: skip


def target(
    name: str, value: float | None, must: float, stretch: float | None, *, less: bool = False, unit: str = "x"
) -> dict[str, Any]:
    """A figure beside what it must be: at least `must`, or at most where `less`."""
    met = None if value is None else (value <= must if less else value >= must)
    return {"name": name, "value": value, "must": must, "stretch": stretch, "less": less, "unit": unit, "met": met}


def curve(title: str, x: str, y: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Measured:
    """Figures over a size, for the page's plots."""
    held = {name: list(points) for name, points in lines.items()}
    return {"title": title, "x": x, "y": y, "lines": held}


def machine(*packages: str) -> dict[str, Any]:
    """What the figures belong to: the machine, Python and the versions of `packages`."""
    found: dict[str, Any] = {
        "python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count(), "cpu": _cpu(),
    }  # fmt: skip
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 1)
    found["versions"] = {}
    for name in packages:
        try:
            found["versions"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found["versions"][name] = "not installed"
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def peer_python(name: str, requirements: Sequence[str], probe: str) -> Path | None:
    """The interpreter of a peer's own environment in bench-out, made by the first run; None where that fails."""
    home = OUT / name
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    probing = [str(python), "-c", probe]
    if python.exists() and subprocess.run(probing, capture_output=True, check=False).returncode == 0:
        return python
    print(f"installing {' '.join(requirements)} into an environment of its own (once)", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True)
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or subprocess.run(probing, capture_output=True, check=False).returncode:
        print(f"{name} cannot be installed here:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    return python


@contextmanager
def workplace(name: str) -> Iterator[Path]:
    """A folder for the data and the runs of one bench, gone afterwards."""
    place = OUT / f"{name}-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


# -- the command line and the report ----------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A command line whose errors end with 64; `--quick`, `--json`, `--rounds` and `--out` are those of every bench."""

    def __init__(self, script: str, text: str | None) -> None:
        super().__init__(script, description=text, formatter_class=argparse.RawTextHelpFormatter)
        self.add_argument("--quick", action="store_true", help="one small run: a look, not a figure")
        self.add_argument("--json", action="store_true", help="one JSON object instead of tables")
        self.add_argument("--rounds", type=int, help="measured rounds (5)")
        self.add_argument("--out", type=Path, help="write the JSON object to this file too")

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(64, f"{self.prog}: {message}\n")

    def counted(self, given: Sequence[str] | None, *names: str) -> argparse.Namespace:
        """The options; those in `names` and the rounds are above zero where they are given."""
        options = self.parse_args(given)
        for name in ("rounds", *names):
            value = getattr(options, name.replace("-", "_"))
            if value is not None and value < 1:
                self.error(f"--{name} must be above zero")
        return options


def choice(parser: Parser, given: str, allowed: Sequence[str]) -> list[str]:
    """The names in a comma list. Ends with 64 where one is not allowed."""
    names = [name for name in given.split(",") if name]
    if set(names) - set(allowed):
        parser.error(f"unknown: {', '.join(sorted(set(names) - set(allowed)))}; there are {','.join(allowed)}")
    return names


def finish(result: dict[str, Any], options: argparse.Namespace) -> int:
    """Shows and keeps what a bench found. The exit code: 1 where records differ; a missed target is no failure."""
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if all(all(one["equal"].values()) for one in result["parts"]) else 1


def show_targets(targets: list[dict[str, Any]]) -> None:
    """Each figure beside what it must be."""
    if targets:
        print("\ntargets")
    for goal in targets:
        value = "-" if goal["value"] is None else f"{goal['value']:.2f}"
        met = {True: "met", False: "MISSED", None: "not measured"}[goal["met"]]
        bound = "<=" if goal["less"] else ">="
        print(f"  {goal['name']:<58}{value:>9} {goal['unit']:<3} must {bound} {goal['must']:g}  {met}")


def show(result: dict[str, Any]) -> None:
    """The tables of one bench."""
    held = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in held["versions"].items())
    print(f"Python {held['python']}, {held['system']}, {held['cpus']} x {held['cpu']}\n{versions}")
    for one in result["parts"]:
        print(f"\n{one['title']}: median of {one['rounds']} interleaved rounds. {one['note']}")
        print(f"{'side':<28}{'CPU s':>9}{'wall s':>9}{'RSS MB':>8}  records")
        for name, side in one["sides"].items():
            said = {True: "equal", False: "DIFFER", None: ""}[one["equal"].get(name)]
            print(f"{name:<28}{side['cpu']:>9.3f}{side['wall']:>9.2f}{side['rss_mb']:>8.0f}  {said}")
            for stage, seconds in sorted(side.get("split", {}).items(), key=lambda item: -item[1]):
                print(f"    {stage:<24}{seconds:>9.3f}")
        for name, ratio in one["ratios"].items():
            print(f"  {name}: {ratio:.2f}x the CPU of ours")
    show_targets(result["targets"])
