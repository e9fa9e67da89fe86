"""Binance's messages with one thing wrong: a price that is no number, or times in another unit or of another age."""

from __future__ import annotations

import re
from collections.abc import Callable

from simulator.events import Aggregate, Delta, Event, Fill, Forced, Kline, Mark, Partial, Top

_NAMED = {Fill: "p", Aggregate: "p", Top: "b", Mark: "p", Forced: "p", Kline: "c"}
_LEVEL = re.compile(r'(\[\[)"[^"]*"')
_TIMED = (Fill, Aggregate, Top, Delta, Forced)
_TIME = re.compile(r'("[ET]":)(\d+)')
PRICES: dict[str, str] = {
    "nan": '"NaN"',
    "bare_nan": "NaN",
    "inf": '"inf"',
    "underscore": '"1_000"',
    "arabic": '"\u0661\u0662\u0663"',
    "exponent": '"1e400"',
    "negative": '"-1.5"',
    "zero": '"0"',
    "digits": f'"{"1234567890" * 4}"',
}
"""Form -> JSON text in place of a price."""
TIMES: dict[str, Callable[[int], int]] = {
    "zero": lambda _: 0,
    "epoch": lambda _: 86_400_000,
    "year_3000": lambda _: 32_503_680_000_000,
    "seconds": lambda ms: ms // 1000,
    "micro": lambda ms: ms * 1000,
    "nano": lambda ms: ms * 1_000_000,
    "negative": lambda ms: -ms,
}
"""Form -> what becomes of a time in ms."""


def spoiled(event: Event, payload: str, fault: str, form: str) -> str | None:
    """`payload` with a price (`bad_price`) or its times (`bad_time`) in that form; None where it has none."""
    if fault == "bad_time":
        found, count = _TIME.subn(lambda m: f"{m[1]}{TIMES[form](int(m[2]))}", payload)
        return found if count and isinstance(event, _TIMED) else None
    if isinstance(event, Delta | Partial):
        found, count = _LEVEL.subn(lambda m: m[1] + PRICES[form], payload, count=1)
        return found if count else None
    name = _NAMED.get(type(event))
    if name is None:
        return None
    found, count = re.subn(rf'("{name}":)"[^"]*"', lambda m: m[1] + PRICES[form], payload, count=1)
    return found if count else None
