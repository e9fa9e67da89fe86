"""Frames of raw connections (`/ws/<stream>`): which stream a payload without an envelope belongs to.

The payload says it for trades, quotes, candles and forced orders. Of depth it does not say the speed, and on futures
not even whether it is a diff or a whole book; there only the connection's address can tell, and where it does not the
frame is counted and left alone.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from urllib.parse import unquote, urlsplit

from collectors.exchanges.binance.wire import Inner, Peek

_RAW = "/ws/"
_EVENTS = {"markPrice": "markPriceUpdate", "depth": "depthUpdate"}
_BOOK = "book"
"""Stands for the event of a payload that has none: the partial depth of spot."""


def names(url: str) -> dict[tuple[str, str], str]:
    """(event, symbol) -> stream, for the streams that a raw connection's address names and nothing else could be."""
    path = unquote(urlsplit(url).path)
    if _RAW not in path:
        return {}
    found: dict[tuple[str, str], list[str]] = {}
    for name in path.partition(_RAW)[2].split("/"):
        prefix, _, channel = name.partition("@")
        if not channel:
            continue
        base = channel.partition("@")[0]
        event = _EVENTS.get(base, base)
        if base.startswith("depth"):
            event = _EVENTS["depth"]
            if base != "depth":
                found.setdefault((_BOOK, ""), []).append(name)
        found.setdefault((event, prefix.upper()), []).append(name)
    return {key: held[0] for key, held in found.items() if len(held) == 1}


def name_of(found: Peek, raw: Mapping[tuple[str, str], str], channels: Container[str]) -> str | None:
    """The stream of a bare payload, None where it cannot be told or is of no channel that is collected."""
    if found.e is None:
        if found.lastUpdateId is not None:
            return raw.get((_BOOK, ""))
        return f"{found.s.lower()}@bookTicker" if found.u is not None and found.s else None
    symbol = found.s or (found.o.s if isinstance(found.o, Inner) else None)
    if found.e == "contractInfo":
        return "!contractInfo" if "!contractInfo" in channels else None
    if not symbol:
        return None
    named = raw.get((found.e, symbol))
    if named is not None:
        return named
    channel = f"kline_{found.k.i}" if found.e == "kline" and found.k is not None else found.e
    return f"{symbol.lower()}@{channel}" if channel in channels else None


def is_array(frame: bytes) -> bool:
    """Whether the payload of a combined-stream frame is a list."""
    return b'"data":[' in frame[:200]
