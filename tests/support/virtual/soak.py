"""The soak on virtual time: days of the real daemon and the real simulated venue, with faults drawn from a seed.

python -m tests.support.virtual.soak --seed 1 --days 30 --faults 200
python -m tests.support.virtual.soak --seed 1 --days 30 --faults 200 --only 17,18    the same, with these faults only
python -m tests.support.virtual.soak --seed 1 --days 30 --faults 200 --until 4.5     the same, its first days only
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from market import times
from market.times import DAY, MINUTE
from tests.support.virtual import schedule
from tests.support.virtual.judge import Judge, at_the_end, closed_days, proven_by_frames
from tests.support.virtual.process import rows_of
from tests.support.virtual.world import START, SYMBOLS, VENUES, Settings, World

CLOSED_SECONDS = 12.5 * 3600
"""After midnight: by then the day is closed, whatever the night was like, and so are the candles then asked for."""


class Report(msgspec.Struct, kw_only=True):
    """What a run was and what it showed."""

    seed: int
    days: float
    events: int = 0
    stored: int = 0
    stored_of: dict[str, int] = {}
    """By venue."""
    missing: int = 0
    covered: int = 0
    in_quarantine: int = 0
    undetectable: int = 0
    """Missing, and nobody could know."""
    unseen_behind_a_checksum: int = 0
    """Of these updates of Kraken's spot books behind the ten levels that its checksum is of."""
    gaps: int = 0
    gaps_with_nothing_in_them: int = 0
    gaps_of_quiet_streams: int = 0
    causes: dict[str, int] = {}
    lost: dict[str, int] = {}
    handovers: int = 0
    handovers_with_no_fault_near: int = 0
    starts: int = 0
    days_closed: int = 0
    faults: dict[str, int] = {}
    failpoints_that_struck: dict[str, int] = {}
    findings: list[str] = []
    errors_in_callbacks: list[str] = []
    course: list[str] = []
    """What struck when, and how the daemon ended and began again."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    rss_mb: float = 0.0
    replay: str = ""

    @property
    def speed(self) -> float:
        """Virtual seconds a real one."""
        return self.days * 86_400 / max(self.seconds, 1e-9)


def run(
    days: float,
    faults: int,
    settings: Settings,
    folder: Path,
    *,
    only: Collection[int] = (),
    kinds: Sequence[str] = (),
    until: float | None = None,
    frames: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """One run in `folder`, which is empty. `only` are the indices of the faults that are carried out; `until` ends it
    before the schedule does; with `frames` its rows are made of its frames once more at the end.
    """
    began, cpu = time.monotonic(), time.process_time()
    report = Report(seed=settings.seed, days=days)
    report.replay = _command(settings, days, faults, kinds, frames=frames)
    lanes = [
        schedule.Lane(venue, market, tuple(there))
        for venue, collected in settings.kinds.items()
        for market, there in collected.items()
    ]
    midnight = (times.floor_to(START, DAY) + DAY - START) / 1e6
    acts = schedule.draw(settings.seed, days, faults, lanes, tuple(kinds), midnight)
    days = report.days = days if until is None else min(days, until)
    world = World(settings, folder)
    judges = [
        Judge(name, exchange.truth, world.root, settings.kinds[name]) for name, exchange in world.exchanges.items()
    ]
    mine = [act for act in acts if (not only or act.index in only) and act.at < days * 86_400 - schedule.LAST]
    world.ahead.extend(act.at for act in mine)
    with world.living():
        for at, act in _plan(days, mine):
            world.run_until(at)
            if act is not None:
                tell(str(act))
                world.strike(act)
                continue
            _judge_day(world, judges, report, tell)
        world.run_until(days * 86_400)
        world.finish()
        told_to_stop = world.true.now()
        world.stop()
        report.findings += at_the_end(world)
        report.findings += proven_by_frames(world) if frames else []
        for judge in judges:
            judge.span(told_to_stop)
            report.findings += judge.told()
        for text in (*report.findings[-20:], f"the end: {len(report.findings)} findings"):
            tell(text)
        _fill(report, world, judges)
    report.seconds, report.cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    report.rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return report


def _command(settings: Settings, days: float, faults: int, kinds: Sequence[str], *, frames: bool) -> str:
    """What runs the same once more."""
    return (
        f"python -m tests.support.virtual.soak --seed {settings.seed} --days {days:g} --faults {faults}"
        f" --rate {settings.rate:g}"
        + (f" --symbols {','.join(settings.symbols)}" if settings.symbols != SYMBOLS else "")
        + (f" --venues {','.join(settings.venues)}" if settings.venues != VENUES else "")
        + (" --wide" if settings.wide else "")
        + (f" --kinds {','.join(kinds)}" if kinds else "")
        + (" --frames" if frames else "")
    )


def _plan(days: float, acts: Sequence[schedule.Act]) -> list[tuple[float, schedule.Act | None]]:
    """Faults and days' judgements in their order."""
    first = (times.floor_to(START, DAY) + DAY - START) / 1e6 + CLOSED_SECONDS
    judged: list[tuple[float, schedule.Act | None]] = []
    while first + len(judged) * 86_400 < days * 86_400:
        judged.append((first + len(judged) * 86_400, None))
    return sorted([*judged, *((act.at, act) for act in acts)], key=lambda one: one[0])


def _judge_day(world: World, judges: Sequence[Judge], report: Report, tell: Callable[[str], None]) -> None:
    midnight = times.floor_to(world.true.now(), DAY)
    world.catch_up()
    verdicts = [judge.span(midnight - MINUTE) for judge in judges]
    found = [text for judge in judges for text in judge.told()] + closed_days(world.root, midnight, world.clock.now())
    report.findings += found
    for text in found:
        tell(f"   ! {text}")
    report.days_closed += 1
    tell(
        f"-- {times.text(midnight)}: {sum(one.stored for one in verdicts)} stored,"
        f" {sum(one.missing for one in verdicts)} missing, {sum(one.gaps for one in verdicts)} gaps,"
        f" {len(report.findings)} findings"
    )


def _fill(report: Report, world: World, judges: Sequence[Judge]) -> None:
    report.events = sum(exchange.truth.events for exchange in world.exchanges.values())
    for judge in judges:
        report.stored_of[judge.venue] = sum(verdict.stored for verdict in judge.verdicts)
        for verdict in judge.verdicts:
            for name in ("stored", "missing", "covered", "in_quarantine", "undetectable", "gaps"):
                setattr(report, name, getattr(report, name) + getattr(verdict, name))
            report.unseen_behind_a_checksum += verdict.unseen
            report.gaps_with_nothing_in_them += verdict.empty_gaps
            for held, more in ((report.causes, verdict.causes), (report.lost, verdict.lost)):
                for name, count in more.items():
                    held[name] = held.get(name, 0) + count
        report.gaps_of_quiet_streams += judge.quiet
        report.handovers += judge.handovers
        report.handovers_with_no_fault_near += judge.undisturbed
    report.course = world.log
    report.starts = world.starts
    report.faults = dict(world.done.most_common())
    report.failpoints_that_struck = dict(world.fired)
    report.errors_in_callbacks = world.loop.failures


def dump(
    days: float, faults: int, settings: Settings, folder: Path, kinds: Sequence[str] = ()
) -> dict[str, list[tuple[object, ...]]]:
    """A run's manifest, all of it: the same for the same seed."""
    folder.mkdir(exist_ok=True)
    run(days, faults, settings, folder, kinds=kinds)
    return rows_of(folder / "lake")


def show(report: Report) -> None:
    """For people."""
    for name, value in msgspec.structs.asdict(report).items():
        if name not in ("findings", "replay", "errors_in_callbacks", "course"):
            print(f"  {name.replace('_', ' '):28} {value if not isinstance(value, float) else round(value, 2)}")
    print(f"  {'virtual seconds a second':28} {report.speed:,.0f}")
    for text in (*report.findings[:60], *report.errors_in_callbacks[:10]):
        print(f"  ! {text}")
    print("as promised" if not report.findings else f"{len(report.findings)} FINDINGS; replay: {report.replay}")


def _venues(text: str) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(text.split(",")))
    if unknown := set(named) - set(VENUES):
        raise argparse.ArgumentTypeError(f"no venue {', '.join(sorted(unknown))}; known: {', '.join(VENUES)}")
    return named


def main(given: Sequence[str] | None = None) -> int:
    """The exit code: 1 for findings."""
    import loguru

    parser = argparse.ArgumentParser("virtual soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=float, default=3.0)
    parser.add_argument("--faults", type=int, help="default: 200 in 30 days, and as dense otherwise")
    parser.add_argument("--until", type=float, help="end after so many days of the schedule")
    parser.add_argument("--rate", type=float, help="trades and quotes a second of all symbols; a campaign has more")
    parser.add_argument("--symbols", default=",".join(SYMBOLS), help="by commas; fewer make days cheaper")
    parser.add_argument("--venues", type=_venues, default=VENUES, help="by commas; of one alone all markets are lived")
    parser.add_argument("--wide", action="store_true", help="collect more kinds at once")
    parser.add_argument("--only", default="", help="indices of the faults to carry out, by commas")
    parser.add_argument("--kinds", default="", help="kinds of faults to draw from, by commas; default: all")
    parser.add_argument("--frames", action="store_true", help="make all rows of the frames once more at the end")
    parser.add_argument("--out", type=Path, help="keep the lake in this folder, which must not exist")
    parser.add_argument("--log", action="store_true", help="show what the daemon says")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--campaign", action="store_true", help="several lakes in processes of their own")
    parser.add_argument("--processes", type=int, default=2, help="of a campaign, at once")
    parser.add_argument("--record", action="store_true", help="write a campaign's figures to docs/")
    options = parser.parse_args(given)
    loguru.logger.remove()
    if options.log:
        loguru.logger.add(sys.stderr, level="INFO", format="      {message}")
    faults = options.faults if options.faults is not None else max(1, round(options.days * 200 / 30))
    if options.campaign:
        from tests.support.virtual import campaign

        same = ["--symbols", options.symbols] if options.symbols != ",".join(SYMBOLS) else []
        same += [*["--wide"] * options.wide, *["--frames"] * options.frames]
        same += ["--kinds", options.kinds] if options.kinds else []
        rate = campaign.RATE if options.rate is None else options.rate
        asked = [f"--seed {options.seed} --days {options.days:g} --faults {faults}", *same]
        asked += ["--venues", ",".join(options.venues)] if options.venues != VENUES else []
        asked += [f"--rate {rate:g}"] if options.rate is not None else []
        return campaign.main(
            campaign.lanes(options.seed, options.days, faults, options.venues), options.processes, " ".join(asked),
            same, rate, record=options.record,
        )  # fmt: skip
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        if options.out:
            options.out.mkdir(parents=True)
        report = run(
            options.days, faults,
            Settings(
                seed=options.seed, rate=Settings().rate if options.rate is None else options.rate, wide=options.wide,
                venues=options.venues,
                symbols=tuple(options.symbols.split(",")),
            ),
            options.out or Path(folder),
            only={int(n) for n in options.only.split(",") if n}, kinds=[k for k in options.kinds.split(",") if k],
            until=options.until, frames=options.frames,
            tell=lambda text: print(text, file=sys.stderr if options.json else sys.stdout, flush=True),
        )  # fmt: skip
    print(msgspec.json.format(msgspec.json.encode(report)).decode()) if options.json else show(report)
    return 1 if report.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
