"""One venue by ccxt, as the rest of the collectors sees it: a `market.session.Exchange` made of tables. Pure.

Addresses are `ccxt://<id>/<market>`; those that a configuration gives in place of the venue's own follow as `rest` and
`ws`, so that a frame's session says where it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import quote

import msgspec

from collectors.adapters.offering import Offering
from collectors.adapters.reference import DELISTED
from collectors.ccxt import history, library, polls, tables
from collectors.ccxt.session import CcxtSession
from collectors.ccxt.tables import Channel
from market.errors import Malformed
from market.history import Absent, Offer
from market.session import Connection, Endpoint, Evidence, Limits, Poll, Polled, Session, Stream

SPELLED = "ccxt:"
"""How a configuration names such a venue: this and ccxt's id."""
PREFIX = "ccxt-"
"""How columns and paths do."""
SCHEME = "ccxt"
_WS = "ccxt"
"""The name of the one address of a market."""


class CcxtVenue:
    """The venue with ccxt's `id`."""

    PUSHES = ("trade",)
    CASED = True
    TRADING = frozenset({"active", "unknown"})
    ENDED = frozenset({DELISTED})
    POLLS: Mapping[str, Mapping[str, Poll]] = tables.POLLS
    EVIDENCE: Mapping[str, Mapping[str, Evidence]] = tables.EVIDENCE
    BY_NEXT = dict.fromkeys(tables.EVIDENCE, frozenset({"kline"}))
    LED = dict.fromkeys(tables.EVIDENCE, frozenset({"quote"}))
    PARSERS: Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]] = {}
    """What a frame holds is of our own making, whatever the venue changes."""

    def __init__(self, ccxt_id: str) -> None:
        self.ccxt_id = ccxt_id
        self.NAME = PREFIX + ccxt_id
        self.LIMITS: Mapping[str, Limits] = tables.limits(self.NAME)
        own = {market: f"{SCHEME}://{ccxt_id}/{market}" for market in tables.MARKETS}
        self.ENDPOINTS: Mapping[str, Endpoint] = {
            market: Endpoint(rest=url, ws={_WS: url}) for market, url in own.items()
        }
        self._offering: Offering[Channel] = Offering(
            self.NAME, _WS, tables.CHANNELS, tables.POLLS, self.LIMITS, tables.EVIDENCE, upper=False
        )
        self.OFFERS: Mapping[str, Mapping[str, str]] = self._offering.offers

    @property
    def HISTORY(self) -> Mapping[str, Mapping[str, Offer | Absent]]:  # noqa: N802 -- as the modules of venues name it
        """What of the past the venue gives by ccxt, which is imported for it."""
        return history.offered(partial(library.has, self.ccxt_id))

    def streams(
        self, market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
    ) -> list[Stream]:
        """One stream a kind and symbol. Raises Malformed for what ccxt cannot give."""
        return self._offering.streams(market_type, kinds, symbols, channels)

    def connections(self, market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
        """What carries `streams`; ccxt opens sockets of its own below it."""
        placed = Endpoint(rest=endpoint.rest, ws={_WS: self.address(market_type, endpoint)})
        return self._offering.connections(market_type, streams, placed)

    def session(self, connection: Connection, session_id: str, learn: bool = False) -> Session:
        market = self._offering.known(connection.market_type)
        return CcxtSession(connection, session_id, self.LIMITS[market], learn=learn)

    def poller(self, market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
        """A session that only fetches: instruments, open interest, settled rates, history. Raises Malformed."""
        market = self._offering.known(market_type)
        base = self.address(market, endpoint)
        if polled.span is not None:
            return history.session(market, session_id, polled, base)
        if polled.kind == "contract":
            return polls.MarketsPoll(market, session_id, polled.symbols, polled, base)
        made = polls.MEMBERS.get(polled.kind)
        if made is None or polled.kind not in tables.POLLS[market]:
            raise Malformed(f"kind that {self.NAME} {market} can be polled for", polled.kind)
        return made(session_id, msgspec.structs.replace(polled), base)

    def address(self, market_type: str, endpoint: Endpoint) -> str:
        """The address of a market with what the configuration gives in place of the venue's own addresses."""
        given = {
            "rest": _other(endpoint.rest),
            "ws": _other(endpoint.ws.get(_WS, "")).removesuffix(f"/{market_type}"),  # which our own address ends with
        }
        said = "&".join(f"{name}={quote(base, safe='')}" for name, base in given.items() if base)
        return f"{self.ENDPOINTS[market_type].rest}?{said}" if said else endpoint.rest


def _other(url: str) -> str:
    """An address that is the configuration's, "" of our own."""
    return "" if url.startswith(f"{SCHEME}:") else url.rstrip("/")
