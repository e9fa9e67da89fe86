"""Venues: which there are, what they offer of each kind, and which symbols a lake or the venue itself knows."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

import polars as pl
from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api import models
from api.answers import json_answer
from api.errors import Refused, not_found
from api.questions import TheMarket
from api.state import Served, State
from collectors import exchanges as registry
from collectors import venues as known
from collectors.budget import Budget
from collectors.ccxt import library
from collectors.instruments import instruments
from collectors.reaching import ask
from market.errors import MarketError
from market.history import Offer
from market.session import Exchange

router = APIRouter(prefix="/ingest", tags=["venues"])
Venue = Annotated[str, Path(max_length=60, description="As the list of venues has it.", examples=["binance"])]


@router.get("/exchanges", response_model=models.Exchanges, summary="Venues")
async def exchanges(served: State) -> Response:
    """Venues with an adapter of their own, and those that ccxt streams from (`ccxt:<id>`, with weaker guarantees)."""
    others = await served.reading.ask(library.ids)
    held = [{"id": name, "guarantees": "full"} for name in registry.names()]
    held += [{"id": f"ccxt:{name}", "guarantees": "weaker (ccxt)"} for name in others]
    return json_answer({"exchanges": held})


@router.get("/exchanges/{exchange}/markets", response_model=models.Markets, summary="The markets of a venue")
async def markets(served: State, exchange: Venue) -> Response:
    """The markets of a venue, and the kinds that each has: what is streamed, and what can be asked of the past."""
    venue = await served.reading.ask(lambda: _venue(exchange))
    past = getattr(venue, "HISTORY", {})
    held = [
        {
            "market": market,
            "kinds": sorted(kind for kind, evidence in kinds.items() if evidence.basis != "absent"),
            "history": sorted(kind for kind, offer in past.get(market, {}).items() if isinstance(offer, Offer)),
        }
        for market, kinds in venue.EVIDENCE.items()
    ]
    return json_answer({"exchange": venue.NAME, "markets": held})


@router.get("/exchanges/{exchange}/symbols", response_model=models.Symbols, summary="The symbols of a market")
async def symbols(
    served: State,
    exchange: Venue,
    market_type: TheMarket,
    source: Annotated[
        Literal["lake", "venue"], Query(description="Whom to ask: what the lake holds, or the venue itself, now.")
    ] = "lake",
) -> Response:
    """Symbols of one market (spot if nothing is said), from the lake, or from the venue over the network.

    `failed` says why a venue did not tell all of them.
    """
    venue = await served.reading.ask(lambda: _venue(exchange))
    chosen = market_type or "spot"
    if chosen not in venue.EVIDENCE:
        raise not_found(f"{exchange} has no market {chosen!r}; it has {', '.join(venue.EVIDENCE)}")
    if source == "lake":
        found, failed = await served.reading.read(lambda: _held(served, venue.NAME, chosen)), ""
    else:
        found, failed = await _told(served, venue, chosen)
    return json_answer(
        {"exchange": venue.NAME, "market": chosen, "source": source, "symbols": found, "failed": failed or None}
    )


def _venue(name: str) -> Exchange:
    """Raises Refused."""
    try:
        return known.load(name.lower())
    except MarketError as error:
        raise not_found(str(error)) from error


_FIELDS = ("symbol", "unified", "status", "tick", "lot")


def _held(served: Served, exchange: str, market: str) -> list[dict[str, Any]]:
    """Instruments as the lake last knew them, and symbols that it has rows of without."""
    table = served.lake.read("contract", exchange=exchange, market_type=market, across_listings=True)
    newest = pl.DataFrame(table).sort("known_from").unique("symbol", keep="last").select(_FIELDS)
    found = {row["symbol"]: row for row in newest.with_columns(pl.col("tick", "lot").cast(pl.String)).to_dicts()}
    for one in served.lake.datasets(exchange=exchange, market_type=market):
        if one.symbol is not None:
            found.setdefault(one.symbol, {**dict.fromkeys(_FIELDS), "symbol": one.symbol})
    return [found[symbol] for symbol in sorted(found)]


async def _told(served: Served, venue: Exchange, market: str) -> tuple[list[dict[str, Any]], str]:
    """Instruments as the venue lists them now, and why there are no more."""
    if "contract" not in venue.POLLS.get(market, {}):
        raise Refused(409, f"{venue.NAME} does not list the instruments of {market}", "NotOffered")
    async with AsyncExitStack() as stack:
        http = await ask(venue, market, served.clock, Budget(served.clock), stack)
        listed, reason = await instruments(venue, market, served.endpoint(venue, market), http, served.clock.now())
    return [{name: getattr(one, name) for name in _FIELDS} for one in sorted(listed, key=lambda c: c.symbol)], reason
