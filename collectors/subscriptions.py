"""Subscription planning: which streams share a connection, how many names a request carries, and how fast to ask.

Pure. The venue's limits are `market.session.Limits`; the adapter names the streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from market.session import Stream
from market.times import SECOND


def groups(streams: Iterable[Stream], size: int) -> list[tuple[Stream, ...]]:
    """Streams a connection: at most `size` each, as equal as can be, the streams of one symbol together where they fit.

    The order is by symbol, then name, so that the same configuration always gives the same groups: names of
    connections stay what they were, and a symbol's untimed quotes lie beside its timed trades.
    """
    if size < 1:
        msg = f"streams a connection must be at least 1, not {size}"
        raise ValueError(msg)
    symbols: dict[str, list[Stream]] = {}
    for stream in sorted(set(streams), key=lambda s: (s.symbol, s.name)):
        symbols.setdefault(stream.symbol, []).append(stream)
    total = sum(len(held) for held in symbols.values())
    if not total:
        return []
    target = -(-total // -(-total // size))
    found: list[list[Stream]] = [[]]
    for held in symbols.values():
        for chunk in batches(held, size):
            if found[-1] and (len(found[-1]) + len(chunk) > size or len(found[-1]) >= target):
                found.append([])
            found[-1].extend(chunk)
    return [tuple(group) for group in found]


def batches(streams: Sequence[Stream], size: int) -> list[tuple[Stream, ...]]:
    """`streams` in requests of at most `size` names."""
    return [tuple(streams[i : i + size]) for i in range(0, len(streams), size)]


class Pacer:
    """Spaces requests evenly: never more than the venue's rate, with no burst after a pause."""

    def __init__(self, per_second: float) -> None:
        self._interval = round(SECOND / per_second)
        self.next_at = 0
        """The earliest time (us) of the next request."""

    def take(self, now: int) -> bool:
        """Whether a request may go out at `now`; if so it is counted."""
        if now < self.next_at:
            return False
        self.next_at = now + self._interval
        return True
