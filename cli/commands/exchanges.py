"""`dl exchanges`: what each venue offers of every kind, and what stands behind that."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from cli.output import OUT, print_json, print_table
from cli.places import ExchangeOption, JsonOption, KindOption, MarketTypeOption, command
from market import times
from market.described import Described, Sunset
from market.history import reach_said
from market.session import Evidence, Exchange


class Cell(msgspec.Struct, frozen=True):
    """One kind of one market; `channel` is the venue's stream or route, None where it has none, `copies` by what two
    connections' events are told to be the same (docs/redundancy.md), and `history` how far back `dl backfill` can ask
    for it, None where it cannot, `archive` which files `dl archive` can take it from.
    """

    exchange: str
    market_type: str
    kind: str
    channel: str | None
    copies: str | None
    history: str | None
    archive: str | None
    evidence: Evidence
    as_of: str | None
    """The date of what the adapter was written from."""
    endings: tuple[Sunset, ...]
    """What the venue has taken away of this market, or will."""


@command
def exchanges(
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    kind: KindOption = None,
    absent: Annotated[
        bool, typer.Option("--absent", help="Also the kinds that a market does not have, and why.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """List what each exchange offers: the venue's channel of every kind, and the evidence for how it is read.

    Evidence: `live` was checked against the venue on the date named, `recorded` against real frames or answers, which
    are named, `documentation` against the venue's documents only. `--exchange ccxt:<id>`: what may be had of any other
    venue by ccxt. Below stands the date that each adapter is of, and what its venue has taken away or will.

    Copies: by what the same event is told on two connections (`redundancy: 2`, handovers); docs/redundancy.md says what
    each word means. History: how far back `dl backfill` can ask for it; docs/backfill.md. Archive: the files that
    `dl archive` takes, `families` where one holds all dated futures of a family; docs/archives.md.
    """
    from collectors import exchanges as registry
    from collectors import venues as known
    from market.kinds import kind as declared
    from runtime.clock import SystemClock

    if kind is not None:
        declared(kind)
    venues = [known.load(name) for name in ([exchange] if exchange is not None else registry.names())]
    cells = [
        cell
        for venue in venues
        for cell in _cells(venue)
        if market_type in (None, cell.market_type) and kind in (None, cell.kind)
    ]
    chosen = [venue for venue in venues if isinstance(venue, Described)]
    if as_json:
        print_json(cells)
        return 0
    shown = [cell for cell in cells if absent or cell.evidence.basis != "absent"]
    rows = [
        [
            cell.exchange, cell.market_type, cell.kind, cell.channel, cell.copies, cell.history, cell.archive,
            cell.evidence.basis, cell.evidence.source or None, cell.evidence.note or None,
        ]
        for cell in shown
    ]  # fmt: skip
    columns = ["exchange", "market", "kind", "channel", "copies", "history", "archive", "evidence", "source", "note"]
    print_table("", columns, rows, "no exchange offers anything like that")
    if not shown:
        return 0
    today = times.date_of(SystemClock().now())
    for venue in chosen:
        OUT.print(f"{venue.NAME}: as of {venue.AS_OF}", markup=False)
        for ending in venue.ENDS:
            if market_type is None or not ending.markets or market_type in ending.markets:
                OUT.print(f"  {ending.said(today)} [{ending.source}]", markup=False)
    return 0


def _cells(venue: Exchange) -> list[Cell]:
    from collectors.files.archive.series import published
    from collectors.redundancy import way_of

    as_of, ends = (venue.AS_OF, venue.ENDS) if isinstance(venue, Described) else (None, ())
    of = {market: tuple(one for one in ends if not one.markets or market in one.markets) for market in venue.EVIDENCE}
    found, past = [], getattr(venue, "HISTORY", {})
    for market, kinds in venue.EVIDENCE.items():
        for kind, evidence in kinds.items():
            channel = venue.OFFERS[market].get(kind)
            copies = way_of(venue, market, kind).name if channel is not None else None
            history = reach_said(past.get(market, {}).get(kind))
            files = published(venue.NAME, market, kind) or None
            found.append(Cell(venue.NAME, market, kind, channel, copies, history, files, evidence, as_of, of[market]))
    return found
