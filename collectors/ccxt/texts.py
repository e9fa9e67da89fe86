"""ccxt's structures as frames: numbers with the digits that the venue sent. Pure.

ccxt is told to leave numbers as texts. Where it has to compare them (books, candles) they are `Exact`, a float that
remembers its text. Where ccxt computed a number itself, or the venue's JSON had one and no text, its shortest spelling
is all that is left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Self

import msgspec

from market.numbers import is_decimal

LONGEST = 64
"""Digits of a number, at most; no venue has longer ones."""


class Exact(float):
    """A float that knows the text it was made from."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, value: Any) -> Self:
        made = super().__new__(cls, value)
        made.text = value if isinstance(value, str) else value.text if isinstance(value, Exact) else repr(float(value))
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:  # a copy has the text too
        return (self.text,)


def text(value: Any) -> str | None:
    """A number of ccxt's as plain decimal text; None for what is none (null, NaN, words)."""
    if value is None or isinstance(value, bool):
        return None
    said = value.text if isinstance(value, Exact) else value if isinstance(value, str) else repr(value)
    if is_decimal(said):
        return said
    try:
        number = Decimal(said)
    except (InvalidOperation, ValueError):
        return None
    if not number.is_finite() or number.adjusted() > LONGEST or -int(number.as_tuple().exponent) > LONGEST:
        return None
    plain = format(number, "f")
    return plain if is_decimal(plain) else None


def whole(value: Any) -> int | None:
    """A whole number of ccxt's (milliseconds, a nonce); None for what is none."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and math.isnan(value))
    ):
        return None
    return int(value) if math.isfinite(value) and int(value) == value else None


def word(value: Any) -> str | None:
    """A name as text: venues' ids are numbers as often as not."""
    return None if value is None or isinstance(value, dict | list) else str(value)


FIELDS: Mapping[str, Mapping[str, Any]] = {
    "watchTrades": {"id": word, "timestamp": whole, "side": word, "price": text, "amount": text},
    "watchBidsAsks": {"timestamp": whole, "bid": text, "bidVolume": text, "ask": text, "askVolume": text},
    "watchTicker": {"timestamp": whole, "bid": text, "bidVolume": text, "ask": text, "askVolume": text},
    "watchLiquidations": {"timestamp": whole, "side": word, "price": text, "contracts": text},
    "watchMarkPrice": {"timestamp": whole, "markPrice": text, "indexPrice": text},
    "fetchOpenInterest": {"timestamp": whole, "openInterestAmount": text, "openInterestValue": text},
    "fetchTrades": {"id": word, "timestamp": whole, "side": word, "price": text, "amount": text},
    "fetchOpenInterestHistory": {"timestamp": whole, "openInterestAmount": text, "openInterestValue": text},
    "fetchFundingRateHistory": {"timestamp": whole, "fundingRate": text},
}
"""Method -> the fields of ccxt's structure that rows are made of, and how each is told."""


def told(method: str, structure: Any) -> dict[str, Any] | None:
    """One item of a frame; None where ccxt gave no structure at all (an HTML page makes it give rows of None)."""
    if not isinstance(structure, Mapping):
        return None
    parsed = {name: say(structure.get(name)) for name, say in FIELDS[method].items()}
    return {"parsed": parsed, "info": structure.get("info")}


def told_book(book: Mapping[str, Any], levels: int) -> dict[str, Any]:
    """A book of at most so many levels a side. ccxt keeps it, so that there are no words of the venue."""
    sides = {name: _levels(book.get(name) or (), levels) for name in ("bids", "asks")}
    return {"parsed": {**sides, "timestamp": whole(book.get("timestamp")), "nonce": whole(book.get("nonce"))}}


def _levels(side: Iterable[Any], levels: int) -> list[list[str | None]]:
    found: list[list[str | None]] = []
    for level in side:
        if len(found) == levels:
            break
        found.append([text(level[0]), text(level[1])])
    return found


def told_candle(candle: Any) -> dict[str, Any] | None:
    """A candle: [time, open, high, low, close, volume]."""
    if not isinstance(candle, list | tuple) or len(candle) < 6:
        return None
    return {"parsed": [whole(candle[0]), *(text(value) for value in candle[1:6])]}


def told_market(market: Mapping[str, Any]) -> dict[str, Any]:
    """An instrument. Steps are ccxt's tick sizes; where it counts digits instead, they are left out."""
    precision = market.get("precision") or {}
    names = ("id", "symbol", "type", "base", "quote", "settle")
    parsed = {
        **{name: word(market.get(name)) for name in names},
        **{name: market.get(name) if isinstance(market.get(name), bool) else None
           for name in ("active", "linear", "inverse")},
        "contractSize": text(market.get("contractSize")),
        "tick": text(precision.get("price")),
        "lot": text(precision.get("amount")),
        "expiry": whole(market.get("expiry")),
        "created": whole(market.get("created")),
    }  # fmt: skip
    return {"parsed": parsed, "info": market.get("info")}


def encode(frame: Mapping[str, Any]) -> bytes:
    """A frame as bytes. `info` is whatever a venue sent: what JSON has no word for becomes text."""
    try:
        return msgspec.json.encode(frame, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeEncodeError):
        text = json.dumps(frame, default=str, separators=(",", ":"), ensure_ascii=False, skipkeys=True)
        return text.encode(errors="replace")


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, Exact) else str(value)
