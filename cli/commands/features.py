"""`dl features list | show | get | join`: sets of externally computed values; what changes them is beside this."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.commands.read import Fill, FillOption
from cli.output import ERR, OUT, print_json, print_table, size, when
from cli.places import (
    ConfigOption,
    EndOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    StartOption,
    SymbolOption,
    command,
    lake_root,
    span_of,
)
from cli.rows import (
    AcrossOption,
    AsOfOption,
    ColumnsOption,
    LimitOption,
    MinStateOption,
    OutOption,
    check_target,
    columns_of,
    give,
)
from cli.rows import VersionOption as Revision
from cli.verbs import MARKUP
from market import times

if TYPE_CHECKING:
    from lake.feature_rows import FeatureRow

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The set's name.")]
VersionOption = Annotated[str, typer.Option(help="Which version: 1.0.0, …, or latest.")]


class At(enum.Enum):
    """When a bar asks what is known."""

    OPEN, CLOSE = "open", "close"


app = typer.Typer(
    add_completion=False,
    help="Sets of values that somebody else computed: put in, listed, read, joined onto bars, rolled back, deleted.",
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
)


def named(row: Mapping[str, Any]) -> str:
    """A version in words."""
    return f"{row['feature_set']} {row['version']} of {row['exchange']} {row['market_type']} {row['symbol']}"


@app.command("list")
@command
def list_sets(
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
    name: Annotated[str | None, typer.Option("--set", help="Only this set.")] = None,
    version: Annotated[str | None, typer.Option(help="Only this version, or latest.")] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also those that were deleted.")] = False,
) -> int:
    """List the versions of feature sets; * marks what latest means."""
    from lake import Lake
    from lake.feature_rows import LATEST

    with Lake(lake_root(lake, config)) as held:
        rows = held.features.versions(
            exchange=exchange, market_type=market_type, symbol=symbol, feature_set=name, version=version,
            deleted=deleted,
        )  # fmt: skip
        newest = {row.feature_id for row in held.features.versions(version=LATEST)}
    if as_json:
        print_json([_told(row) | {"latest": row.feature_id in newest} for row in rows])
        return 0
    table = [
        (
            row.feature_set, f"{row.version}{' *' if row.feature_id in newest else ''}", row.exchange, row.market_type,
            row.symbol, row.rows, when(row.ts_min), when(row.ts_max), len(row.columns), row.known, _state(row),
        )
        for row in rows
    ]  # fmt: skip
    heads = ("set", "version", "exchange", "market", "symbol", "rows", "from", "to", "columns", "known", "file")
    print_table("", heads, table, "no feature sets here; dl features put FILE --set NAME … puts one in")
    return 0


def _state(row: FeatureRow) -> str:
    return size(row.bytes) if row.state == "live" else f"deleted {when(row.deleted_at)}"


def _told(row: FeatureRow) -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(row)
    return told


@app.command("show")
@command
def show(
    name: NameArgument,
    version: VersionOption = "latest",
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
) -> int:
    """Tell all that is known of one version: its columns, checksum, and the data it was computed on.

    Exit code 1 where some of that data was revised since.
    """
    from lake import Lake

    with Lake(lake_root(lake, config)) as held:
        row = held.features.get(name, version, exchange=exchange, market_type=market_type, symbol=symbol)
        lineage = held.features.lineage(row)
        (owner,) = (one for one in held.features.sets(symbol=row.symbol) if _same(one, row))
    if as_json:
        print_json(_told(row) | {"latest": owner.latest, "versions": owner.versions, "revised": lineage.revised})
        return 1 if lineage.revised else 0
    OUT.print(f"{named(_told(row))} ({row.feature_id}), latest is {owner.latest}", markup=False)
    said = {
        "versions": ", ".join(owner.versions),
        "rows": f"{row.rows:,} from {times.text(row.ts_min)} to {times.text(row.ts_max)}",
        "known": f"from {row.known} on" if row.known.startswith("own time") else f"from what {row.known} says on",
        "columns": ", ".join(f"{column} ({word})" for column, word in row.columns.items()),
        "file": f"{row.path} ({size(row.bytes)})",
        "sha256": row.sha256,
        "put in": when(row.created_at),
        "note": row.note,
    }
    for head, value in said.items():
        if value:
            OUT.print(f"  {head:9} {value}", markup=False)
    if row.computed_on:
        OUT.print(
            f"  computed  on {', '.join(row.computed_on)} as of {when(row.as_of)}: {len(row.inputs):,} files,"
            f" {len(lineage.revised):,} of them revised since",
            markup=False,
        )
    return 1 if lineage.revised else 0


def _same(one: Any, row: FeatureRow) -> bool:
    return (one.exchange, one.market_type, one.symbol, one.name) == row.owner


@app.command("get")
@command
def get(
    name: NameArgument,
    version: VersionOption = "latest",
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
    start: StartOption = None,
    end: EndOption = None,
    known_by: Annotated[str | None, typer.Option(help="Only what was known at this time (UTC).")] = None,
    columns: ColumnsOption = None,
    limit: LimitOption = None,
    out: OutOption = None,
) -> int:
    """Read one version, to the screen or to a file. A .parquet of all of it is the stored file, byte for byte.

    Exit code 1 where there are no rows.
    """
    from lake import Lake, durable

    span_of(start, end)
    check_target(out, limit)
    with Lake(lake_root(lake, config)) as held:
        row = held.features.get(name, version, exchange=exchange, market_type=market_type, symbol=symbol)
        whole = not any((start, end, known_by, columns))
        if out is not None and out.suffix == ".parquet" and whole:
            durable.write_file(out, held.features.path(row))
            ERR.print(f"{row.rows:,} rows written to {out} ({size(row.bytes)}), SHA-256 {row.sha256}", markup=False)
            return 0
        table = held.features.read(row, start=start, end=end, columns=columns_of(columns), known_by=known_by)
    return give(table, f"no rows of {name} there", out=out, as_json=as_json, limit=limit)


@app.command("join")
@command
def join(
    names: Annotated[
        list[str], typer.Argument(metavar="SET…", help="NAME, NAME@1.0.0, or of another symbol ETHUSDT:NAME@1.0.0.")
    ],
    symbol: Annotated[str, typer.Option(help="The symbol whose bars are read.")],
    kind: Annotated[str, typer.Option(help="What the values are joined onto: bar_1m, bar_5m, trade, …")] = "bar_1m",
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    start: StartOption = None,
    end: EndOption = None,
    at: Annotated[At, typer.Option(help="When a bar asks what is known: at its open or its close.")] = At.OPEN,
    max_age: Annotated[str | None, typer.Option(help="Values of a time further back than this are none: 1h.")] = None,
    columns: ColumnsOption = None,
    limit: LimitOption = None,
    fill: FillOption = Fill.NONE,
    min_state: MinStateOption = "provisional",
    version: Revision = None,
    as_of: AsOfOption = None,
    across_listings: AcrossOption = False,
    out: OutOption = None,
) -> int:
    """Join sets onto bars, each bar with what was known of them then, and nothing of the future.

    Columns become NAME__column; NAME__known_at says since when that row was known. --columns chooses those of the bars.
    Exit code 1 where there are no bars.
    """
    from lake import Lake

    span_of(start, end)
    check_target(out, limit)
    with Lake(lake_root(lake, config)) as held:
        table = held.features.join(
            names, kind, exchange=exchange, market_type=market_type, symbol=symbol, start=start, end=end,
            columns=columns_of(columns), at=at.value, max_age=max_age, fill=fill.value, min_state=min_state,
            version=version, as_of=as_of, across_listings=across_listings,
        )  # fmt: skip
    return give(table, f"no {kind} of {symbol} there", out=out, as_json=as_json, limit=limit)
