"""What no file of an archive holds of a request, and who can be asked for it instead."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from collectors import exchanges
from collectors.adapters.past import INTERVAL
from collectors.files.archive import planning
from collectors.files.archive.series import Series
from market.history import Absent, Offer
from market.times import Interval, text, union

CANDLE = "kline"


class Rest(msgspec.Struct, frozen=True):
    """A period [start, end) of one symbol that is in no file. `command` asks the venue's REST routes for it; where they
    give none, `why`.
    """

    symbol: str
    start: str
    end: str
    command: str = ""
    why: str = ""


def rest_of(of: Series, missing: Collection[str], asked: Interval, open_end: Interval) -> list[Rest]:
    """`missing` are dates of files within `asked`; `open_end` is what was asked for of days that are not over."""
    spans = [*planning.rest(of, missing, asked), open_end]
    return [_one(of, one) for one in union(one for one in spans if not one.empty)]


def asked_of(rest: Sequence[Rest]) -> list[str]:
    """Symbols for which the venue can be asked."""
    return list(dict.fromkeys(one.symbol for one in rest if one.command))


def _one(of: Series, span: Interval) -> Rest:
    start, end = text(span.start), text(span.end)
    given = getattr(exchanges.load(of.exchange), "HISTORY", {}).get(of.market_type, {}).get(of.kind)
    if isinstance(given, Absent):
        return Rest(of.symbol, start, end, why=given.why)
    if not isinstance(given, Offer):
        return Rest(of.symbol, start, end, why="no REST route of the venue gives it")
    if of.kind == CANDLE and of.interval != INTERVAL:
        why = f"REST is asked for candles of {INTERVAL} only (dl backfill), from which wider ones fold"
        return Rest(of.symbol, start, end, why=why)
    command = (
        f"dl backfill --exchange {of.exchange} --market {of.market_type} --symbol {of.symbol} --kind {of.kind}"
        f" --from {start} --to {end}"
    )
    return Rest(of.symbol, start, end, command)
