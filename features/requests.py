"""What is asked of the feature store, and what came of it; limits of what it takes."""

from __future__ import annotations

from typing import Literal

import msgspec

from lake.errors import WrongQuestion
from lake.feature_rows import FIRST, FeatureRow

Missing = Literal["refuse", "null"]


class VersionExists(WrongQuestion):
    """That version holds other values already: a version never changes."""


class Put(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One version to be taken in.

    `time` names the column of a row's own time (None: the first of `TIME_NAMES` that is there). A row is known from
    its own time on, or `delay` us later, or from what the column `known` says. `computed_on` names kinds of this lake,
    `as_of` (us) when they were read (None: now), `lookback` how many us before its first row the values reach back.
    `missing` "null" takes NaN, infinities and words for nothing as no value; `sort` puts rows in order.
    """

    exchange: str
    market_type: str
    symbol: str
    feature_set: str
    version: str = FIRST
    time: str | None = None
    known: str | None = None
    delay: int = 0
    computed_on: tuple[str, ...] = ()
    as_of: int | None = None
    lookback: int = 0
    note: str = ""
    missing: Missing = "refuse"
    sort: bool = False


class Done(msgspec.Struct, kw_only=True):
    """What came of it: versions as they are now. `changed` is False where all was so already, or for a dry run.

    `hints` are sentences for a person.
    """

    rows: list[FeatureRow]
    changed: bool
    latest: str | None = None
    hints: list[str] = []


class Limits(msgspec.Struct, frozen=True):
    """Of one version."""

    rows: int = 500_000_000
    columns: int = 1_000
    sorted_rows: int = 20_000_000
    sorted_bytes: int = 256 << 20
    """That are put in order (`sort`): all of them are held in memory for it, twice."""
    line_bytes: int = 1 << 20
    """Of one line of a CSV."""
    note: int = 2_000
    """Characters."""


LIMITS = Limits()
