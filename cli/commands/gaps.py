"""`dl gaps`: every hole that is known, with its cause and ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, print_json, print_table, when
from cli.places import (
    ConfigOption,
    EndOption,
    ExchangeOption,
    JsonOption,
    KindOption,
    LakeOption,
    MarketTypeOption,
    StartOption,
    SymbolsOption,
    UsageError,
    command,
    lake_root,
    unmet,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lake import Lake
    from market.session import Gap

DETAIL_SHOWN = 60
COLUMNS = (
    "exchange", "market", "kind", "symbol", "state", "cause", "from", "to", "ids", "missing", "proof", "detail",
)  # fmt: skip


@command
def gaps(
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    kind: KindOption = None,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolsOption = None,
    start: StartOption = None,
    end: EndOption = None,
    day: Annotated[str | None, typer.Option(help="Only this day (UTC), in place of --start and --end.")] = None,
    state: Annotated[str, typer.Option(help="open, repaired, empty, void, unrepairable, or all.")] = "open",
    repair: Annotated[bool, typer.Option("--repair", help="Ask for what is missing in the open ones.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: say what would be done.")] = False,
) -> int:
    """List the gap ledger. Exit code 1 where an open gap is listed, so that a script may ask.

    With --repair the open ones that are listed are asked for: of the venue, the newest day first and of a day the
    smallest, or of its archive. One is closed by proof only: repaired (what was missing is here), empty (all of it was
    asked for, and nothing was missing), unrepairable (the venue's history lacks its ids, or no source tells of what is
    past). Where a daemon writes the lake it does the work. Exit code 1 where a gap is open still, with the reason.
    """
    from typing import get_args

    from cli.repairs import asked_for, times_of
    from market.session import GapState

    if state != "all" and state not in get_args(GapState):
        raise UsageError(f"--state {state} is not known", f"use one of {', '.join(get_args(GapState))}, all")
    low, high = times_of(start, end, day)
    if dry_run and not repair:
        raise UsageError("--dry-run says what --repair would do", "give both")
    root = lake_root(lake, config)
    from lake.asking import bar_kind
    from market.kinds import kind as declared

    if kind is not None and bar_kind(kind) is None:
        declared(kind)
    if repair:
        what = (exchange, market_type, kind, _repaired(state, symbol))
        return asked_for(root, what, (low, high), config, dry_run, as_json)
    from lake import Lake

    asked: dict[str, Any] = {"kind": kind, "exchange": exchange, "market_type": market_type, "symbol": symbol}
    with Lake(root) as held:
        found = held.gaps(**asked, state="all", start=low, end=high)
        stored = bool(found) or not any(asked.values()) or _stored(held, asked)
        unknown = unmet(symbol, lambda one: _stored(held, {**asked, "symbol": one})) if stored else []
    listed = [gap for gap in found if state in ("all", gap.state)]
    if not stored:
        ERR.print("nothing is stored of that; dl ls says what is")
    if unknown:
        ERR.print(f"nothing is stored of {', '.join(unknown)}; dl ls says what is", markup=False)
    if as_json:
        print_json(listed)
    elif stored:
        _show(listed, found, state)
    return 1 if any(gap.state == "open" for gap in listed) else 0


def _repaired(state: str, symbols: Sequence[str] | None) -> str | None:
    """Whose open gaps are asked for: those of one symbol, or of all. Raises UsageError."""
    if state != "open":
        raise UsageError(f"--state {state} is not repaired", "open gaps are: leave --state out")
    if symbols is not None and len(symbols) > 1:
        raise UsageError("--repair asks for gaps of one --symbol, or of all", "run it once for each")
    return symbols[0] if symbols else None


def _stored(lake: Lake, asked: Mapping[str, Any]) -> bool:
    """Whether the lake knows of what has no gap: of what nobody collects there is none either."""
    held = (one for one in lake.datasets(**asked) if asked["symbol"] is None or one.symbol is not None)
    return any(held) or bool(lake.coverage(**asked))


def _show(listed: list[Gap], found: list[Gap], state: str) -> None:
    rows = [
        [
            g.exchange, g.market_type, g.kind, g.symbol, g.state, g.cause, when(g.ts_from), when(g.ts_to),
            "-" if g.id_from is None else f"[{g.id_from}, {g.id_to if g.id_to is not None else '…'})",
            g.missing, g.proof, _shortened(g.detail),
        ]
        for g in listed
    ]  # fmt: skip
    print_table("", COLUMNS, rows, f"no {state} gaps" if state != "all" else "no gaps")
    if state != "all" and len(found) > len(listed):
        gone = sum(gap.cause == "deleted" and gap.state != state for gap in found)
        said = f", {gone} of them of what was deleted" if gone else ""
        OUT.print(f"{len(found) - len(listed)} more in other states{said}: --state all")


def _shortened(detail: str | None) -> str | None:
    return detail if detail is None or len(detail) <= DETAIL_SHOWN else f"{detail[:DETAIL_SHOWN]}…"
