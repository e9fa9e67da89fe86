"""How adapters ask a venue for the newest of a symbol: routes by market and kind, and how an answer is read. Pure.

A venue's module makes one `Probes` of its routes; its `probe` and `probed` are the module's own
(`market.probing.Probing`). Of kinds without a route of their own the symbol's trades tell, where those move them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from collectors.adapters.asking import Failed, NoData
from collectors.adapters.reading import BAD_FRAME, EARLIEST, LAST
from market import times
from market.probing import Newest
from market.session import EVERY_SYMBOL, Connection, Fetch, Stream

TRADE = "trade"
MOVED = frozenset({TRADE, "agg_trade", "quote", "book_delta"})
"""Kinds whose silence the newest trade of their symbol speaks of."""
Read = Callable[[bytes, str], Newest]
"""(body, kind of the stream) -> the newest. Raises BAD_FRAME, NoData, Failed."""


class Route(msgspec.Struct, frozen=True):
    """`path` with `{symbol}` in it, query included; `weight` is what the venue's budget pays."""

    path: str
    weight: int
    read: Read


class Probes:
    """The routes of one venue: market -> kind -> route. Where a kind of MOVED has none it is that of trades. `spelt`
    makes of a symbol what the route calls it.
    """

    def __init__(self, routes: Mapping[str, Mapping[str, Route]], spelt: Callable[[str], str] = str) -> None:
        self._routes = routes
        self._spelt = spelt

    def probe(self, connection: Connection, stream: Stream) -> Fetch | None:
        """What to ask about a stream; None without an address, of whole markets, and where no route tells of a kind."""
        route = self._route(connection, stream)
        if route is None or not connection.rest or stream.symbol == EVERY_SYMBOL:
            return None
        path = route.path.format(symbol=quote(self._spelt(stream.symbol), safe=""), market=connection.market_type)
        return Fetch(f"newest {stream.name}", "GET", connection.rest.rstrip("/") + path, route.weight)

    def probed(self, connection: Connection, stream: Stream, status: int, body: bytes) -> Newest | str:
        """What the answer says, or why it says nothing."""
        route = self._route(connection, stream)
        if status != 200 or route is None:
            return f"status {status}" if status else "no answer"
        try:
            return route.read(body, stream.kind)
        except NoData as error:
            return str(error)
        except Failed as error:
            return error.failure.reason
        except BAD_FRAME:
            return "status 200 without the newest trade"

    def _route(self, connection: Connection, stream: Stream) -> Route | None:
        routes = self._routes.get(connection.market_type, {})
        return routes.get(stream.kind) or (routes.get(TRADE) if stream.kind in MOVED else None)


NONE = Newest(0, None, "REST: no trade at all")


def newest(time: int | None, name: object, seq: int | None = None) -> Newest:
    """A trade of an answer, `time` in us. Raises NoData for a time that is none."""
    if time is None or not EARLIEST <= time < LAST:
        raise NoData("impossible time")
    return Newest(time, seq, f"REST: trade {name} of {times.text(time)}"[:200])


def best(bid: str, bid_qty: str, ask: str, ask_qty: str) -> Newest:
    """The best prices of an answer, in the venue's own digits."""
    state = f"{bid} x {bid_qty} / {ask} x {ask_qty}"[:100]
    return Newest(0, None, f"REST: {state}", state)
