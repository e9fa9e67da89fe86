"""Frames of Binance for a replay: combined streams `<symbol>@<channel>`, and tardis.dev's names of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.exchanges.binance.depth import TAG
from market.replayed import Answer, Filter, part, texts, wanted

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


_LIMITS = (5, 10, 20, 50, 100, 500, 1000, 5000)


class _Data(msgspec.Struct):
    bids: list[msgspec.Raw]
    asks: list[msgspec.Raw]


class _Snapshot(msgspec.Struct):
    data: msgspec.Raw


_SNAPSHOT = msgspec.json.Decoder(_Snapshot)
_DATA = msgspec.json.Decoder(_Data)


class Recorded:
    """The recorder's messages of one connection: whole books that it asked for are answers to a depth stream."""

    def __init__(self) -> None:
        self._streams: dict[str, str] = {}
        self._waiting: dict[str, bytes] = {}

    def read(self, message: bytes) -> Sequence[bytes | Answer]:
        head = message[:200]
        if b"@depth" not in head:
            return (message,)
        try:
            symbol, _, channel = _DECODER.decode(message).stream.partition("@")
            if channel == "depthSnapshot" and b'"generated":true' in head.replace(b" ", b""):
                stream = self._streams.get(symbol)
                if stream is not None:
                    return (_answer(symbol, stream, message),)
                before = self._waiting.pop(symbol, None)
                self._waiting[symbol] = message
                return () if before is None else (before,)
            self._streams[symbol] = f"{symbol}@{channel}"
            waited = self._waiting.pop(symbol, None)
            return (message,) if waited is None else (message, _answer(symbol, self._streams[symbol], waited))
        except msgspec.MsgspecError:
            return (message,)  # the session says what is wrong with it

    def rest(self) -> Sequence[bytes]:
        return tuple(self._waiting.values())


def _answer(symbol: str, stream: str, message: bytes) -> Answer:
    """The answer that a whole book was: a session knows it by the name of the stream by which it goes on."""
    body = bytes(_SNAPSHOT.decode(message).data)
    held = _DATA.decode(body)
    most = max(len(held.bids), len(held.asks))
    limit = next((one for one in _LIMITS if one >= most), _LIMITS[-1])
    return Answer(f"{TAG} {limit} {stream}", f"/depth?symbol={symbol.upper()}&limit={limit}", body)


def answered(url: str, body: bytes) -> tuple[str, str, bytes] | None:
    """(channel, symbol, message) of an answer that tells a whole book, in the form in which tardis.dev keeps those."""
    path, _, query = url.partition("?")
    symbol = dict(pair.partition("=")[::2] for pair in query.split("&")).get("symbol", "")
    if not path.endswith("/depth") or not symbol.isascii() or not symbol.replace("_", "").isalnum():
        return None
    stream = f"{symbol.lower()}@depthSnapshot"
    return "depthSnapshot", symbol, b'{"stream":"' + stream.encode() + b'","generated":true,"data":' + body + b"}"
