"""Errors of the market package.

MarketError
 +-- UnknownKind        a data kind that is not declared in market.kinds
 +-- Malformed          a value or message that does not say what its specification says
"""


class MarketError(Exception):
    """Root of this package's errors."""


class UnknownKind(MarketError):
    """A data kind that no one declared; the message lists the declared ones."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown kind {name!r}; known kinds: {', '.join(known)}")
        self.name = name


class Malformed(MarketError):
    """A value that breaks its specification. `what` names it, `value` shows it (shortened)."""

    def __init__(self, what: str, value: object) -> None:
        super().__init__(f"malformed {what}: {str(value)[:200]!r}")
        self.what = what
