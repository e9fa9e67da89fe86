"""Frames of Coinbase for a replay, of both its feeds, and tardis.dev's name of it. Pure.

Advanced Trade says `channel` and tells products in its events; the Exchange feed says `type` and `product_id`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from market.replayed import Filter, part, texts, wanted

_FEEDS = {
    "level2": ("l2_data", "snapshot", "l2update"), "level2_batch": ("snapshot", "l2update"),
    "level2_50": ("snapshot", "l2update"),
    "matches": ("match", "last_match"),
}  # fmt: skip
"""What a channel is called in the frames, where that is not its name."""
_NO_DATA = frozenset({"subscriptions", "heartbeats", "heartbeat", "error"})


class _Product(msgspec.Struct):
    product_id: str = ""


class _Event(msgspec.Struct):
    product_id: str = ""
    trades: list[_Product] = []
    tickers: list[_Product] = []
    candles: list[_Product] = []


class _Frame(msgspec.Struct):
    channel: str = ""
    type: str = ""
    product_id: str = ""
    events: list[_Event] = []


_DECODER = msgspec.json.Decoder(_Frame)


def named(market_type: str, _symbol: str) -> str:
    return "coinbase" if market_type == "spot" else "coinbase-international"


def subscribed(request: object) -> Sequence[Filter]:
    """`{"type":"subscribe","channel":"level2","product_ids":[…]}`, or `channels` of names or of names with products."""
    if part(request, "type") != "subscribe" or not isinstance(request, dict):
        return ()
    channels = request.get("channels", request.get("channel"))
    made = []
    for one in channels if isinstance(channels, list) else [channels]:
        name = one if isinstance(one, str) else str(part(one, "name") or "")
        products = texts(part(one, "product_ids") or request.get("product_ids") or [])
        made += [wanted(channel, products) for channel in _FEEDS.get(name, (name,))]
    return made


def addressed(frame: bytes) -> tuple[str, str] | None:
    try:
        held = _DECODER.decode(frame)
    except msgspec.MsgspecError:
        return None
    if (held.channel or held.type) in _NO_DATA:
        return None
    if not held.channel:
        return (held.type, held.product_id) if held.product_id else None
    products = {event.product_id for event in held.events}
    products |= {one.product_id for event in held.events for one in (*event.trades, *event.tickers, *event.candles)}
    products.discard("")
    return held.channel, products.pop() if len(products) == 1 else ""
