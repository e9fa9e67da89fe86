"""`dl import`: files of other origin into the lake, as what they were understood as."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from cli.output import ERR, OUT, counted, print_json, progress
from cli.places import ConfigOption, JsonOption, LakeOption, UsageError, command, lake_root, reading
from cli.previews import say_filled, show, show_held
from lake.errors import LakeError
from market import times

if TYPE_CHECKING:
    from cli.jobs import Report
    from collectors.files.importing import Request
    from collectors.files.preview import Preview
    from collectors.files.reading import Options, Unclear
    from daemon.config import Config
    from lake.overlaps import Spans
    from lake.writer import LakeWriter
    from runtime.workers import Workers

Dates = Literal["dmy", "mdy"]
Label = Literal["open", "close"]
Point = Literal["point", "comma"]
FilesArgument = Annotated[
    list[Path],
    typer.Argument(help="CSV, TSV, JSON or JSON Lines, also as gz or zip; Parquet or Feather.", readable=False),
]
ExchangeOption = Annotated[str, typer.Option(help="Whose prices: a venue, a broker, a vendor.")]
MarketOption = Annotated[
    str, typer.Option("--market-type", "--market", help="spot, linear, inverse, option, index, fx or equity.")
]
KindOption = Annotated[
    str | None, typer.Option(help="trade, agg_trade, quote, kline, liquidation, mark_price; of some files others.")
]
SymbolOption = Annotated[str | None, typer.Option(help="Whose prices, where the file does not say it.")]
DialectOption = Annotated[str | None, typer.Option(help="How it is written (docs/import.md); told by itself.")]
MapOption = Annotated[
    list[str] | None, typer.Option("--map", help="COL=FIELD, e.g. Last=close or 1=time; names all columns that count.")
]
ZoneOption = Annotated[str | None, typer.Option(help="Of times without one: UTC, +02:00 or America/New_York.")]
DatesOption = Annotated[str | None, typer.Option(help="Order of day and month: dmy or mdy.")]
IntervalOption = Annotated[str | None, typer.Option(help="Width of the candles: 1m, 1h, 1d, 1w, 1M, …")]
LabelOption = Annotated[str | None, typer.Option(help="Which end of a candle its time is: open or close.")]
ScaleOption = Annotated[int | None, typer.Option(help="What prices are divided by: 10000, 100000; 1 for nothing.")]
RawOption = Annotated[
    bool, typer.Option("--raw-prices", help="Take open to close as they are, and leave adjusted closes out.")
]
DelimiterOption = Annotated[str | None, typer.Option(help="Between columns; told by itself.")]
DecimalOption = Annotated[str | None, typer.Option(help="point or comma, where a comma may be either.")]
EncodingOption = Annotated[str | None, typer.Option(help="Of a file that is not UTF-8: cp1252, utf-16, …")]
MemberOption = Annotated[str | None, typer.Option(help="Which file of a zip that holds several.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Also what was imported before and read otherwise.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Read all of it, say what would come of it.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before writing.")]


SHOWN = 5
"""Days with differences that are named one by one."""


SHOWN_REASONS = 8
MOST_QUESTIONS = 8


class Declined(LakeError):
    """The person at the terminal does not want it."""


@command
def import_files(
    files: FilesArgument,
    exchange: ExchangeOption,
    market_type: MarketOption,
    kind: KindOption = None,
    symbol: SymbolOption = None,
    dialect: DialectOption = None,
    columns: MapOption = None,
    timezone: ZoneOption = None,
    dates: DatesOption = None,
    interval: IntervalOption = None,
    label: LabelOption = None,
    scale: ScaleOption = None,
    raw_prices: RawOption = False,
    delimiter: DelimiterOption = None,
    decimal: DecimalOption = None,
    encoding: EncodingOption = None,
    member: MemberOption = None,
    again: AgainOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Import trades, quotes, candles, books, liquidations and marks from files; docs/import.md lists the dialects.

    What a file was understood as is shown before anything is written. Where day and month, zone, width, scale or
    adjusted prices are not clear it is asked on a terminal, and refused elsewhere with the option that says it (exit
    code 2). Rows that break a rule are set aside in quarantine, counted. The same file again changes nothing. Run by
    the daemon where one writes the lake. Exit code 1 where a file was refused or rows were set aside.
    """
    from collectors.files.reading import Options

    options = Options(
        exchange=exchange, market_type=market_type, kind=kind, symbol=symbol, dialect=dialect,
        columns=_mapping(columns or ()), timezone=timezone, dates=_one_of("--dates", dates, Dates), interval=interval,
        label=_one_of("--label", label, Label), scale=scale, raw_prices=raw_prices, delimiter=delimiter,
        decimal=_one_of("--decimal", decimal, Point), encoding=encoding, member=member,
    )  # fmt: skip
    root = lake_root(lake, config, must_exist=False)
    return _import(root, config, files, options, again=again, dry_run=dry_run, yes=yes, as_json=as_json)


def _import(
    root: Path,
    config: Path | None,
    files: Sequence[Path],
    options: Options,
    *,
    again: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    asks = not as_json and _terminal()
    requests = [_understood(file, options, again, asks=asks) for file in files]
    looks = [_look(request, quiet=as_json) for request in requests]
    held = [_held(root, request) for request in requests]
    if not as_json:
        for look, spans in zip(looks, held, strict=True):
            show(look)
            show_held(look, spans)
    if asks and not (yes or dry_run):
        _confirmed("Write this into the lake?")
    made = [
        _rehearsed(root, request, spans, quiet=as_json) if dry_run else _taken(root, config, request, quiet=as_json)
        for request, spans in zip(requests, held, strict=True)
    ]
    if as_json:
        print_json({"dry_run": dry_run, "files": made, "understood": looks})
    else:
        for one in made:
            _say(one, dry_run=dry_run)
    return 1 if any(one["quarantined"] for one in made) else 0


def _terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirmed(question: str) -> None:
    """Raises Declined for a no, KeyboardInterrupt where the terminal goes."""
    try:
        if not typer.confirm(question, err=True):
            raise Declined("nothing was written")
    except typer.Abort:
        raise KeyboardInterrupt from None


def _prompted(option: str, choices: Sequence[str]) -> str:
    """What is answered, one of the choices where there are any. Raises KeyboardInterrupt where the terminal goes."""
    offered = f"{option} ({', '.join(choices)})" if choices else option
    try:
        while True:
            answer: str = typer.prompt(offered, err=True)
            if not choices or answer in choices:
                return answer
    except typer.Abort:
        raise KeyboardInterrupt from None


def _mapping(columns: Sequence[str]) -> dict[str, str]:
    found = {}
    for said in columns:
        column, is_said, field = said.rpartition("=")
        if not is_said or not field:
            raise UsageError(f"--map {said} is not COL=FIELD", "e.g. --map Last=close or --map 1=time")
        found[column] = field
    return found


def _one_of(option: str, value: str | None, choices: Any) -> Any:
    allowed = get_args(choices)
    if value is not None and value not in allowed:
        raise UsageError(f"{option} {value} is none of {', '.join(allowed)}", f"e.g. {option} {allowed[0]}")
    return value


def _understood(file: Path, options: Options, again: bool, *, asks: bool) -> Request:
    from collectors.files.importing import request_of
    from collectors.files.reading import Unclear

    while True:
        try:
            return request_of(file, options, again=again)
        except Unclear as unclear:
            if not asks:
                raise _together(file, options, unclear) from None
            options = _asked(file, unclear, options)


_ANSWERS: Mapping[str, Any] = {
    "timezone": "UTC", "symbol": "X", "interval": "1d", "raw_prices": True, "scale": 1, "encoding": "latin-1",
}  # fmt: skip
"""What is taken for said, only to learn what else is not."""


def _together(file: Path, options: Options, first: Unclear) -> Unclear:
    """All that a file does not say, so that a second try is the last one."""
    import msgspec

    from collectors.files.importing import request_of
    from collectors.files.reading import Refused, Unclear

    found = [first]
    while len(found) < MOST_QUESTIONS:
        name = option_name(found[-1])
        answer = _ANSWERS.get(name, next(iter(found[-1].choices), None))
        options = msgspec.structs.replace(options, **{name: answer})
        try:
            request_of(file, options)
        except Unclear as unclear:
            if unclear.option in [one.option for one in found]:
                break
            found.append(unclear)
        except Refused:
            break
        else:
            break
    wanted = ", and ".join(one.hint.removeprefix("say ") for one in found)
    return Unclear("; ".join(_of(file, one) for one in found), wanted)


def _of(file: Path, unclear: Unclear) -> str:
    """The question, with the file that it is about: there may be several."""
    return unclear.question if file.name in unclear.question else f"{file.name}: {unclear.question}"


def option_name(unclear: Unclear) -> str:
    return unclear.option.removeprefix("--").replace("-", "_")


def _asked(file: Path, unclear: Unclear, options: Options) -> Options:
    """The options with what the terminal answers."""
    import msgspec

    ERR.print(_of(file, unclear), markup=False)
    name = option_name(unclear)
    answer: Any = True
    if name == "raw_prices":
        _confirmed("Take the prices as they are, and leave the adjusted ones out?")
    else:
        said = _prompted(unclear.option, unclear.choices)
        answer = int(said) if name == "scale" else said
    return msgspec.structs.replace(options, **{name: answer})


def _look(request: Request, *, quiet: bool) -> Preview:
    from collectors.files.preview import preview

    with progress("looking at", quiet=quiet) as report:
        return preview(request, report)


def _held(root: Path, request: Request) -> Spans:
    """What a lake covers already of what the file may tell without ids."""
    from collectors.files.importing import held
    from lake.layout import MANIFEST

    if not (root / MANIFEST).is_file():
        return {}
    with reading(root) as manifest:
        return held(manifest, request)


def _rehearsed(root: Path, request: Request, held: Spans, *, quiet: bool) -> dict[str, Any]:
    import msgspec

    from collectors.files.importing import parts_of, rehearse
    from lake.layout import MANIFEST
    from runtime.clock import SystemClock
    from runtime.workers import InlineExecutor

    parts = None
    if (root / MANIFEST).is_file():
        with reading(root) as manifest:
            parts = parts_of(root, InlineExecutor(), manifest, request)
    with progress("reading", quiet=quiet) as report:
        told: dict[str, Any] = msgspec.to_builtins(rehearse(request, SystemClock().now(), report, held, parts))
        return told


def _taken(root: Path, config: Path | None, request: Request, *, quiet: bool) -> dict[str, Any]:
    import msgspec

    from cli.jobs import run_job, settings

    def work(writer: LakeWriter, workers: Workers, now: int, config: Config, report: Report) -> dict[str, Any]:
        from collectors.files.importing import take_in

        taken = take_in(writer, workers, config.collectors.node, now, request, report)
        made: dict[str, Any] = msgspec.to_builtins(taken)
        return made

    arguments = msgspec.to_builtins(request)
    done: dict[str, Any] = run_job("import", arguments, root, settings(config), quiet, work, create=True)
    return done


def _say(made: Mapping[str, Any], *, dry_run: bool) -> None:
    name = Path(made["path"]).name
    if made["already"]:
        OUT.print(f"{name}: imported already as session {made['session']}: nothing was changed", markup=False)
        return
    begun = "would become" if dry_run else "became"
    where = "" if dry_run else f" in {counted(made['files'], 'file')}, session {made['session']}"
    left = f"{made['covered']:,} without an id left out where the lake has that time, " if made["covered"] else ""
    odd = "without a mark" if made["filled"] is None else "before a whole book"
    left += f"{made['other']:,} {odd} left out, " if made["other"] else ""
    lines = made["rows"] - made["added"] + made["duplicates"] + made["covered"] + made["quarantined"] + made["other"]
    span = f" of {', '.join(made['symbols'][:5])} from {times.text(made['ts_from'])} to {times.text(made['ts_to'])}"
    OUT.print(
        f"{name}: {counted(lines, 'line')} {begun} {counted(made['rows'], 'row')}{span if made['rows'] else ''}{where};"
        f" {made['duplicates']:,} duplicates left out, {left}{made['quarantined']:,} set aside",
        markup=False,
    )
    for one in made["missing"]:
        days = one["days"]
        known = "trading day" if one["sure"] else "weekday"
        shown = ", ".join(days[:SHOWN]) + (", …" if len(days) > SHOWN else "")
        OUT.print(
            f"  no rows of {one['symbol']} on {counted(len(days), known)}"
            f"{'' if one['sure'] else ' (its holidays are not known)'}, not covered: {shown}",
            markup=False,
        )
    if made["filled"] is not None:
        say_filled(made["filled"])
    _say_overlaps(made["overlaps"], made["kind"])
    for reason in made["reasons"]:
        ERR.print(f"set aside: {reason}", markup=False)
    if len(made["why"]) > 1:
        why = "; ".join(f"{count:,} {reason}" for reason, count in list(made["why"].items())[:SHOWN_REASONS])
        ERR.print(f"set aside in all: {why}{'; …' if len(made['why']) > SHOWN_REASONS else ''}", markup=False)


def _say_overlaps(overlaps: Sequence[Mapping[str, Any]], kind: str) -> None:
    """What of it the lake had already, and where the two differ."""
    if not overlaps:
        return
    total = {name: sum(one[name] for one in overlaps) for name in ("both", "different", "only_here", "only_there")}
    days = len({one["date"] for one in overlaps})
    stays = "candles of every source stay" if kind == "kline" else "what was received first stays"
    OUT.print(
        f"  in the lake already, on {counted(days, 'day')}: {total['both']:,} of its rows by their ids, of which"
        f" {total['different']:,} differ ({stays}); {total['only_there']:,} were new, and the"
        f" lake has {total['only_here']:,} that the file has not",
        markup=False,
    )
    for one in [one for one in overlaps if one["different"]][:SHOWN]:
        OUT.print(
            f"  differs: {one['symbol']} {one['date']}: {one['different']:,}, first {one['example']}", markup=False
        )
