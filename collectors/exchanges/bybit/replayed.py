"""Frames of Bybit for a replay: topics `<channel>[.<depth>].<symbol>`, and tardis.dev's names of its markets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from market.replayed import Filter, part, texts, wanted


class _Topic(msgspec.Struct):
    topic: str


_DECODER = msgspec.json.Decoder(_Topic)


def named(market_type: str, _symbol: str) -> str:
    return "bybit-spot" if market_type == "spot" else "bybit"


def subscribed(request: object) -> Sequence[Filter]:
    """`{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}`."""
    if part(request, "op") != "subscribe":
        return ()
    cut = [topic.rpartition(".") for topic in texts(part(request, "args"))]
    return [wanted(channel, (symbol,)) for channel, _, symbol in cut]


def addressed(frame: bytes) -> tuple[str, str] | None:
    try:
        channel, _, symbol = _DECODER.decode(frame).topic.rpartition(".")
    except msgspec.MsgspecError:
        return None
    return channel, symbol
