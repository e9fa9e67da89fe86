"""Doubts: where a session came in ahead of those that were there, which have yet to come so far. Pure."""

from __future__ import annotations

DOUBTS = 64  # remembered a symbol


class Doubt:
    """A session came in ahead of others: between `ts_from` and its first event at `ts_to` (us), which has the number
    `at`, nothing is missing once one of the `provers`, who were there before, has come that far.
    """

    __slots__ = ("at", "provers", "ts_from", "ts_to")

    def __init__(self, at: int, ts_from: int, ts_to: int, provers: set[str]) -> None:
        self.at, self.ts_from, self.ts_to, self.provers = at, ts_from, ts_to, provers
