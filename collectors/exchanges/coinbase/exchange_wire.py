"""What Coinbase's older public feed, Exchange, puts on the wire: flat messages told apart by their `type`.

Our names of its channels begin with `exchange.`, since both feeds have a `ticker`. Nothing counts its messages:
`sequence` is that of the product's full feed, which takes a key. Trades have ids that follow by one, and a heartbeat a
product and second says the newest of them. Source: the venue's pages, as SOURCES.md beside the fixtures names them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, Id
from collectors.adapters.subscribing import SUBSCRIBE
from collectors.exchanges.coinbase import wire

BEAT = "heartbeat"
RENAMED = {"level2_50": "level2_batch"}
"""What answers call a channel -> what it is asked for as (recorded on the wire; the venue's pages show one name)."""
LAST_MATCH = "last_match"
BOOK_SIDES = {"buy": 0, "sell": 1}
TAKER = {"buy": "sell", "sell": "buy"}
"""The venue says the side of the maker."""
OTHERS = frozenset((
    "status", "received", "open", "done", "change", "activate", "auction", "rfq_match", "level3", "noop",
))  # fmt: skip
"""Documented types of messages that are collected under no kind."""


class Match(msgspec.Struct, gc=False):
    """`matches`: one fill; `last_match` is the newest one before the subscription."""

    type: str
    trade_id: Id
    side: str
    size: str
    price: str
    product_id: str
    time: str


class Ticker(msgspec.Struct, gc=False):
    """`ticker`: the best levels at a trade. Before 2022 it said no sizes."""

    product_id: str
    sequence: Id
    time: str
    best_bid: str
    best_ask: str
    best_bid_size: str = ""
    best_ask_size: str = ""


class Whole(msgspec.Struct, gc=False, tag_field="type", tag="snapshot"):
    """`snapshot` of `level2_batch`: levels as [price, size]; the pages show no time."""

    product_id: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    time: str | None = None


class Changes(msgspec.Struct, gc=False, tag_field="type", tag="l2update"):
    """`l2update`: [side, price, size] of each level that changed, absolute."""

    product_id: str
    changes: list[tuple[str, str, str]]
    time: str


class Beat(msgspec.Struct, gc=False):
    """`heartbeat` of one product."""

    product_id: str
    last_trade_id: Id
    time: str


class _Held(msgspec.Struct):
    name: str
    product_ids: list[str] = []


class _Answer(msgspec.Struct):
    channels: list[_Held]


class _Command(msgspec.Struct):
    """A frame of ours to either feed, as a recording has it."""

    type: str
    channel: str | None = None
    channels: list[str | _Held] = []
    product_ids: list[str] = []


match = msgspec.json.Decoder(Match).decode
ticker = msgspec.json.Decoder(Ticker).decode
book = msgspec.json.Decoder(Whole | Changes).decode
beat = msgspec.json.Decoder(Beat).decode
_answer = msgspec.json.Decoder(_Answer).decode
_command = msgspec.json.Decoder(_Command).decode


def request(what: str, channel: str, symbols: Sequence[str]) -> str:
    """The request for one channel; the products' heartbeats come with it, and stay where it is renewed."""
    names = [channel.removeprefix(wire.EXCHANGE), *([BEAT] if what == SUBSCRIBE else [])]
    return msgspec.json.encode({"type": what, "product_ids": symbols, "channels": names}).decode()


def held(frame: bytes) -> set[str]:
    """Names of the streams that an answer lists. Raises BAD_FRAME."""
    return {f"{_named(one.name)}:{name}" for one in _answer(frame).channels for name in one.product_ids}


def asked(text: str) -> tuple[str, list[tuple[str, str]]] | None:
    """(type, (channel, product) of each stream) of a request to either feed; None for what is none."""
    try:
        found = _command(text)
    except BAD_FRAME:
        return None
    if found.channel is not None:
        return found.type, [(found.channel, one) for one in found.product_ids]
    named = [one if isinstance(one, _Held) else _Held(one) for one in found.channels]
    pairs = [(one.name, name) for one in named for name in one.product_ids or found.product_ids]
    return found.type, [(_named(name), one) for name, one in pairs if name != BEAT]


def _named(channel: str) -> str:
    """Our name of a channel."""
    return wire.EXCHANGE + RENAMED.get(channel, channel)
