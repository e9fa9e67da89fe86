"""Frames of KuCoin for a replay: topics `/<channel>:<symbol>`, and tardis.dev's names of its markets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from market.replayed import Filter, part, texts, wanted


class _Topic(msgspec.Struct):
    topic: str
    type: str


_DECODER = msgspec.json.Decoder(_Topic)


def named(market_type: str, _symbol: str) -> str:
    return "kucoin" if market_type == "spot" else "kucoin-futures"


def subscribed(request: object) -> Sequence[Filter]:
    """`{"type":"subscribe","topic":"/market/match:BTC-USDT,ETH-USDT"}`."""
    if part(request, "type") != "subscribe":
        return ()
    cut = [topic.removeprefix("/").partition(":") for topic in texts(part(request, "topic"))]
    return [wanted(channel, symbols.split(",") if symbols else ()) for channel, _, symbols in cut]


def addressed(frame: bytes) -> tuple[str, str] | None:
    try:
        held = _DECODER.decode(frame)
    except msgspec.MsgspecError:
        return None
    channel, _, symbol = held.topic.removeprefix("/").partition(":")
    return (channel, symbol) if held.type == "message" else None
