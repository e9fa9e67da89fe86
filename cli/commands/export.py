"""`dl export`: days of a lake as files for other programs."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, counted, print_json, print_table, progress, size
from cli.places import (
    ConfigOption,
    EndOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    StartOption,
    UsageError,
    command,
    lake_root,
    span_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lake import Lake
    from lake.exporting import Exported, Task
    from market.times import Interval

SHOWN = 20


class Format(enum.Enum):
    """Of the files."""

    TARDIS = "tardis-csv"
    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    HFTBACKTEST = "hftbacktest"
    NAUTILUS = "nautilus"


@command
def export(
    out: Annotated[Path, typer.Option(help="The folder for the files; made where it is missing.", readable=False)],
    form: Annotated[Format, typer.Option("--format", help="tardis.dev's, our own tables, or another program's.")],
    what: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="What to export, may be repeated: trades, quotes, book_ticker, incremental_book_L2, book_snapshot_N, "
            "derivative_ticker, liquidations; of our own tables a kind: trade, quote, bar_1m, …; for nautilus trade, "
            "quote, book_delta (these if nothing is said), bar_1s, bar_1m; for hftbacktest nothing: trades and book.",
        ),
    ] = None,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol; may be repeated.")] = None,
    start: StartOption = None,
    end: EndOption = None,
    instrument: Annotated[
        str | None, typer.Option(help="What nautilus calls the one symbol, e.g. BTCUSDT-PERP.BINANCE.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name the files, and write none.")] = False,
) -> int:
    """Write one file a day, symbol and type. A file of that name gives way to the new one once that is whole.

    tardis-csv has their names, columns and units, `<exchange>_<type>_<YYYY-MM-DD>_<SYMBOL>.csv.gz` in order of arrival,
    for readers of them; hftbacktest are its event arrays (.npz), nautilus a catalog. docs/export.md says what each
    cannot carry. Exit code 1 where nothing is stored of what is asked for.
    """
    from lake import Lake
    from lake.tardis import data_type

    span = span_of(start, end)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is no folder", "name a folder")
    with Lake(lake_root(lake, config)) as held:
        tasks, write = _planned(held, form, what or [], exchange, market_type, symbol or [], span, instrument)
        if not tasks:
            ERR.print("nothing is stored of that; dl ls says what is", markup=False)
            return 1
        if dry_run:
            _plan(tasks, as_json)
            return 0
        made: list[Exported] = []
        with progress("exporting", quiet=as_json) as report:
            for done, task in enumerate(tasks):
                report(done, len(tasks), task.name)
                made.append(write(task, out))
    lost = {name: of.lost for name in what or [] if form is Format.TARDIS and (of := data_type(name)) and of.lost}
    if as_json:
        print_json({"files": made, "not_carried": lost})
    else:
        _say(made, out)
        for name, lacks in lost.items():
            OUT.print(f"  {name} have no place for {lacks} (docs/export.md)", markup=False)
    return 0


def _planned(
    held: Lake,
    form: Format,
    what: list[str],
    exchange: str | None,
    market_type: str | None,
    symbols: list[str],
    span: Interval | None,
    instrument: str | None,
) -> tuple[list[Task], Callable[[Task, Path], Exported]]:
    """The files, and what makes one of them."""
    from collectors.replaying import named
    from lake import exporting, native

    if instrument is not None and (form is not Format.NAUTILUS or len(symbols) != 1):
        raise UsageError("--instrument names one symbol for nautilus", "use it with --format nautilus and one --symbol")
    name: Any = form.value
    if name in native.FORMATS:
        tasks = native.plan(held, name, what, exchange, market_type, symbols, span, instrument)
        return tasks, lambda task, out: native.export(held, task, name, out)
    if not what:
        raise UsageError(f"--format {name} needs --type", "say what to export, e.g. --type trades")
    if form is Format.TARDIS:
        exporting.data_types(what)
    tasks = exporting.plan(held, name, what, exchange, market_type, symbols, span, named)
    return tasks, lambda task, out: exporting.export(held, task, name, out)


def _plan(tasks: list[Task], as_json: bool) -> None:
    if as_json:
        print_json({"files": [task.name for task in tasks]})
        return
    for task in tasks[:SHOWN]:
        OUT.print(f"would write {task.name}", markup=False)
    if len(tasks) > SHOWN:
        OUT.print(f"and {len(tasks) - SHOWN:,} more (--json names them)", markup=False)


def _say(made: list[Exported], out: Path) -> None:
    rows = [[_short(one, out), one.rows, size(one.bytes), *_said(one)] for one in made[:SHOWN]]
    print_table("", ("file", "rows", "size", "left out", "unheard", "disordered"), rows, "")
    whole = f"{counted(sum(one.rows for one in made), 'row')} in {counted(len(made), 'file')}"
    OUT.print(f"{whole}, {size(sum(one.bytes for one in made))}, in {out}", markup=False)
    for count, why in (
        (
            sum(one.left_out for one in made),
            "left out: the form cannot tell such trades from others; of books they repeat, or join no stored snapshot",
        ),
        (sum(one.unheard for one in made), "unheard: fetched long after they happened, they arrive at their own time"),
        (sum(one.disordered for one in made), "disordered: they stand behind rows that arrived later"),
    ):
        if count:
            OUT.print(f"  {counted(count, 'row')} {why}", markup=False)


def _short(one: Exported, out: Path) -> str:
    """The path below the folder."""
    return Path(one.path).relative_to(out).as_posix()


def _said(one: Exported) -> list[int | None]:
    return [count or None for count in (one.left_out, one.unheard, one.disordered)]
