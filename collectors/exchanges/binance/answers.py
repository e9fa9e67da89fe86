"""What an HTTP answer of Binance that is no data says, and how patiently to ask again. Pure.

Status 429 and 418, 5xx, HTML with status 200 and bodies that end early are never data. A refusal is the venue's word
on the request itself (an unknown symbol): asking the same again soon changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collectors.exchanges.binance import wire
from market.times import HOUR, SECOND

FIRST_PAUSE = 5 * SECOND
LONGEST_PAUSE = 300 * SECOND
REFUSED_PAUSE = HOUR
"""Until what was refused is asked for again: a symbol may be listed later."""
LONGEST_BAN = 3 * 24 * HOUR
BANNED, LIMITED = 418, 429
INVALID_SYMBOL = -1121
_PASSING = (-1003, -1007, -1008, -1016)
"""Codes that say nothing of the request: too many of them, timeout, overloaded, maintenance."""
_BLOCKED = (403, 408, BANNED, LIMITED, 451)


class Failure(msgspec.Struct, frozen=True):
    """An answer with another status than 200. `pause` (us) is what the venue asked for, where it did."""

    reason: str
    code: int | None = None
    refused: bool = False
    pause: int | None = None

    @property
    def limited(self) -> bool:
        """Whether the venue asked for silence."""
        return self.pause is not None


def failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an answer says that has no data; status 0 is no answer at all."""
    try:
        problem = wire.problem(body)
    except wire.BAD_FRAME:
        problem = None
    code = problem.code if problem is not None else None
    said = f" {problem.code}: {problem.msg}" if problem is not None else ""
    refused = 400 <= status < 500 and status not in _BLOCKED and code is not None and code not in _PASSING
    reason = f"status {status}{said}" if status else "no answer"
    asked = seconds(header(headers, "retry-after")) if status in (LIMITED, BANNED) else None
    pause = None if status not in (LIMITED, BANNED) else asked or 0
    return Failure(reason[:300], code, refused, pause)


def longer(pause: int) -> int:
    """The pause after one that did not help."""
    return min(pause * 2, LONGEST_PAUSE)


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The value of a header whose name is given in lower case."""
    return next((value for key, value in headers.items() if key.lower() == name), None)


def seconds(text: str | None) -> int | None:
    """Retry-After in us where it is a number of seconds; bounded by the longest ban that the venue names."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return min(int(text) * SECOND, LONGEST_BAN)
