"""Which files of the lake held what a set was computed on, when that was read."""

from __future__ import annotations

from collections.abc import Iterable

from lake.asking import bar_kind
from lake.errors import WrongQuestion
from lake.manifest import Manifest
from lake.rows import FileRow
from market.kinds import kind
from market.times import Interval


def stored_kind(name: str) -> str:
    """The stored kind that a kind is read from: bars of other widths are folded. Raises UnknownKind, WrongQuestion."""
    bar = bar_kind(name)
    return kind(bar.stored if bar is not None else name).name


def inputs(
    manifest: Manifest, market: tuple[str, str, str], kinds: Iterable[str], span: Interval, as_of: int
) -> dict[str, str]:
    """Path to SHA-256 of the files that were current at `as_of` (us) and may hold rows of `span` (us).

    `market` is (exchange, market_type, symbol). Raises WrongQuestion for a kind of which nothing is stored there.
    """
    exchange, market_type, symbol = market
    found: dict[str, str] = {}
    for name in dict.fromkeys(stored_kind(one) for one in kinds):
        rows = manifest.files(name, exchange=exchange, market_type=market_type, symbol=symbol, state=None)
        held = {row.path: row.sha256 for row in rows if _current(row, as_of) and _touches(row, span)}
        if not held:
            raise WrongQuestion(
                f"no {name} of {exchange} {market_type} {symbol} was stored for the time of this set",
                "leave --computed-on away for values of other data; dl ls says what is stored",
            )
        found |= held
    return found


def _current(row: FileRow, at: int) -> bool:
    return row.created_at <= at and (row.retired_at is None or row.retired_at > at)


def _touches(row: FileRow, span: Interval) -> bool:
    return row.ts_min < span.end and row.ts_max >= span.start
