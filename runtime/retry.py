"""Retry delays as a value: capped exponential backoff with full jitter. Pure: randomness is a function passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def backoff(
    random: Callable[[], float], *, first: float = 1.0, cap: float = 60.0, floor: float = 0.0
) -> Iterator[float]:
    """Endless delays in seconds: the n-th lies in [floor, min(cap, first * 2 ** n)], spread by `random` in [0, 1).

    Full jitter, because a venue that drops a thousand clients at once would otherwise meet them all again at once.
    It never gives up: whoever must stop does so by no longer asking. Start a new generator after a success.
    """
    if not 0 < first <= cap or not 0 <= floor <= cap:
        raise ValueError(f"backoff needs 0 < first <= cap, floor <= cap: {first=} {cap=} {floor=}")
    ceiling = first
    while True:
        yield max(floor, random() * ceiling)
        ceiling = min(cap, ceiling * 2)
