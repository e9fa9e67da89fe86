"""Frames of Binance for a replay: combined streams `<symbol>@<channel>`, and tardis.dev's names of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from market.replayed import Filter, part, texts, wanted

_NAMES = {"spot": "binance", "linear": "binance-futures", "inverse": "binance-delivery"}


class _Combined(msgspec.Struct):
    stream: str


_DECODER = msgspec.json.Decoder(_Combined)


def named(market_type: str, _symbol: str) -> str:
    return _NAMES.get(market_type, f"binance-{market_type}")


def subscribed(request: object) -> Sequence[Filter]:
    """`{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms"]}`: the speed does not tell streams apart."""
    if part(request, "method") != "SUBSCRIBE":
        return ()
    found = []
    for stream in texts(part(request, "params")):
        symbol, _, channel = stream.partition("@")
        found.append(wanted(channel.partition("@")[0], (symbol,) if not stream.startswith("!") else ()))
    return found


def addressed(frame: bytes) -> tuple[str, str] | None:
    try:
        stream = _DECODER.decode(frame).stream
    except msgspec.MsgspecError:
        return None
    symbol, _, channel = stream.partition("@")
    return (symbol[1:], "") if stream.startswith("!") else (channel, symbol)


def answered(url: str, body: bytes) -> tuple[str, str, bytes] | None:
    """(channel, symbol, message) of an answer that tells a whole book, in the form in which tardis.dev keeps those."""
    path, _, query = url.partition("?")
    symbol = dict(pair.partition("=")[::2] for pair in query.split("&")).get("symbol", "")
    if not path.endswith("/depth") or not symbol.isascii() or not symbol.replace("_", "").isalnum():
        return None
    stream = f"{symbol.lower()}@depthSnapshot"
    return "depthSnapshot", symbol, b'{"stream":"' + stream.encode() + b'","generated":true,"data":' + body + b"}"
