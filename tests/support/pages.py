"""Answers to sessions that go through a venue's history page by page."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.paging import Pages
from market.session import Fetch, Output


def told_back(now: int, made: Pages, asked: Fetch, data: bytes, oldest: bytes) -> Sequence[Output]:
    """What comes of a page, and of the question what lies before its oldest row: nothing but that."""
    found = made.respond(asked.tag, 200, {}, data, now)
    if not found and not made.done:
        (again,) = made.tick(now)
        assert isinstance(again, Fetch)
        found = made.respond(again.tag, 200, {}, oldest, now)
    return found
