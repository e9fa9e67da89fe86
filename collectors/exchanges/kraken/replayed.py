"""Frames of Kraken for a replay: spot (v2) and futures, and tardis.dev's names of its markets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from market.replayed import Filter, part, texts, wanted

_NO_DATA = frozenset({"status", "heartbeat"})


class _Row(msgspec.Struct):
    symbol: str = ""


class _Frame(msgspec.Struct):
    channel: str = ""
    data: list[_Row] | dict[str, msgspec.Raw] = []
    feed: str = ""
    product_id: str = ""
    event: str = ""


_DECODER = msgspec.json.Decoder(_Frame)


def named(market_type: str, _symbol: str) -> str:
    return "kraken" if market_type == "spot" else "cryptofacilities"


def subscribed(request: object) -> Sequence[Filter]:
    """Spot: `{"method":"subscribe","params":{"channel":"trade","symbol":[…]}}`; futures: `{"event":"subscribe",
    "feed":"book","product_ids":[…]}`, which brings `book_snapshot` too.
    """
    if part(request, "method") == "subscribe":
        return [wanted(str(part(request, "params", "channel") or ""), texts(part(request, "params", "symbol") or []))]
    if part(request, "event") != "subscribe":
        return ()
    feed, products = str(part(request, "feed") or ""), texts(part(request, "product_ids") or [])
    return [wanted(feed, products), wanted(f"{feed}_snapshot", products)]


def addressed(frame: bytes) -> tuple[str, str] | None:
    try:
        held = _DECODER.decode(frame)
    except msgspec.MsgspecError:
        return None
    if held.feed and not held.event:
        return (held.feed, held.product_id) if held.feed not in _NO_DATA else None
    if not held.channel or held.channel in _NO_DATA:
        return None
    symbols = {row.symbol for row in held.data} if isinstance(held.data, list) else set()
    return held.channel, symbols.pop() if len(symbols) == 1 else ""
