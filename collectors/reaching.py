"""Reaching a market: what connects to it and what asks its routes, by the lake's own transports or by ccxt."""

from __future__ import annotations

from contextlib import AsyncExitStack

from collectors import transports, venues
from collectors.budget import Budget
from collectors.ccxt.carrier import Carrier
from collectors.config import ConnectionConfig
from collectors.http import Fetching, Http
from collectors.transports import Connect
from market.session import Exchange
from runtime.clock import Clock


async def reach(
    exchange: Exchange, market_type: str, config: ConnectionConfig, clock: Clock, budget: Budget, stack: AsyncExitStack
) -> tuple[Connect, Fetching]:
    """What connects to a market and what asks its routes, until `stack` is closed."""
    client = await ask(exchange, market_type, clock, budget, stack)
    if isinstance(client, Carrier):
        return client.connect, client
    return transports.load_or_reference(config.transport, config.compression), client


async def ask(exchange: Exchange, market_type: str, clock: Clock, budget: Budget, stack: AsyncExitStack) -> Fetching:
    """What asks the routes of a market, until `stack` is closed."""
    if (venue := venues.by_ccxt(exchange)) is not None:
        return await stack.enter_async_context(Carrier(venue.ccxt_id, market_type, clock))
    client = Http(clock, exchange.NAME, market_type, limits=exchange.LIMITS[market_type], budget=budget)
    return await stack.enter_async_context(client)
