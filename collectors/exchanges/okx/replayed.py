"""Frames of OKX for a replay: an argument of channel and instrument, and tardis.dev's names of its markets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from market.replayed import Filter, part, wanted


class _Of(msgspec.Struct):
    channel: str
    instId: str = ""  # noqa: N815 - the venue's name


class _Row(msgspec.Struct):
    instId: str = ""  # noqa: N815 - the venue's name


class _Pushed(msgspec.Struct):
    arg: _Of
    data: list[_Row | list[msgspec.Raw]]


_DECODER = msgspec.json.Decoder(_Pushed)


def named(market_type: str, symbol: str) -> str:
    if market_type == "spot":
        return "okex"
    return "okex-swap" if symbol.endswith("-SWAP") else "okex-futures"


def subscribed(request: object) -> Sequence[Filter]:
    """`{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`; an instType asks for all of them."""
    args = part(request, "args")
    if part(request, "op") != "subscribe" or not isinstance(args, list):
        return ()
    made = []
    for one in args:
        symbol = part(one, "instId")
        made.append(wanted(str(part(one, "channel") or ""), () if symbol is None else (symbol,)))
    return made


def addressed(frame: bytes) -> tuple[str, str] | None:
    try:
        pushed = _DECODER.decode(frame)
    except msgspec.MsgspecError:
        return None
    symbols = {pushed.arg.instId} if pushed.arg.instId else {r.instId for r in pushed.data if isinstance(r, _Row)}
    return pushed.arg.channel, symbols.pop() if len(symbols) == 1 else ""
