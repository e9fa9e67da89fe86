"""What KuCoin's classic API puts on the wire: strict payload structs, its numbers and times, and the words of topics.

Spot writes prices and quantities as texts, futures quantities as numbers, some in scientific notation. Times are ms, ns
or s, some as text. Source: the venue's pages, as SOURCES.md beside the fixtures of the conformance suite names them.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

import msgspec

from collectors.adapters.reading import Id, Millis
from market.numbers import is_decimal

SIDES = frozenset({"buy", "sell"})
"""Of a trade: the taker's."""
INTERVALS = {
    "1min": "1m", "3min": "3m", "5min": "5m", "15min": "15m", "30min": "30m", "1hour": "1h", "2hour": "2h",
    "4hour": "4h", "6hour": "6h", "8hour": "8h", "12hour": "12h", "1day": "1d", "1week": "1w",
}  # fmt: skip
"""The venue's spelling -> ours."""
SECONDS = {
    "1min": 60, "3min": 180, "5min": 300, "15min": 900, "30min": 1800, "1hour": 3600, "2hour": 7200, "4hour": 14400,
    "6hour": 21600, "8hour": 28800, "12hour": 43200, "1day": 86400, "1week": 604800,
}  # fmt: skip
WELCOME, ACK, PONG, ERROR, MESSAGE = "welcome", "ack", "pong", "error", "message"
NOTHING = msgspec.Raw(b"null")
Nanos = Annotated[int, msgspec.Meta(ge=0, lt=4_102_444_800_000_000_000)]
_FIGURE = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII).fullmatch
_SCALED = re.compile(r"[eE]").search


def figure(raw: msgspec.Raw | str) -> str | None:
    """The text of a number that the venue writes as a number or as text; None for what is none.

    Scientific notation is written out, so that the value stays what it was: of a number that a table can hold.
    """
    text = raw if isinstance(raw, str) else bytes(raw).decode("ascii", "replace").strip('"')
    if _FIGURE(text) is None:
        return None
    text = text if _SCALED(text) is None else format(Decimal(text), "f")
    return text if is_decimal(text) else None


def amount(raw: msgspec.Raw | str) -> str | None:
    """As `figure`, and not below zero."""
    text = figure(raw)
    return None if text is None or text.startswith("-") else text


def plain(raw: msgspec.Raw) -> str | None:
    """As `amount`, without zeros behind the point: a number has no spelling, and the streams' texts have none."""
    text = amount(raw)
    return text if text is None or "." not in text else text.rstrip("0").rstrip(".")


def nanos(text: str) -> int:
    """A time in ns as text, in us; 0 for what is none."""
    return int(text) // 1000 if text.isascii() and text.isdigit() and len(text) <= 19 else 0


class Head(msgspec.Struct, gc=False):
    """What tells one frame from another."""

    type: str | None = None
    topic: str | None = None
    id: str | None = None
    code: int | None = None
    data: msgspec.Raw = NOTHING


class MatchData(msgspec.Struct, gc=False):
    """A fill on spot. `tradeId` ascends and does not follow by one; it was 24 hex digits before 2023."""

    symbol: str
    price: str
    size: str
    side: str
    tradeId: str  # noqa: N815 -- the venue's spelling
    time: str


class Match(msgspec.Struct, gc=False):
    """`/market/match:<s>`."""

    topic: str
    data: MatchData


class ExecutionData(msgspec.Struct, gc=False):
    """A fill on futures: `size` in lots, `ts` in ns."""

    symbol: str
    price: msgspec.Raw
    size: msgspec.Raw
    side: str
    tradeId: str  # noqa: N815
    ts: Nanos


class Execution(msgspec.Struct, gc=False):
    """`/contractMarket/execution:<s>`."""

    topic: str
    data: ExecutionData


class Changes(msgspec.Struct, gc=False):
    """[price, absolute size, sequence] a level; one with price 0 only moves the sequence on."""

    asks: list[tuple[str, str, str]]
    bids: list[tuple[str, str, str]]


class Level2Data(msgspec.Struct, gc=False):
    """A change of a spot book; without a time before 2022."""

    symbol: str
    changes: Changes
    sequenceStart: Id  # noqa: N815
    sequenceEnd: Id  # noqa: N815
    time: Millis | None = None


class Level2(msgspec.Struct, gc=False):
    """`/market/level2:<s>`."""

    topic: str
    data: Level2Data


class ChangeData(msgspec.Struct, gc=False):
    """A change of a futures book: one level, "price,side,size"."""

    sequence: Id
    change: str
    timestamp: Millis


class Change(msgspec.Struct, gc=False):
    """`/contractMarket/level2:<s>`; the topic alone names the symbol."""

    topic: str
    data: ChangeData


class Level1Data(msgspec.Struct, gc=False):
    """One flat [price, size] a side; a side that is empty has none."""

    asks: list[str]
    bids: list[str]
    timestamp: Millis


class Level1(msgspec.Struct, gc=False):
    """`/spotMarket/level1:<s>`; the topic alone names the symbol, and nothing numbers it."""

    topic: str
    data: Level1Data


class SpotTickerData(msgspec.Struct, gc=False):
    """The best levels of spot, ten times a second. `Time` was `time` before 2024."""

    sequence: str
    bestBid: str  # noqa: N815
    bestBidSize: str  # noqa: N815
    bestAsk: str  # noqa: N815
    bestAskSize: str  # noqa: N815
    Time: Millis | None = None
    time: Millis | None = None


class SpotTicker(msgspec.Struct, gc=False):
    """`/market/ticker:<s>`; the topic alone names the symbol."""

    topic: str
    data: SpotTickerData


class TickerData(msgspec.Struct, gc=False):
    """The best levels of a contract, `ts` in ns."""

    symbol: str
    sequence: Id
    bestBidPrice: msgspec.Raw  # noqa: N815
    bestBidSize: msgspec.Raw  # noqa: N815
    bestAskPrice: msgspec.Raw  # noqa: N815
    bestAskSize: msgspec.Raw  # noqa: N815
    ts: Nanos


class Ticker(msgspec.Struct, gc=False):
    """`/contractMarket/tickerV2:<s>`."""

    topic: str
    data: TickerData


class InstrumentData(msgspec.Struct, gc=False):
    """Either subject's data. `granularity` in ms: of a rate a minute where it is the estimate."""

    timestamp: Millis
    granularity: int = 0
    markPrice: msgspec.Raw = NOTHING  # noqa: N815
    indexPrice: msgspec.Raw = NOTHING  # noqa: N815
    fundingRate: msgspec.Raw = NOTHING  # noqa: N815


class Instrument(msgspec.Struct, gc=False):
    """`/contract/instrument:<s>`: subject `mark.index.price` or `funding.rate`."""

    topic: str
    subject: str
    data: InstrumentData


class CandleData(msgspec.Struct, gc=False):
    """[start (s), open, close, high, low, volume, turnover] so far; nothing says that it is closed. `time` in ns."""

    symbol: str
    candles: list[str]
    time: Nanos


class Candle(msgspec.Struct, gc=False):
    """`/market/candles:<s>_<interval>`."""

    topic: str
    data: CandleData


head = msgspec.json.Decoder(Head).decode
match = msgspec.json.Decoder(Match).decode
execution = msgspec.json.Decoder(Execution).decode
level2 = msgspec.json.Decoder(Level2).decode
change = msgspec.json.Decoder(Change).decode
level1 = msgspec.json.Decoder(Level1).decode
spot_ticker = msgspec.json.Decoder(SpotTicker).decode
ticker = msgspec.json.Decoder(Ticker).decode
instrument = msgspec.json.Decoder(Instrument).decode
candle = msgspec.json.Decoder(Candle).decode
