"""`dl verify`: whether the lake is what it says it is, by itself or held against the frames that it was made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, print_json, print_table, progress, size, when
from cli.places import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    KindOption,
    LakeOption,
    MarketTypeOption,
    SymbolOption,
    UsageError,
    command,
    lake_root,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daemon.rederiving import Outcome, Wanted
    from lake.finding import Finding
    from lake.law import StreamLaw
    from lake.manifest import Manifest
    from lake.verify import Proof

DATES_SHOWN = 10
SHOWN = 10
"""Warnings that say the same."""
FramesOption = Annotated[
    bool, typer.Option("--frames", help="Make the rows again from the stored frames, and compare them with the lake's.")
]
DateOption = Annotated[
    list[str] | None, typer.Option(help="Only this date (UTC), with --frames; may be given more than once.")
]
ScratchOption = Annotated[
    Path | None,
    typer.Option(
        help="Where --frames puts what it makes and removes again (default: the system's temporary folder).",
        readable=False,
    ),
]


@command
def verify(
    lake: LakeOption = None,
    frames: FramesOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    kind: KindOption = None,
    symbol: SymbolOption = None,
    date: DateOption = None,
    scratch: ScratchOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Hash and decode every file, recompute every content digest, and prove the ledger law of every stream.

    The law: lines = rows + duplicates + set aside + waiting; and of numbered events last - first + 1 = stored + void +
    missing. What the manifest says of gaps, certificates, coverage and files is held against ledger and files. With
    --frames the stored frames go through today's parsers and mergers once more, and every row has to come out as the
    lake has it, but for those that a gap says are lost. Exit code 1 on any error.
    """
    root = lake_root(lake, config)
    if frames:
        return _frames(root, config, scratch, as_json, (exchange, market_type, kind, symbol, date))
    given = {"--exchange": exchange, "--market-type": market_type, "--kind": kind, "--symbol": symbol, "--date": date}
    for name, value in {**given, "--scratch": scratch}.items():
        if value is not None:
            raise UsageError(
                f"{name} limits what is made again from frames", f"use it with --frames: --frames {name} …"
            )
    return _whole(root, as_json)


def _whole(root: Path, as_json: bool) -> int:
    from lake.verify import verify_lake

    with reading(root) as manifest, manifest.snapshot() as now, progress("verifying", quiet=as_json) as report:
        result = verify_lake(root, now, report)
    if as_json:
        print_json({"ok": result.ok, **{name: getattr(result, name) for name in result.__struct_fields__}})
        return 0 if result.ok else 1
    say(result.findings)
    _law(result.streams)
    for market in result.markets:
        OUT.print(
            f"{market.exchange} {market.market_type}: {market.frames:,} frames in {market.sessions:,} sessions told of"
            f" {market.events:,} new events, {market.rejected:,} rejected, {market.ignored:,} of other channels"
            + (f"; {market.untold:,} sessions ended before they could tell" if market.untold else "")
        )
    _proofs(result.proofs)
    held = sum(law.holds for law in result.laws)
    OUT.print(
        f"{result.files:,} files, {result.rows:,} rows, {result.segments:,} segments read back "
        f"({size(result.bytes)}): {result.certificates:,} certificates reproduced, "
        f"id law holds in {held} of {len(result.laws)} daily files"
        + (f"; {result.features:,} feature sets" if result.features else "")
    )
    return _end(result.findings)


def say(findings: Iterable[Finding]) -> None:
    """Each finding on stderr, with what to do; of warnings that say the same the first ones."""
    alike: Counter[str] = Counter()
    for finding in findings:
        if finding.severity == "warning":
            alike[finding.problem] += 1
            if alike[finding.problem] > SHOWN:
                continue
        style = "red" if finding.severity == "error" else "yellow"
        ERR.print(f"[{style}]{finding.severity}[/] {finding.path}: ", end="", highlight=False)
        ERR.print(finding.problem, markup=False)
        if finding.hint:
            ERR.print(f"  {finding.hint}", markup=False)
    for problem, count in alike.items():
        if count > SHOWN:
            ERR.print(f"and {count - SHOWN:,} more: {problem} (--json names each)", markup=False)


def _end(findings: Iterable[Finding]) -> int:
    errors = sum(finding.severity == "error" for finding in findings)
    OUT.print(f"{errors} errors" if errors else "verified")
    return 1 if errors else 0


def _law(streams: Iterable[StreamLaw]) -> None:
    rows = []
    for law in streams:
        ids = law.ids
        counted = (law.lines, law.rows, law.reparsed, law.duplicates, law.set_aside, law.waiting, law.lost, law.gaps)
        numbered: tuple[int | None, ...] = (None,) * 6
        if ids is not None:
            numbered = (ids.numbered, ids.stored, ids.void, ids.missing, ids.uncollected, ids.unexplained)
        rows.append((law.exchange, law.market_type, law.kind, *counted, *numbered, "yes" if law.holds else "NO"))
    columns = (
        "exchange", "market", "kind", "lines", "rows", "re-parsed", "copies", "set aside", "waiting", "lost", "gaps",
        "ids", "stored", "void", "missing", "not asked for", "unexplained", "law holds",
    )  # fmt: skip
    title = "lines = rows - re-parsed + copies + set aside + waiting; ids = stored + void + missing + not asked for"
    print_table(title, columns, rows, "no stream holds anything yet")


def _proofs(proofs: Sequence[Proof]) -> None:
    """When each closed day was last made again from its frames; the newest ones."""
    dates = sorted({proof.date for proof in proofs})[-DATES_SHOWN:]
    rows = [
        (p.exchange, p.market_type, p.date, p.same, p.different, p.unproven, when(p.at))
        for p in proofs
        if p.date in dates
    ]
    if rows:
        columns = ("exchange", "market", "date", "same", "different", "unproven", "last made again")
        left = len({proof.date for proof in proofs}) - len(dates)
        more = f" (and {left:,} dates before: --json names them)" if left else ""
        print_table(f"certified files made again from their frames{more}", columns, rows, "")


# --- frames ---


def _frames(root: Path, config: Path | None, scratch: Path | None, as_json: bool, limits: tuple[Any, ...]) -> int:
    from cli.jobs import settings
    from daemon.rederiving import Rederiver
    from runtime.clock import SystemClock

    told, now = settings(config).collectors, SystemClock().now()
    if scratch is not None and not scratch.is_dir():
        raise UsageError(f"--scratch {scratch} is no folder", "name one that is there")
    with reading(root) as manifest:
        markets, dates = _markets(manifest, *limits)
        outcomes = []
        for wanted in markets:
            name = f"{wanted.exchange} {wanted.market_type}"
            with progress(name, quiet=as_json) as report, Rederiver(root, wanted, told, now, scratch) as work:
                done = 0
                while work.step():
                    done += 1
                    report(done, work.total, "frames")
                outcomes.append(work.outcome)
    nothing = sorted({*dates} - {day.date for outcome in outcomes for day in outcome.days})
    ok = all(outcome.ok for outcome in outcomes) and not nothing
    if nothing:
        ERR.print(f"neither rows nor frames are stored of {', '.join(nothing)}: that proves nothing", markup=False)
    if as_json:
        print_json({"ok": ok, "markets": outcomes})
        return 0 if ok else 1
    for outcome in outcomes:
        _tell(outcome)
    code = _end([finding for outcome in outcomes for finding in outcome.findings])
    return 1 if nothing else code


def _markets(
    manifest: Manifest, exchange: str | None, market_type: str | None, kind: str | None, symbol: str | None,
    dates: list[str] | None,
) -> tuple[list[Wanted], tuple[str, ...]]:  # fmt: skip
    """One job a market that is meant, and the dates that are named. Raises UsageError for what the lake has nothing of,
    Malformed for a bad date.
    """
    from daemon.rederiving import Wanted
    from market import times

    days = None if dates is None else tuple(times.date_of(times.parse(date)).isoformat() for date in dates)
    found = sorted(
        {
            stream[:2]
            for stream in manifest.streams()
            if exchange in (None, stream[0]) and market_type in (None, stream[1]) and kind in (None, stream[2])
            if symbol is None or manifest.coverage(*stream, symbol)
        }
    )
    if not found:
        raise UsageError("the lake has nothing of that", "dl ls says what it has")
    kinds = None if kind is None else (kind,)
    return [Wanted(*market, dates=days, kinds=kinds, symbol=symbol) for market in found], days or ()


def _tell(outcome: Outcome) -> None:
    say(outcome.findings)
    rows = [
        (
            day.kind, day.date, day.rows, day.derived, sum(day.lost.values()), day.waiting, day.unreachable,
            day.different, ", ".join(f"{cause} {count:,}" for cause, count in sorted(day.lost.items())) or "-",
        )
        for day in outcome.days
    ]  # fmt: skip
    columns = ("kind", "date", "rows", "made", "lost", "waiting", "not provable", "different", "lost in gaps of")
    print_table(f"{outcome.exchange} {outcome.market_type}", columns, rows, "no rows")
    OUT.print(
        f"{outcome.frames:,} frames of {outcome.files:,} files: {outcome.events:,} events,"
        f" {outcome.duplicates:,} duplicates, {outcome.rejected:,} rejected, {outcome.ignored:,} of other channels"
    )
