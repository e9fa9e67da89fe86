"""Rows of the feature store: one version of a set of values that somebody else computed for one symbol. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from lake.errors import WrongQuestion

OWN_TIME = "ts_event"
KNOWN_AT = "known_at"
"""The columns that every stored set begins with: a row's own time, and since when it is known (us UTC)."""
LATEST = "latest"
FIRST = "1.0.0"
FeatureState = Literal["live", "deleted"]
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
MAX_NAME = 64


class FeatureRow(msgspec.Struct, kw_only=True):
    """One version of a feature set, and the file that holds it. A version never changes: other values are another one.

    `columns` names the values' types. `known` says how `known_at` came about: `own time`, `own time + 60s`, or
    `column NAME`. `computed_on` are kinds of this lake, `as_of` (us) when they were read, `inputs` the files that held
    them then (path to SHA-256). `latest_at` is when this version became what `latest` means, 0 for never; of the live
    versions the one with the greatest is the latest. A deleted version keeps its row: it is never used for others.
    """

    feature_id: str
    exchange: str
    market_type: str
    symbol: str
    feature_set: str
    version: str
    path: str
    rows: int
    bytes: int
    sha256: str
    content_digest: str
    ts_min: int
    ts_max: int
    columns: dict[str, str]
    known: str
    computed_on: tuple[str, ...] = ()
    as_of: int | None = None
    inputs: dict[str, str] = {}
    note: str = ""
    created_at: int = 0
    latest_at: int = 0
    state: FeatureState = "live"
    deleted_at: int | None = None

    @property
    def owner(self) -> tuple[str, str, str, str]:
        """Whose versions follow each other: (exchange, market_type, symbol, feature_set)."""
        return self.exchange, self.market_type, self.symbol, self.feature_set


def check_name(feature_set: str) -> str:
    """The name of a set, in small letters. Raises WrongQuestion."""
    if not isinstance(feature_set, str):
        raise WrongQuestion(f"feature_set={feature_set!r} is no name", "a name is a text")
    name = feature_set.strip().lower()
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise WrongQuestion(
            f"{feature_set[:80]!r} cannot name a feature set",
            f"use at most {MAX_NAME} letters and digits, joined by single _ or -, a letter first: momentum_1h",
        )
    return name


def version_key(version: str) -> tuple[int, int, int]:
    """1.10.0 is behind 1.9.0. Raises WrongQuestion for what is no version."""
    if not isinstance(version, str):
        raise WrongQuestion(f"version={version!r} is no version", "it is a text: 1.0.0, latest")
    match = _VERSION.fullmatch(version)
    if match is None:
        raise WrongQuestion(f"{version[:40]!r} is no version", "use three numbers: 1.0.0, 1.0.1")
    return int(match[1]), int(match[2]), int(match[3])


def next_version(versions: Iterable[str]) -> str:
    """What comes behind the greatest of them; FIRST where there is none."""
    keys = [version_key(one) for one in versions]
    if not keys:
        return FIRST
    major, minor, patch = max(keys)
    return f"{major}.{minor}.{patch + 1}"


def id_of(exchange: str, market_type: str, symbol: str, feature_set: str, version: str) -> str:
    """The id of a version: it follows from the names, so that a manifest made anew has the same."""
    said = f"{exchange}\n{market_type}\n{symbol}\n{feature_set}\n{version}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def latest(rows: Iterable[FeatureRow]) -> FeatureRow | None:
    """Of the versions of one set the live one that `latest` means."""
    live = [row for row in rows if row.state == "live"]
    return max(live, key=lambda row: (row.latest_at, version_key(row.version)), default=None)
