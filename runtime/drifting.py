"""What the process says of venues that change: messages that look otherwise, and what is to end.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime.saying import say

WORDS = {
    "added": "has a field that the adapter does not know",
    "missing": "lacks a field that it had",
    "type": "has another type in a field",
    "unit": "has another unit or scale in a field",
    "message": "is of no type that the adapter knows",
}


def drift(*, exchange: str, market_type: str, message: str, change: str, path: str, detail: str, as_of: str) -> None:
    """A venue's messages look otherwise than the adapter says: said once for each change, and counted on. Messages are
    read as before; whether something is missing now is for a person to see: `dl probe` says what else has changed.
    """
    what = f" ({path}{': ' if path and detail else ''}{detail})" if path or detail else ""
    text = f"{exchange} {market_type} {message} {WORDS[change]}{what}, as of {as_of}"
    say("WARNING", "drift", text, exchange=exchange, market_type=market_type, change=change, path=path)


def ending(*, exchange: str, market_type: str, text: str) -> None:
    """Something that is configured is gone at the venue, or will be within 30 days."""
    say("WARNING", "ending", f"{exchange} {market_type}: {text}", exchange=exchange, market_type=market_type)
