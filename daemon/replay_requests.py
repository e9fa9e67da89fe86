"""What a client of the replay server asks for, as tardis-machine's clients put it; what is not possible is a sentence.

Options come as JSON in the query: {"exchange", "from", "to", "symbols", "dataTypes", "withDisconnectMessages"} or a
list of such for messages, {"exchange", "from", "to", "filters": [{"channel", "symbols"}]} for frames. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from market import times
from market.errors import Malformed
from market.replayed import Filter, wanted
from market.times import DAY, Interval

T = TypeVar("T")
MOST_DAYS = 400
"""Days that one request may ask for."""
MOST_SPEED = 1_000_000.0
MOST_SYMBOLS, MOST_TYPES, MOST_OPTIONS, MOST_FILTERS = 500, 20, 20, 200


class BadRequest(Exception):
    """The client's fault, in one sentence."""


class Channel(msgspec.Struct, frozen=True):
    """A filter as it is written."""

    channel: str
    symbols: list[str] | None = None


class Raw(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to", "with_disconnects": "withDisconnects"}):
    """Options of /replay."""

    exchange: str
    start: str
    end: str
    filters: list[Channel] | None = None
    with_disconnects: bool | None = None


class Normalised(
    msgspec.Struct,
    frozen=True,
    rename={"start": "from", "end": "to", "types": "dataTypes", "with_disconnects": "withDisconnectMessages"},
):
    """Options of /replay-normalized."""

    exchange: str
    start: str
    end: str
    types: list[str]
    symbols: list[str] | None = None
    with_disconnects: bool | None = None


def raw(query: Mapping[str, str]) -> Raw:
    """Raises BadRequest."""
    return _decoded(query, Raw)


def normalised(query: Mapping[str, str]) -> list[Normalised]:
    """Raises BadRequest."""
    text = query.get("options", "").strip()
    asked = _decoded(query, list[Normalised]) if text.startswith("[") else [_decoded(query, Normalised)]
    if not asked or len(asked) > MOST_OPTIONS:
        raise BadRequest(f"{len(asked)} options; 1 to {MOST_OPTIONS} are possible")
    for one in asked:
        if not one.types or len(one.types) > MOST_TYPES or len(one.symbols or ()) > MOST_SYMBOLS:
            raise BadRequest(f"at most {MOST_SYMBOLS} symbols, and 1 to {MOST_TYPES} dataTypes are possible")
    return asked


def _decoded(query: Mapping[str, str], kind: type[T]) -> T:
    if "options" not in query:
        raise BadRequest("the query has no options: ?options=<JSON, URL encoded>")
    try:
        return msgspec.json.decode(query["options"], type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
        raise BadRequest(f"options: {str(error)[:200]}") from error


def span(start: str | None, end: str | None) -> Interval:
    """Raises BadRequest."""
    if not start or not end:
        raise BadRequest("from and to are needed: ISO 8601, UTC")
    try:
        made = Interval(times.parse(start), times.parse(end))
    except (Malformed, OverflowError) as error:
        raise BadRequest(str(error)[:200]) from error
    if made.empty:
        raise BadRequest(f"from ({start}) is not before to ({end})")
    if made.length > MOST_DAYS * DAY:
        raise BadRequest(f"{made.length // DAY} days; one request may ask for {MOST_DAYS}")
    return made


def filters(asked: Raw) -> list[Filter]:
    """Raises BadRequest."""
    held = asked.filters or []
    if len(held) > MOST_FILTERS or any(len(one.symbols or ()) > MOST_SYMBOLS for one in held):
        raise BadRequest(f"at most {MOST_FILTERS} filters of at most {MOST_SYMBOLS} symbols are possible")
    try:
        return [wanted(one.channel, one.symbols or ()) for one in held]
    except Malformed as error:
        raise BadRequest(str(error)[:200]) from error


def speed(query: Mapping[str, str], default: float) -> float:
    """How many times as fast as it happened; 0 is without waiting. Raises BadRequest."""
    text = query.get("speed")
    if text is None:
        return default
    try:
        made = float(text) if len(text) <= 20 and text.isascii() else -1.0
    except ValueError:
        made = -1.0
    if not 0 <= made <= MOST_SPEED:
        raise BadRequest(f"speed is a number from 0 (no waiting) to {MOST_SPEED:,.0f}")
    return made
