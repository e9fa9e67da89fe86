"""`dl trace`: a row's way back to the frame it came from."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import OUT, print_json
from cli.places import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    SymbolOption,
    UsageError,
    command,
    lake_root,
)
from cli.rows import spelt

FROM_FILES = ("archive", "import")
"""Sources of rows whose session is a file and whose frame is a line of it."""


@command
def trace(
    kind: Annotated[str, typer.Argument(help="The row's kind: trade, quote, …")],
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
    seq: Annotated[int | None, typer.Option("--id", help="The venue's id: a trade's, or a quote's update id.")] = None,
    session: Annotated[str | None, typer.Option(help="The row's session, with --frame.")] = None,
    frame: Annotated[int | None, typer.Option(help="The row's frame_no in that session.")] = None,
    item: Annotated[int | None, typer.Option(help="The row's item in that frame.")] = None,
) -> int:
    """Print the row, the files it came through, its line and the frame as received. Exit code 1: no such row."""
    from lake import Lake

    if seq is None and (session is None or frame is None):
        raise UsageError(f"which row of {kind} is not said", "give --id, or --session and --frame")
    with Lake(lake_root(lake, config)) as held:
        found = held.trace(
            kind, exchange=exchange, market_type=market_type, symbol=symbol, id=seq, session=session, frame_no=frame,
            item=item,
        )  # fmt: skip
    if as_json:
        print_json(found)
        return 0 if found else 1
    for one in found:
        OUT.print("row", style="bold")
        for name, value in one.row.items():
            if value is not None:
                OUT.print(f"  {name:15} {spelt(value, name)}", markup=False)
        OUT.print("came through", style="bold")
        for step in one.steps:
            gone = "" if step.present else "  (deleted by retention; its hash stays)"
            OUT.print(f"  {step.what:8} {step.path}{gone}", markup=False)
            OUT.print(f"           sha256 {step.sha256}", markup=False)
        if one.session is not None:
            OUT.print(f"  session  {one.session.session}  {one.session.url}", markup=False)
        if one.row.get("source") in FROM_FILES:
            OUT.print(f"  line     {one.row['frame_no']:,} of that file, which the lake does not keep", markup=False)
            continue
        OUT.print("line", style="bold")
        OUT.print(f"  {one.line or 'its segment is no longer kept'}", markup=False)
        OUT.print("frame", style="bold")
        OUT.print(f"  {one.frame or 'its frames are no longer kept'}", markup=False)
    if not found:
        OUT.print(f"no published {kind} row answers to that")
    return 0 if found else 1
