"""How Kraken's numbers and times are read: JSON numbers as the texts that they are, RFC 3339 as us. Pure.

Spot and futures write prices and quantities as JSON numbers. Their texts are kept digit by digit; one with an exponent
(`1e-08`) is written out.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from functools import lru_cache

import msgspec

from collectors.adapters.reading import NUMBER
from collectors.adapters.streaming import StreamingSession
from market.session import StreamState
from market.times import DAY, MINUTE, SECOND

PLACES = 18
"""Decimals that a price or quantity may have, so that it is a whole number of 10^-18."""
_EXPONENT = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?[eE][+-]?[0-9]{1,2}", re.ASCII).fullmatch
_SIGNED = re.compile(r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?", re.ASCII).fullmatch
_PLAIN = re.compile(rb"(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,%d})?" % PLACES).fullmatch
"""What nearly all of them are: nothing is to be asked of them any more."""
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-2][0-9]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,9}))?Z", re.ASCII
).fullmatch
_EPOCH = dt.date(1970, 1, 1).toordinal()


def signed(raw: msgspec.Raw) -> str | None:
    """A number of either sign as strict decimal text; None where it is none."""
    text = bytes(raw).decode("ascii", "replace")
    if _SIGNED(text) is not None:
        return text
    if _EXPONENT(text) is None:
        return None
    made = format(Decimal(text), "f")
    return made if _SIGNED(made) is not None else None


def number(raw: msgspec.Raw) -> str | None:
    """A price or quantity as strict decimal text; None where it is none, or not to be counted in PLACES."""
    plain = bytes(raw)
    if _PLAIN(plain) is not None:
        return plain.decode()
    text = signed(raw)
    if text is None or NUMBER(text) is None:
        return None
    point = text.find(".")
    return text if point < 0 or len(text) - point - 1 <= PLACES else None


def units(text: str) -> int:
    """The number as a whole number of 10^-PLACES."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(PLACES, "0"))


@lru_cache(maxsize=64)
def _day(text: str) -> int | None:
    try:
        return (dt.date.fromisoformat(text).toordinal() - _EPOCH) * DAY
    except ValueError:
        return None


def time(text: str | None) -> int | None:
    """RFC 3339 as us, finer digits cut off; None where it is none."""
    found = None if text is None else _TIME(text)
    if found is None:
        return None
    day, hours, minutes, seconds, fraction = found.groups()
    start = _day(day)
    if start is None or hours > "23":
        return None
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    return start + int(hours) * 60 * MINUTE + int(minutes) * MINUTE + int(seconds) * SECOND + micros


def written(time: int) -> str:
    """A time (us) as RFC 3339 with microseconds."""
    return dt.datetime.fromtimestamp(time // SECOND, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time % SECOND:06d}Z"


def heard_past(session: StreamingSession, state: StreamState, ts_recv: int, time: int) -> None:
    """What was told on subscribing was heard: it was before the stream began, so that coverage begins behind it."""
    first = not state.events or state.first_recv == ts_recv
    session.heard(state, ts_recv, max(session.venue_time, time))
    if first:
        state.first_event = max(state.first_event, session.venue_time)
