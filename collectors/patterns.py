"""Symbols by pattern: which of a venue's instruments `*USDT` and `!USDCUSDT` mean, now and after listings and ends.

Pure. A pattern begins with an instrument that trades and goes on with it through a pause, until it is over: a venue
that halts for maintenance must not lose the first minutes after it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

import msgspec

WILD = frozenset("*?")
EXCLUDING = "!"


class Resolved(msgspec.Struct, frozen=True):
    """`symbols` in the venue's spelling: those given by name in their order, then those found, sorted."""

    symbols: tuple[str, ...]
    unmatched: tuple[str, ...] = ()
    """Patterns that mean none of the instruments."""


def is_pattern(entry: str) -> bool:
    """Whether an entry of `symbols` has to be resolved against the venue's instruments."""
    return entry.startswith(EXCLUDING) or not WILD.isdisjoint(entry)


def has_patterns(entries: Iterable[str]) -> bool:
    return any(map(is_pattern, entries))


def problem(entries: Collection[str]) -> str | None:
    """What is wrong with the entries together, in words; None where nothing is."""
    excluding = [entry for entry in entries if entry.startswith(EXCLUDING)]
    if EXCLUDING in excluding:
        return f"{EXCLUDING!r} excludes nothing: name a symbol behind it"
    if excluding and all(entry.startswith(EXCLUDING) or not is_pattern(entry) for entry in entries):
        return f"{excluding[0]!r} excludes from a pattern, and there is none: give one, e.g. '*'"
    for entry in excluding:
        if entry[1:] in entries:
            return f"{entry[1:]!r} is both listed and excluded"
    return None


def resolve(
    entries: Iterable[str],
    known: Mapping[str, str],
    trading: Collection[str],
    ended: Collection[str],
    held: Collection[str] = (),
) -> Resolved:
    """The symbols that `entries` mean among `known` (symbol -> status).

    `trading` are the statuses at which a symbol is begun, `ended` those at which it is over; a symbol of `held`
    (collected now) stays in between. What is not in `known` is over too. A name without a pattern is taken as given
    until the venue says that it is over: from then on its silence is no loss.
    """
    named: list[str] = []
    wanted: list[str] = []
    excluded: list[re.Pattern[str]] = []
    for entry in entries:
        if entry.startswith(EXCLUDING):
            excluded.append(_compiled(entry[1:]))
        elif is_pattern(entry):
            wanted.append(entry)
        elif known.get(entry) not in ended:
            named.append(entry)
    holding = set(held)
    live = {
        symbol
        for symbol, status in known.items()
        if status in trading or (symbol in holding and status not in ended)
    }  # fmt: skip
    found: set[str] = set()
    unmatched = []
    for pattern in wanted:
        match = _compiled(pattern).fullmatch
        matching = {symbol for symbol in live if match(symbol)}
        if not matching:
            unmatched.append(pattern)
        found |= matching
    found = {symbol for symbol in found if not any(each.fullmatch(symbol) for each in excluded)}
    return Resolved((*named, *sorted(found.difference(named))), tuple(unmatched))


def _compiled(pattern: str) -> re.Pattern[str]:
    """`*` is any text, `?` any character, everything else itself; upper and lower case are the same."""
    text = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.compile(text, re.IGNORECASE | re.DOTALL)
