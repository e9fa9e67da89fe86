"""What the process says when what it collects changes: a reload, and listings that a pattern follows.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.saying import say, some


def reloaded(*, added: int, removed: int, connections: int, restart: Sequence[str]) -> None:
    """The configuration was read again and what changed of the sources is in force; `restart` names what is not."""
    text = f"{added} streams added, {removed} removed, {connections} connections changed"
    later = f"; needs a restart: {some(restart)}" if restart else ""
    say("WARNING" if restart else "INFO", "reloaded", text + later, added=added, removed=removed)


def reload_refused(*, reason: str) -> None:
    """The configuration was read again and is wrong: all of it is refused, what runs goes on."""
    say("ERROR", "reload_refused", f"nothing changes: {reason}")


def listings_followed(*, exchange: str, market_type: str, begun: Sequence[str], ended: Sequence[str]) -> None:
    """Instruments were listed that patterns mean, or some that are collected have ended: what is collected follows."""
    parts = [f"{word} {some(symbols)}" for word, symbols in (("begins", begun), ("ends", ended)) if symbols]
    text = f"{exchange} {market_type}: {', '.join(parts)}"
    say("INFO", "listings_followed", text, exchange=exchange, market_type=market_type)


def listings_refused(*, reason: str) -> None:
    """The instruments that patterns mean are too many: what runs goes on as it is."""
    say("ERROR", "listings_refused", f"what runs goes on: {reason}", quiet=("listings_refused",))


def pattern_unmatched(*, exchange: str, market_type: str, pattern: str) -> None:
    """No instrument that trades is meant by a pattern of symbols."""
    text = f"{exchange} {market_type}: {pattern!r} matches nothing that trades"
    say("WARNING", "pattern_unmatched", text, exchange=exchange, market_type=market_type, pattern=pattern)


def listings_awaited(*, exchange: str, market_type: str, patterns: Sequence[str], seconds: float) -> None:
    """Patterns cannot be resolved before the venue gives its instruments: nothing is collected of them yet."""
    text = f"{exchange} {market_type}: {some(patterns)} waits for the venue's instruments"
    since = f", {seconds:.0f} s by now" if seconds >= 1 else ""
    level = "WARNING" if seconds >= 1 else "INFO"
    say(level, "listings_awaited", text + since, exchange=exchange, market_type=market_type)


def listings_remembered(*, exchange: str, market_type: str, symbols: int) -> None:
    """The venue does not give its instruments: patterns mean those that the lake knows, until it does."""
    text = f"{exchange} {market_type}: the venue does not answer; {symbols:,} instruments as the lake knows them"
    say("WARNING", "listings_remembered", text, exchange=exchange, market_type=market_type)
