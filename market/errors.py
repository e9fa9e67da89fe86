"""Errors of the market package.

MarketError
 +-- UnknownKind        a data kind that is not declared in market.kinds
 +-- Malformed          a value or message that does not say what its specification says
"""

from __future__ import annotations

from collections.abc import Mapping


class MarketError(Exception):
    """Root of this package's errors. They can be pickled, whatever their constructor takes: workers raise them too."""

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[MarketError], args: tuple[object, ...], fields: Mapping[str, object]) -> MarketError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


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
