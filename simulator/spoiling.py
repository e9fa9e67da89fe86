"""Messages with one thing wrong: a price that is no number, or times in another unit or of another age.

A twin says where its messages have prices and times; the forms are the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable

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
"""Form -> JSON text in place of a price that is a text."""
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
Place = re.Pattern[str]
"""What comes before a price or a time is its first group, which stays."""
LEVEL: Place = re.compile(r'(\[\[)"[^"]*"')
"""The price of the first level of a side."""


def field(name: str) -> Place:
    """A text under that name."""
    return re.compile(rf'("{name}":)"[^"]*"')


def spoiled(payload: str, fault: str, form: str, price: Place | None, time: Place | None) -> str | None:
    """The first price (`bad_price`) or every time (`bad_time`, its ms the second group) in that form; None where the
    message has none.
    """
    if fault == "bad_time":
        return None if time is None else retimed(payload, time, TIMES[form])
    return None if price is None else replaced(payload, price, PRICES[form], once=True)


def retimed(payload: str, time: Place, change: Callable[[int], int]) -> str | None:
    """Every time (the second group) changed."""
    found, count = time.subn(lambda m: f"{m[1]}{change(int(m[2]))}", payload)
    return found if count else None


def replaced(payload: str, place: Place, text: str, *, once: bool = False) -> str | None:
    """That text in every such place, or in the first."""
    found, count = place.subn(lambda m: m[1] + text, payload, count=int(once))
    return found if count else None
