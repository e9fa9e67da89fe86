"""Kraken spot's pairs as contract events: told by the instrument channel, listed by REST `AssetPairs`. Pure.

REST spells BTC as XBT and DOGE as XDG; the names of our rows are those of WebSocket v2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from collectors.adapters.answers import Failure
from collectors.adapters.reading import BAD_FRAME
from collectors.adapters.reference import At, Page, ReferenceSession
from collectors.exchanges.kraken import texts, wire
from collectors.exchanges.kraken.asking import failure, opened
from collectors.exchanges.kraken.protocol import KrakenSession
from market import instruments
from market.kinds import Contract
from market.numbers import is_decimal, unscale
from market.session import Polled, StreamState

ROUTE = "AssetPairs"
PATH = "/0/public/AssetPairs"
_RENAMED = {"XBT": "BTC", "XDG": "DOGE"}
_ALTERNATIVE = {ours: theirs for theirs, ours in _RENAMED.items()}
LENGTH = 64


class _Listed(msgspec.Struct):
    wsname: str
    status: str
    pair_decimals: int
    lot_decimals: int
    tick_size: str | None = None


class _Name(msgspec.Struct):
    wsname: str


class _Streamed(msgspec.Struct):
    wsname: str | None = None


_listed = msgspec.json.Decoder(_Listed).decode
_name = msgspec.json.Decoder(_Name).decode
_streamed = msgspec.json.Decoder(_Streamed).decode
_rows = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def symbol_of(wsname: str) -> str:
    """The name that WebSocket v2 gives a pair that REST calls `wsname`: `XBT/USD` is `BTC/USD`."""
    base, slash, quote = wsname.partition("/")
    return f"{_RENAMED.get(base, base)}{slash}{_RENAMED.get(quote, quote)}"


def alternative(symbol: str) -> str:
    """What REST calls a pair: `BTC/USD` is `XBTUSD`."""
    base, _, quote = symbol.partition("/")
    return f"{_ALTERNATIVE.get(base, base)}{_ALTERNATIVE.get(quote, quote)}"


def _contract(
    symbol: str, stream: str, at: At, session: str, source: str, status: str, tick: str | None, lot: str | None
) -> Contract | str:
    """The row of a pair, or why it is none."""
    base, slash, quote = symbol.partition("/")
    if not (base and slash and quote and status) or len(symbol) > LENGTH:
        return "no pair of two currencies, or no status"
    return Contract(
        symbol, stream, at.time, None, at.ts_recv, session, at.frame_no, at.item, source, uid=f"kraken:spot:{symbol}",
        unified=instruments.unified(base, quote), base=base, quote=quote, settle=None, tick=tick, lot=lot,
        multiplier=instruments.MARKET_SIZING["spot"].multiplier, contract_size=None, status=status, listed=None,
        expiry=None, funding_interval_s=None, valid_from=None, valid_to=None, known_from=at.ts_recv, known_to=None,
    )  # fmt: skip


def told(
    session: KrakenSession, state: StreamState, pair: wire.Pair, ts_recv: int, number: int, place: int
) -> Contract | None:
    """The contract of a pair that the connection carries (of any, where it carries none); its precisions are kept."""
    if session.wanted and pair.symbol not in session.wanted:
        return None
    session.precisions[pair.symbol] = (pair.price_precision, pair.qty_precision)
    tick, lot = texts.number(pair.price_increment), texts.number(pair.qty_increment)
    time = min(session.as_of(ts_recv), ts_recv)
    made = _contract(
        pair.symbol, state.stream.name, At(time, ts_recv, number, place), session.session_id, "ws", pair.status, tick,
        lot,
    )  # fmt: skip
    return None if isinstance(made, str) else made


class KrakenReference(ReferenceSession):
    """The pairs of the venue: one page."""

    route = ROUTE

    def __init__(self, session_id: str, symbols: Sequence[str], polled: Polled, rest: str) -> None:
        self._url = f"{rest.rstrip('/')}{PATH}"
        super().__init__(session_id, symbols, every=polled.every, known=polled.known)

    def _ask(self, cursor: str) -> tuple[str, int]:
        del cursor
        return self._url, 1

    def _page(self, body: bytes) -> Page:
        return Page([raw for raw in _rows(opened(body, 0)).values() if self._is_streamed(raw)], None)

    @staticmethod
    def _is_streamed(raw: msgspec.Raw) -> bool:
        """Whether a pair has a name in the stream: those of the dark pool have none."""
        try:
            return _streamed(raw).wsname is not None
        except BAD_FRAME:
            return True  # to be rejected as what it is

    def _name(self, raw: msgspec.Raw) -> str:
        return symbol_of(_name(raw).wsname)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del body, now
        return failure(status, headers)

    def _contract(self, raw: msgspec.Raw, at: At) -> Contract | str:
        found = _listed(raw)
        if not (0 <= found.pair_decimals <= texts.PLACES and 0 <= found.lot_decimals <= texts.PLACES):
            return "impossible decimals"
        tick = found.tick_size if found.tick_size and is_decimal(found.tick_size) else unscale(1, found.pair_decimals)
        lot = unscale(1, found.lot_decimals)
        return _contract(symbol_of(found.wsname), ROUTE, at, self.session_id, "rest", found.status, tick, lot)
