"""Questions in addresses: which parameters there are, what they mean, and the same ones everywhere."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from fastapi import Depends, Query
from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection

from api.formats import Format
from api.rows import Asked, named, time_of
from lake.errors import WrongQuestion
from lake.fills import Fill
from lake.reading import MinState

MAX_SYMBOLS = 500

Exchange: TypeAlias = Annotated[str | None, Query(max_length=40, description="Only this venue.", examples=["binance"])]
MarketType: TypeAlias = Annotated[
    str | None, Query(max_length=20, description="Only this market: spot, linear, inverse, …", examples=["spot"])
]
Market: TypeAlias = Annotated[
    str | None, Query(max_length=20, description="The same as `market_type`, as other lakes name it.")
]
Symbol: TypeAlias = Annotated[
    str | None, Query(max_length=100, description="Only this symbol, as the venue or ccxt spells it.",
                      examples=["BTCUSDT"])
]  # fmt: skip
Symbols: TypeAlias = Annotated[
    list[str] | None, Query(max_length=MAX_SYMBOLS, description="Only these symbols; may be given often.",
                            examples=[["BTCUSDT"]])
]  # fmt: skip
Start: TypeAlias = Annotated[
    str | None, Query(max_length=40, description="From this time on (UTC): ISO 8601, or microseconds.",
                      examples=["2026-11-20T13:00:00Z"])
]  # fmt: skip
End: TypeAlias = Annotated[
    str | None, Query(max_length=40, description="Before this time (UTC).", examples=["2026-11-20T14:00:00Z"])
]
Columns: TypeAlias = Annotated[
    str | None, Query(max_length=2000, description="Only these columns, parted by commas.",
                      examples=["symbol,ts_event"])
]  # fmt: skip
Fills: TypeAlias = Annotated[Fill, Query(description="Bars: windows without a trade as none, empty or previous.")]
States: TypeAlias = Annotated[
    MinState, Query(description="How sure rows must be: `final` reads closed days only, `verified` confirmed ones.")
]
Across: TypeAlias = Annotated[bool, Query(description="Whether two listings of one ticker may be joined.")]
Version: TypeAlias = Annotated[
    int | None, Query(ge=0, le=2**31, description="Of closed days this revision, in place of the current one.")
]
AsOf: TypeAlias = Annotated[
    str | None, Query(max_length=40, description="What the lake would have answered at that time.")
]
Limit: TypeAlias = Annotated[int | None, Query(ge=0, le=2**53, description="At most so many rows.")]
Offset: TypeAlias = Annotated[int, Query(ge=0, le=2**53, description="Leave so many out at the beginning.")]
Formats: TypeAlias = Annotated[
    Format, Query(alias="format", description="json holds at most `serve.max_rows` rows; the others are streamed.")
]
Kind: TypeAlias = Annotated[
    str | None, Query(max_length=40, description="Only this kind: trade, quote, bar_1m, …", examples=["trade"])
]
GapStates: TypeAlias = Literal["open", "repaired", "empty", "void", "unrepairable", "all"]


def lower(name: str | None) -> str | None:
    """Names of venues and markets have no capitals; how a question spells them does not matter."""
    return None if name is None or not name.strip() else name.strip().lower()


async def market_of(market_type: MarketType = None, market: Market = None) -> str | None:
    """The market that is asked for, by either name. Raises WrongQuestion where they name two."""
    first, second = lower(market_type), lower(market)
    if first and second and first != second:
        raise WrongQuestion(f"market_type={first} and market={second} are two markets", "give one of them")
    return first or second


TheMarket: TypeAlias = Annotated[str | None, Depends(market_of)]


def asked(
    market_type: TheMarket,
    exchange: Exchange = None,
    symbol: Symbols = None,
    start: Start = None,
    end: End = None,
    columns: Columns = None,
    fill: Fills = "none",
    min_state: States = "provisional",
    across_listings: Across = False,
    version: Version = None,
    as_of: AsOf = None,
    limit: Limit = None,
    offset: Offset = 0,
) -> Asked:
    """The question that the parameters of a read ask, but for the kind. Raises Malformed."""
    return Asked(
        exchange=lower(exchange), market_type=market_type, symbol=tuple(symbol or ()),
        start=time_of(start), end=time_of(end), columns=None if columns is None else named(columns), fill=fill,
        min_state=min_state, version=version, as_of=time_of(as_of), across_listings=across_listings, limit=limit,
        skip=offset,
    )  # fmt: skip


async def known(connection: HTTPConnection) -> None:
    """Raises WrongQuestion for a parameter that this address does not take: misspelt, it would ask for everything."""
    given = sorted(set(connection.query_params))
    if not given:
        return
    taken = sorted(_taken(connection.scope["route"].dependant))
    if wrong := next((name for name in given if name not in taken), None):
        hint = f"it takes {', '.join(taken)}" if taken else "it takes none"
        raise WrongQuestion(f"there is no parameter {wrong[:40]!r} at this address", hint)
    await once(connection)


async def once(connection: HTTPConnection) -> None:
    """Raises WrongQuestion for a parameter that is given twice and takes one value: which is meant is not known."""
    taken = _taken(connection.scope["route"].dependant)
    for name, count in Counter(name for name, _ in connection.query_params.multi_items()).items():
        if count > 1 and not taken.get(name, True):
            often = [each for each, many in sorted(taken.items()) if many]
            hint = f"of {', '.join(often)} there may be several" if often else "ask once for each"
            raise WrongQuestion(f"{name[:40]!r} is given {count} times, and takes one value", hint)


def _taken(dependant: Dependant) -> dict[str, bool]:
    """The parameters of an address, and whether each may be given often."""
    held = {field.alias: _often(field.field_info.annotation) for field in dependant.query_params}
    for more in dependant.dependencies:
        held |= _taken(more)
    return held


def _often(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(map(_often, get_args(annotation)))


Question: TypeAlias = Annotated[Asked, Depends(asked)]
