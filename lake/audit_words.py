"""What a difference between the lake and the venue's own word may be, in one word each. Pure."""

from __future__ import annotations

import msgspec

from market.times import text

VENUE_REVISION, ROUNDING, MISSING_ID, NOT_COLLECTED = "venue_revision", "rounding", "missing_id", "not_collected"
OFF_BOOK, LATE_PRINT, FILLED, UNEXPLAINED = "off_book", "late_print", "filled", "unexplained"
EXTRA_ID, CHANGED, UNNOTICED = "extra_id", "changed", "unnoticed_id"
OPEN = frozenset({UNEXPLAINED, EXTRA_ID, CHANGED, UNNOTICED})
"""Sorts of difference that keep a day from being verified."""
MEANING = {
    VENUE_REVISION: "the venue said what we have, and changed it later",
    ROUNDING: "a sum of products that the venue rounds",
    MISSING_ID: "a gap says that it is missing",
    NOT_COLLECTED: "not collected at that time",
    OFF_BOOK: "trades outside of the book are in one of the two",
    LATE_PRINT: "the venue counts the same trades in the window beside it",
    FILLED: "the venue's list itself brought it in",
    EXTRA_ID: "we have an id that the venue's list has not",
    CHANGED: "one id, other values",
    UNNOTICED: "an id is missing, and no gap says so",
    UNEXPLAINED: "nothing here explains it",
}


class Difference(msgspec.Struct, frozen=True):
    """One window, id or book that is not the same at a time (us): which sort it is (`what`), and both sides' values."""

    what: str
    at: int
    detail: str

    @property
    def explained(self) -> bool:
        return self.what not in OPEN

    @property
    def place(self) -> str:
        return f"{text(self.at)}: {self.detail}"
