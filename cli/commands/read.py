"""`dl read`: rows of one kind, to the screen or to a file."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.places import (
    ConfigOption,
    EndOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    StartOption,
    SymbolsOption,
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
    VersionOption,
    check_target,
    columns_of,
    give,
    give_batches,
)
from market.times import date_of

if TYPE_CHECKING:
    from lake import Lake
    from lake.inventory import Dataset

NAMED = 5
"""As many symbols are named where a question met none."""


class Fill(enum.Enum):
    """What `Lake.read` puts where a bar's window has no trade."""

    NONE = "none"
    EMPTY = "empty"
    PREVIOUS = "previous"


FillOption = Annotated[Fill, typer.Option(help="Bars: windows without a trade as none, empty or previous.")]


@command
def read(
    kind: Annotated[str, typer.Argument(help="trade, quote, bar_1s, bar_1m, bar_5m, …")],
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolsOption = None,
    start: StartOption = None,
    end: EndOption = None,
    columns: ColumnsOption = None,
    limit: LimitOption = None,
    fill: FillOption = Fill.NONE,
    min_state: MinStateOption = "provisional",
    version: VersionOption = None,
    as_of: AsOfOption = None,
    across_listings: AcrossOption = False,
    out: OutOption = None,
) -> int:
    """Read rows from one snapshot, closed days and hot parts together. Exit code 1 where there are none.

    With --out rows are written as they are read, in bounded memory: of one symbol in order, of several day by day (with
    --fill symbol by symbol).
    """
    from lake import Lake

    span_of(start, end)
    check_target(out, limit)
    asked: dict[str, Any] = {
        "exchange": exchange, "market_type": market_type, "symbol": symbol, "start": start, "end": end,
        "columns": columns_of(columns), "min_state": min_state, "version": version, "as_of": as_of,
        "across_listings": across_listings, "fill": fill.value,
    }  # fmt: skip
    with Lake(lake_root(lake, config)) as held:
        if out is not None:
            return give_batches(held.batches(kind, **asked), lambda: nothing_of(held, kind), out)
        table = held.read(kind, **asked)
        nothing = "" if table.num_rows else nothing_of(held, kind)
    return give(table, nothing, out=out, as_json=as_json, limit=limit)


def nothing_of(lake: Lake, kind: str, name: str | None = None) -> str:
    """That there are no rows of a kind (called `name`), and what there are rows of: where, of whom and when."""
    from lake.asking import bar_kind

    bar = bar_kind(kind)
    none = f"no {name or f'rows of {kind}'} here; the lake has"
    markets: dict[tuple[str, str], list[Dataset]] = {}
    for one in lake.datasets(kind=bar.stored if bar else kind):
        markets.setdefault((one.exchange, one.market_type), []).append(one)
    if markets:
        held = "; ".join(f"{' '.join(market)} {_extent(some)}" for market, some in markets.items())
        return f"{none} {name or kind} of {held}"
    kinds = sorted({k for _, _, k in lake.manifest.streams()})
    return f"{none} {', '.join(kinds) or 'no rows at all yet'}"


def _extent(held: list[Dataset]) -> str:
    """Whose rows, from when to when: `BTCUSDT, ETHUSDT (2026-11-20 to 2026-11-21)`."""
    symbols = sorted({one.symbol for one in held if one.symbol is not None})
    named = ", ".join(symbols) if len(symbols) <= NAMED else f"{len(symbols):,} symbols"
    days = [date_of(at).isoformat() for one in held for at in (one.ts_min, one.ts_max) if at is not None]
    return " ".join([*([named] if named else []), *([f"({min(days)} to {max(days)})"] if days else [])])
