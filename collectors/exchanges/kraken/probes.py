"""How Kraken is asked for the newest trade of a pair or contract (`market.probing`). Pure.

Spot gives the newest thousand where `since` is not said; what `count` then means is not documented, so it is left out.
Futures have no number of the stream's: times are compared. Fills that are no `fill` are forced, and move books too.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.probing import NONE, TRADE, Probes, Route, newest
from collectors.adapters.reading import LAST
from collectors.exchanges.kraken import texts
from collectors.exchanges.kraken.asking import opened
from collectors.exchanges.kraken.instruments import alternative
from market.probing import Newest
from market.session import Connection, Fetch, Stream
from market.times import SECOND

_pairs = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_rows = msgspec.json.Decoder(
    list[tuple[str, str, Annotated[float, msgspec.Meta(ge=0, le=LAST // SECOND)], str, str, str, int]]
).decode


class _Fill(msgspec.Struct):
    time: str
    trade_id: Any = None
    uid: str = ""


class _History(msgspec.Struct):
    history: list[_Fill]


_history = msgspec.json.Decoder(_History).decode


def _spot(body: bytes, kind: str) -> Newest:
    del kind
    found = [raw for name, raw in _pairs(opened(body, 0)).items() if name != "last"]
    if len(found) != 1:
        raise NoData("no answer about one pair")
    rows = _rows(found[0])
    if not rows:
        return NONE
    last = max(rows, key=lambda row: row[6])
    return newest(round(last[2] * SECOND), last[6], last[6])


def _futures(body: bytes, kind: str) -> Newest:
    del kind
    found = [(at, one) for one in _history(body).history if (at := texts.time(one.time)) is not None]
    if not found:
        return NONE
    at, last = max(found, key=lambda pair: pair[0])
    return newest(at, last.uid or last.trade_id)


_FUTURES = Route("/derivatives/api/v3/history?symbol={symbol}", 1, _futures)
_PAIRS = Probes({"spot": {TRADE: Route("/0/public/Trades?pair={symbol}", 1, _spot)}}, alternative)
_CONTRACTS = Probes({"linear": {TRADE: _FUTURES}, "inverse": {TRADE: _FUTURES}})


def probe(connection: Connection, stream: Stream) -> Fetch | None:
    """What to ask about a stream (`market.probing.Probing`)."""
    return _of(connection).probe(connection, stream)


def probed(connection: Connection, stream: Stream, status: int, body: bytes) -> Newest | str:
    """What the answer says, or why it says nothing."""
    return _of(connection).probed(connection, stream, status, body)


def _of(connection: Connection) -> Probes:
    return _PAIRS if connection.market_type == "spot" else _CONTRACTS
